"""Runs that are killed, told to stop, starved of disk, damaged or doubled lose nothing."""

import contextlib
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from saved import opened, rows_of, sampled, state_of, steps_of

from glowjax import data
from glowjax.fitting.optim import Optimizer
from glowjax.runs import results, steps, training
from glowjax.runs.checkpoints import METRIC
from glowjax.runs.failed import read_failed
from glowjax.runs.folder import Run
from glowjax.runs.signals import Stopped
from glowjax.runs.sources import load_split
from glowjax.runs.steps import make_trainer, mapped, replicate

# Runs are of float32, and trained ones are shared.
pytestmark = [pytest.mark.float32, pytest.mark.slow, pytest.mark.xdist_group("faults")]

IMAGES = {"image_shape": (4, 4, 1), "levels": 17, "num_classes": 10}
PATIENCE = 1200  # seconds, on a busy machine


@pytest.fixture(scope="module")
def config(config):
    """Rows of the log, evaluations and ends of a run fall on different steps."""
    return dataclasses.replace(config, train_steps=14, log_every=3, evaluate_every=6)


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """They take most of the time of a tiny run, except in processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "pictures", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    training.train(config, folder)
    return folder


@pytest.fixture
def copy(unbroken, tmp_path):
    return shutil.copytree(unbroken, tmp_path / "copy")


def same(a, b):
    return all(
        x.dtype == y.dtype and np.array_equal(x, y)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def assert_as_unbroken(folder, unbroken):
    """The same log, the same last state and the same best one, bit for bit."""
    assert rows_of(folder) == rows_of(unbroken)
    assert same(state_of(folder), state_of(unbroken))
    assert same(state_of(folder, "best"), state_of(unbroken, "best"))


def after_step(monkeypatch, at, act):
    """Calls `act` when step `at` has been dispatched."""
    original = training.mapped

    def patched(trainer):
        on_devices = original(trainer)

        def train_step(state, batch):
            step = int(state.step[0]) + 1
            result = on_devices.train_step(state, batch)
            if step == at:
                act()
            return result

        return on_devices._replace(train_step=train_step)

    monkeypatch.setattr(training, "mapped", patched)


# Killed


def command(config, folder, *options):
    """`glowjax train` of a config in a process of its own."""
    arguments = ["train", str(experiment(config, folder)), "--run-dir", str(folder), *options]
    return python("-m", "glowjax", *arguments)


def experiment(config, folder):
    """A file beside `folder` that defines a config."""
    file = folder.with_suffix(".py")
    file.write_text(
        "from pathlib import Path, PosixPath\n"
        "from glowjax.runs import Config, Data, Glow, Optimizer, Transform\n"
        f"config = {config!r}\n"
    )
    return file


def python(*arguments):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(training.__file__).parents[2]), *sys.path]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as in conftest.py: the same programs
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_a_step(process):
    """Waits until a process has said that it did some steps."""
    for line in process.stdout:
        if line.startswith("step "):
            return
    raise AssertionError(f"ended with {process.wait()}")


def wait_until_it_saves(process, folder):
    """Waits until a checkpoint is being written, or the process has ended."""
    while not saves(folder) and process.poll() is None:
        time.sleep(0.001)


def saves(folder):
    return any((folder / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def finish(process, code=0):
    """What a process printed, which must end with `code`."""
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, printed
    return printed


@pytest.mark.slow
def test_a_run_killed_while_it_saves_and_then_preempted_goes_on_exactly(config, unbroken, tmp_path):
    folder = tmp_path / "killed"
    process = command(config, folder)
    wait_for_a_step(process)
    wait_until_it_saves(process, folder)
    process.kill()
    finish(process, -signal.SIGKILL)

    process = command(config, folder, "--resume")
    wait_for_a_step(process)
    process.terminate()
    printed = finish(process, 143)
    assert "glowjax: stopped by SIGTERM after step " in printed
    assert "which is saved; go on with --resume" in printed
    assert "Traceback" not in printed

    training.train(config, folder, resume=True)
    assert_as_unbroken(folder, unbroken)


@pytest.mark.exhaustive
def test_a_run_killed_at_random_moments_goes_on_exactly(config, tmp_path):
    longer = dataclasses.replace(config, train_steps=120)
    unbroken, folder = tmp_path / "unbroken", tmp_path / "killed"
    training.train(longer, unbroken)
    moments = random.Random(0)
    kills = saving = 0
    for number in range(14):
        process = command(longer, folder, *(["--resume"] if folder.exists() else []))
        wait_for_a_step(process)
        time.sleep(moments.uniform(0, 2))
        if number % 2:
            wait_until_it_saves(process, folder)
            time.sleep(moments.uniform(0, 0.02))
        kills += process.poll() is None
        saving += saves(folder)
        process.kill()
        process.communicate()
    print(f"{kills} kills, {saving} of them during a save; {len(rows_of(folder))} rows")
    assert kills >= 10
    assert saving >= 3
    finish(command(longer, folder, "--resume"))
    assert_as_unbroken(folder, unbroken)


# Told to stop


MORE = [pytest.param(at, marks=pytest.mark.exhaustive) for at in (1, 6, 7, 12, 14)]


@pytest.mark.slow
@pytest.mark.parametrize("at", [5, *MORE], ids="step {}".format)
def test_a_signal_lets_the_step_end_and_saves_it(config, unbroken, tmp_path, monkeypatch, at):
    folder, before = tmp_path / "stopped", signal.getsignal(signal.SIGINT)
    number = signal.SIGTERM if at < 10 else signal.SIGINT
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        after_step(patch, at, lambda: os.kill(os.getpid(), number))
        training.train(config, folder)
    assert stopped.value.signal == number
    assert str(stopped.value).startswith(f"stopped by {number.name} after step {at}, which is sav")
    assert steps_of(folder)[-1] == at
    assert signal.getsignal(signal.SIGINT) is before

    training.train(config, folder, resume=True)
    assert_as_unbroken(folder, unbroken)


@pytest.mark.slow
def test_a_signal_during_the_last_evaluation_counts(config, unbroken, tmp_path, monkeypatch):
    folder, pictures = tmp_path / "stopped", training.pictures

    def told(*arguments):
        if arguments[0].checkpoints.step() == config.train_steps:
            os.kill(os.getpid(), signal.SIGTERM)
        pictures(*arguments)

    monkeypatch.setattr(training, "pictures", told)
    with pytest.raises(Stopped, match=f"after step {config.train_steps}, which is saved"):
        training.train(config, folder)
    monkeypatch.undo()
    training.train(config, folder, resume=True)
    assert_as_unbroken(folder, unbroken)


@pytest.mark.slow
def test_a_start_that_ended_before_its_config_can_be_made_again(config, unbroken, tmp_path):
    folder = tmp_path / "begun"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "lock").write_text("process 1 on another\n")
    training.train(config, folder)
    assert_as_unbroken(folder, unbroken)


def test_a_state_saved_without_validation_is_never_the_best(config, tmp_path):
    state = {"x": np.arange(3.0)}
    with contextlib.closing(Run.create(tmp_path / "run", config, IMAGES, {})) as run:
        for step, bits in enumerate([None, 3.0, None, 4.0, None, None, None], 1):
            run.checkpoints.save(step, state, bits)
            assert run.checkpoints.step("best") == (2 if step > 1 else None)
    assert steps_of(tmp_path / "run") == [2, 6, 7]


def test_a_run_that_was_never_validated_has_no_best(config, tmp_path):
    with contextlib.closing(Run.create(tmp_path / "run", config, IMAGES, {})) as run:
        run.checkpoints.save(1, {"x": np.arange(3.0)})
    with pytest.raises(ValueError, match="has no validated checkpoint yet"):
        results.evaluate(tmp_path / "run")


# Disk full


@contextlib.contextmanager
def file_size_limit(size):
    """As on a full disk: no file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_leaves_the_checkpoint_before(config, tmp_path):
    folder, rng = tmp_path / "run", np.random.default_rng(0)
    states = [{"x": rng.normal(size=100_000)} for _ in range(3)]
    message = r"a checkpoint cannot be written: .*; the checkpoint of step 1 is the last good one"
    with contextlib.closing(Run.create(folder, config, IMAGES, {})) as run:
        run.checkpoints.save(1, states[0], 3.0)
        run.checkpoints.wait()
        with file_size_limit(100_000), pytest.raises(OSError, match=message):
            run.checkpoints.save(2, states[1], 2.0)
            run.checkpoints.wait()
        assert run.checkpoints.step() == run.checkpoints.step("best") == 1
    with contextlib.closing(Run.open(folder)) as run:
        assert same(run.checkpoints.restore(states[0]), states[0])
        run.checkpoints.save(2, states[2], 2.0)
    with contextlib.closing(Run.open(folder, read_only=True)) as run:
        assert same(run.checkpoints.restore(states[0]), states[2])


@pytest.mark.slow
def test_a_log_on_a_full_disk_ends_the_run(config, tmp_path, monkeypatch):
    # Files grow to 1,000 bytes, which TensorBoard's reaches first.
    after_step(monkeypatch, 6, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, full[1])))
    full = resource.getrlimit(resource.RLIMIT_FSIZE)
    talkative = dataclasses.replace(config, log_every=1, evaluate_every=14)
    try:
        with pytest.raises(OSError, match=r"run .* log cannot be written: .*; none is saved"):
            training.train(talkative, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, full)


@pytest.mark.slow
def test_a_picture_on_a_full_disk_ends_the_run(config, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(training, "pictures", full)
    with pytest.raises(OSError, match=r"^run .*: a picture cannot be written: No space left"):
        training.train(config, tmp_path / "run")
    assert steps_of(tmp_path / "run") == [6]


# Damaged


def damage(rng, folder, step, *, way):
    """Removes a random file of a checkpoint, cuts off its end or flips a bit of it; returns how to
    repair that.
    """
    files = sorted(f for f in (folder / "checkpoints" / str(step)).rglob("*") if f.is_file())
    file = rng.choice([f for f in files if f.stat().st_size])
    whole = file.read_bytes()
    place = rng.randrange(len(whole))
    flipped = bytes([whole[place] ^ (1 << rng.randrange(8))])
    if way == "remove":
        file.unlink()
    else:
        file.write_bytes(whole[:place] + (b"" if way == "cut" else flipped + whole[place + 1 :]))
    return lambda: file.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.exhaustive)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax's threads
def test_damage_to_the_newest_checkpoint_is_harmless_or_named(copy, capfd, count):
    rng = random.Random(count)
    newest, before = state_of(copy, 14), state_of(copy, 12)
    found = {"harmless": 0, "detected": 0}
    with opened(copy) as (_, shapes):
        pass
    for number in range(count):
        repair = damage(rng, copy, 14, way=["cut", "remove", "flip", "flip", "flip"][number % 5])
        capfd.readouterr()
        with contextlib.closing(Run.open(copy, read_only=True)) as run:
            latest = run.checkpoints.restore(shapes)
            if same(latest, newest):
                found["harmless"] += 1
                assert same(run.checkpoints.restore(shapes, 14), newest)
            else:
                found["detected"] += 1
                warning = "".join(capfd.readouterr().err.split())  # lines are wrapped
                assert "warning:checkpoint14ofrun" in warning
                assert "thatofstep12isusedinstead" in warning
                assert same(latest, before)
                with pytest.raises(ValueError, match=r"checkpoint 14 of run .* cannot be read"):
                    run.checkpoints.restore(shapes, 14)
        repair()
    print(found)
    assert min(found.values()) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before(copy, config, unbroken, capfd):
    for file in (copy / "checkpoints" / "14").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert len(sampled(copy, 2, checkpoint="latest")) == 2
    training.train(config, copy, resume=True)
    printed = capfd.readouterr().err
    assert "resumed after step 12" in printed
    assert_as_unbroken(copy, unbroken)
    assert (copy / "damaged" / "14").is_dir()  # to be looked at


@pytest.mark.slow
def test_a_checkpoint_without_its_state_keeps_no_other_from_use(copy, config, unbroken):
    shutil.rmtree(copy / "checkpoints" / "14" / "default")
    training.train(config, copy, resume=True)
    assert_as_unbroken(copy, unbroken)


@pytest.mark.slow
def test_a_damaged_record_is_named_where_the_best_is_asked_for(copy, capfd):
    record = copy / "checkpoints" / "12" / "metrics" / "metrics"
    record.write_text(record.read_text().replace(f'"{METRIC}": ', f'"{METRIC}": 1'))
    assert results.evaluate(copy)["step"] == 14
    assert "checkpoint 12 is damaged; it may have been the best" in capfd.readouterr().err


@pytest.mark.slow
def test_where_no_checkpoint_can_be_read_the_newest_is_named(copy):
    for file in (copy / "checkpoints").glob("*/metrics/metrics"):
        file.write_text("{")
    with pytest.raises(ValueError, match=r"checkpoint 14 of run .*: its record is damaged"):
        results.evaluate(copy, checkpoint="latest")


# Two at once


def test_two_runs_in_a_folder_are_refused_but_using_one_is_not(copy, config, tmp_path):
    holder = python(
        "-c",
        "import pathlib, sys, time\nfrom glowjax.runs.lock import hold\n"
        "with hold(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)",
        str(copy),
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    unfinished = copy / "checkpoints" / "20.orbax-checkpoint-tmp"
    unfinished.mkdir()
    message = rf"run_dir must be no other run's, got .*, where process {holder.pid} on \S+ is train"
    with pytest.raises(ValueError, match=message):
        training.train(config, copy, resume=True)
    assert unfinished.exists()  # nothing of the other's was touched
    assert results.evaluate(copy)["count"] == 247
    holder.kill()
    holder.communicate()
    Run.open(copy).close()


# Not finite


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_kept_for_inspection(config, tmp_path, monkeypatch):
    # The first update leads to weights whose loss is not finite, which is seen at step 3.
    optimizer = Optimizer(name="adam", learning_rate=1e30, warmup_images=0)
    absurd = dataclasses.replace(config, optimizer=optimizer)
    folder = tmp_path / "run"
    message = rf"step 2: .*; stopped, none is saved; {folder}/failed holds the step's batch and the"
    with pytest.raises(FloatingPointError, match=message):
        training.train(absurd, folder)
    with opened(folder) as (run, shapes):
        state, batch = read_failed(run.folder, shapes)
        trainer = make_trainer(run.config, **run.images)
    assert int(state.step) == 1
    source = load_split(absurd, "train")
    expected = data.batch(
        source, 1, batch_size=8, seed=absurd.seed, transform=absurd.data.transform
    )
    assert all(np.array_equal(batch[name], expected[name]) for name in expected)
    again, metrics = mapped(trainer).train_step(replicate(state), batch)
    assert not np.isfinite(metrics["gradient_norm"])
    assert int(again.step[0]) == -2
    assert same(jax.tree.map(lambda a: a[0], again.params), state.params)


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_named_on_a_full_disk_too(config, tmp_path, monkeypatch):
    def full(*arguments, **arrays):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    optimizer = Optimizer(name="adam", learning_rate=1e30, warmup_images=0)
    message = r"step 2: .*; its batch and state are not kept: No space left on device\. A lower"
    with pytest.raises(FloatingPointError, match=message):
        training.train(dataclasses.replace(config, optimizer=optimizer), tmp_path / "run")


def test_a_run_goes_on_with_data_of_its_kind_alone(copy, config, monkeypatch):
    def load(*given):
        return dataclasses.replace(load_split(*given), levels=33)

    monkeypatch.setattr(training, "load_split", load)
    with pytest.raises(ValueError, match=r"^data must be .*as the run began with, got .*"):
        training.train(config, copy, resume=True)


@pytest.mark.exhaustive
def test_the_guard_against_it_changes_no_number(config, unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "halted", lambda before, after, metrics: after)
    steps.make_trainer.cache_clear()  # or the guarded step would be used again
    training.train(config, tmp_path / "unguarded")
    steps.make_trainer.cache_clear()
    assert_as_unbroken(tmp_path / "unguarded", unbroken)


# Long runs

SOAK = """
import gc, json, os, sys, threading
from pathlib import Path
import jax
from glowjax.runs import training
from glowjax.runs.config import experiment

folder, pictures = Path(sys.argv[2]), training.pictures


def pictures_and_usage(*arguments):
    pictures(*arguments)
    gc.collect()
    live = [a for a in jax.live_arrays() if not a.is_deleted()]
    usage = {
        "resident MB": int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6,
        "device MB": sum(a.nbytes for a in live) / 1e6,
        "live arrays": len(live),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "checkpoints": len(list((folder / "checkpoints").iterdir())),
        "files beside": len(list(folder.iterdir())),
    }
    print(json.dumps(usage), flush=True)


training.pictures = pictures_and_usage
training.train(experiment(sys.argv[1]), folder)
"""


@pytest.mark.exhaustive
def test_a_long_run_stays_as_small_as_it_was(config, tmp_path):
    steps, evaluations = 6_000, 60
    long = dataclasses.replace(
        config, train_steps=steps, log_every=20, evaluate_every=steps // evaluations
    )
    folder = tmp_path / "long"
    done = python("-c", SOAK, str(experiment(long, folder)), str(folder))
    printed = finish(done)
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert len(rows) == evaluations
    late = rows[evaluations // 4 :]  # allocators and caches have filled by then
    half = len(late) // 2
    for name in rows[0]:
        before, after = (np.array([row[name] for row in r]) for r in (late[:half], late[half:]))
        print(f"{name}: {rows[0][name]:g} at first, {before.mean():g}, then {after.mean():g}")
        # What is counted while a checkpoint is being written varies by one. Pools of as many
        # threads as there are cores fill slowly; a leak would add one an evaluation.
        allowed = {"resident MB": 0.02 * before.mean(), "threads": half / 4}.get(name, 1)
        assert after.mean() - before.mean() <= allowed
    logged = steps // long.log_every
    log = (folder / "metrics.jsonl").stat().st_size / logged
    board = sum(f.stat().st_size for f in (folder / "tensorboard").iterdir()) / logged
    print(f"per row of the log: {log:.0f} bytes, and {board:.0f} in TensorBoard's")
    assert log < 500
    assert board < 500
