"""Runs of two processes on loopback, of two CPU devices each, against one process of four."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from host import observed
from saved import rows_of

from glowjax import cli
from glowjax.runs import results, steps
from glowjax.runs.failed import read_failed
from glowjax.runs.folder import Run
from glowjax.runs.hosts import check_same, in_turn
from glowjax.runs.launch import check, launch

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hosts")]  # they start processes

HOST = str(Path(__file__).parent / "host.py")
STEPS, BATCH = 6, tiny.OPTIONS["batch-size"]
ABORT = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
OPTIONS = tiny.OPTIONS | {
    "optimizer.warmup-images": 16,
    "train-steps": STEPS,
    "log-every": 1,
    "evaluate-every": 2,  # 150 and 247 images: the last batch is uneven
}


@pytest.fixture(scope="module")
def command(digits_dir):
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    return ["train", "glow_digits", "--data.data-dir", str(digits_dir), *options]


def started(arguments, records, *, processes=2, devices=2, **faults):
    """Runs a command as processes of so many devices each."""
    with pytest.MonkeyPatch.context() as patch:
        flags = os.environ["XLA_FLAGS"]
        patch.setenv("XLA_FLAGS", f"{flags} --xla_force_host_platform_device_count={devices}")
        patch.setenv("JAX_ENABLE_X64", "1")
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        for name, value in faults.items():
            patch.setenv(name.upper(), value)
        launch([sys.executable, HOST, str(records), *arguments], processes)


@pytest.fixture(scope="module")
def alone(command, tmp_path_factory):
    """A folder with run/, which one process of four devices made, and records/."""
    folder = tmp_path_factory.mktemp("alone")
    with jax.enable_x64(True), observed(folder / "records"):
        assert cli.main([*command, "--run-dir", str(folder / "run")]) == 0
    return folder


@pytest.fixture(scope="module")
def killed(command, tmp_path_factory):
    """A folder with run/, in which the second of two processes was killed, error and seconds."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = [*command, "--run-dir", str(folder / "run")]
    with pytest.raises(ChildProcessError) as error:
        started(arguments, folder / "records", kill=f"1:{STEPS - 1}")
    seconds = time.time() - (folder / "records" / "1.npz").stat().st_mtime
    return folder, str(error.value), seconds


@pytest.fixture
def copy(killed, tmp_path):
    return Path(shutil.copytree(killed[0], tmp_path / "copy"))


@pytest.fixture
def copy_of_alone(alone, tmp_path):
    return Path(shutil.copytree(alone, tmp_path / "copy"))


def state_of(folder):
    with (
        jax.enable_x64(True),
        observed(folder),
        contextlib.closing(Run.open(folder / "run", read_only=True)) as run,
    ):
        trainer = steps.make_trainer(run.config, **run.images)
        return run.checkpoints.restore(steps.abstract_state(trainer, run.images))


def records_of(folder):
    return [dict(np.load(path)) for path in sorted((folder / "records").iterdir())]


def assert_close(got, want):
    # Sums in another order. Gradients that are zero but for that, Adamax divides by 1e-8.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), got, want)


def assert_same_run(folder, want):
    state = state_of(folder)
    assert state.step == STEPS
    assert all(a.dtype == np.float64 for a in jax.tree.leaves(state.params))
    assert_close(state, state_of(want))
    assert_close(rows_of(folder / "run"), rows_of(want / "run"))


@pytest.mark.slow
def test_hosts_start_from_the_same_state(killed, alone):
    (want,) = records_of(alone)
    for got in records_of(killed[0]):
        names = [name for name in want if name.startswith("state")]
        assert_close([got[n] for n in names], [want[n] for n in names])
        assert len(names) > 10


def test_hosts_share_each_batch_in_order(killed, alone):
    (want,), parts = records_of(alone), records_of(killed[0])
    assert [len(part["batch1"]) for part in parts] == [BATCH // 2] * 2
    for step in range(1, STEPS - 1):
        whole = np.concatenate([part[f"batch{step}"] for part in parts])
        np.testing.assert_array_equal(whole, want[f"batch{step}"])


def test_one_killed_process_ends_all(killed):
    _, error, seconds = killed
    assert error.startswith("process 1 of 2 was killed by SIGKILL; the others were ended")
    assert seconds < 10


def test_two_hosts_log_what_one_does(killed, alone):
    rows = rows_of(killed[0] / "run")
    assert rows[-1]["step"] == STEPS - 2
    assert_close(rows, rows_of(alone / "run")[: len(rows)])


@pytest.mark.exhaustive
def test_two_hosts_go_on_like_one_that_was_never_stopped(copy, alone, command, capfd):
    started([*command, "--run-dir", str(copy / "run"), "--resume"], copy / "records")
    assert_same_run(copy, alone)
    out, err = capfd.readouterr()
    assert out.count("247 images") == 1  # one host prints
    assert err.count(f"step {STEPS} of {STEPS}: ") == err.count("resumed after step") == 1
    assert len(list((copy / "run" / "tensorboard").iterdir())) == 2  # and writes: a file a start
    with jax.enable_x64(True), observed(copy):
        one = results.evaluate(alone / "run")
    evaluated = f"test: {one['bits_per_dim']:.4f} ± {one['standard_error']:.4f} bits/dim"
    assert evaluated in out


def test_one_host_goes_on_with_a_run_of_two(copy, alone, command):
    with jax.enable_x64(True), observed(copy / "records"):
        assert cli.main([*command, "--run-dir", str(copy / "run"), "--resume"]) == 0
    assert_same_run(copy, alone)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("processes", "devices"), [(1, 2), (1, 1), (4, 1)])
def test_any_number_goes_on_with_a_run_of_two(copy, alone, command, processes, devices):
    arguments = [*command, "--run-dir", str(copy / "run"), "--resume"]
    started(arguments, copy / "records", processes=processes, devices=devices)
    assert_same_run(copy, alone)


@pytest.mark.exhaustive
def test_a_full_disk_ends_all_hosts_and_leaves_the_checkpoint_before(
    alone, command, copy_of_alone, capfd
):
    arguments = [*command, "--run-dir", str(copy_of_alone / "run"), "--resume"]
    shutil.rmtree(copy_of_alone / "run" / "checkpoints" / str(STEPS))
    began = time.time()
    with pytest.raises(ChildProcessError, match=r"process [01] of 2 failed \(1\)"):
        started(arguments, copy_of_alone / "records", full=f"0:{STEPS}")
    assert time.time() - began < 120  # of which most is the start
    printed = "".join(capfd.readouterr().err.split())  # lines are wrapped
    assert f"glowjax:host0:run{copy_of_alone}/run:acheckpointcannotbewritten:" in printed
    assert f"thecheckpointofstep{STEPS - 2}isthelastgoodone" in printed
    started(arguments, copy_of_alone / "records")
    assert_same_run(copy_of_alone, alone)


@pytest.mark.exhaustive
def test_a_checkpoint_that_one_host_cannot_read_is_used_by_none(
    alone, command, copy_of_alone, capfd
):
    arguments = [*command, "--run-dir", str(copy_of_alone / "run"), "--resume"]
    started(arguments, copy_of_alone / "records", blind=f"1:{STEPS}")
    printed = capfd.readouterr().err
    assert "Input/output error" in printed
    assert f"resumed after step {STEPS - 2}" in printed
    assert_same_run(copy_of_alone, alone)


@pytest.mark.exhaustive
def test_a_step_that_is_not_finite_stops_all_hosts(command, tmp_path, capfd):
    absurd = {"learning-rate": 1e300, "muon-learning-rate": 1e300, "warmup-images": 0}
    options = [f"--optimizer.{name}={value}" for name, value in absurd.items()]
    with pytest.raises(ChildProcessError, match=r"process [01] of 2 failed \(1\)"):
        started([*command, *options, "--run-dir", str(tmp_path / "run")], tmp_path / "records")
    printed = "".join(capfd.readouterr().err.split())  # lines are wrapped
    assert printed.count("stopped,noneissaved;") == 2
    with (
        jax.enable_x64(True),
        observed(tmp_path),
        contextlib.closing(Run.open(tmp_path / "run", read_only=True)) as run,
    ):
        trainer = steps.make_trainer(run.config, **run.images)
        state, batch = read_failed(run.folder, steps.abstract_state(trainer, run.images))
    assert f"glowjax:step{state.step + 1}:" in printed
    assert len(batch["image"]) == BATCH


@pytest.mark.exhaustive
def test_a_full_folder_is_refused_by_all_hosts(alone, command, tmp_path, capfd):
    with pytest.raises(ChildProcessError, match=r"process [01] of 2 failed \(1\)"):
        started([*command, "--run-dir", str(alone / "run")], tmp_path)
    assert "run_dir must be a new or empty folder" in capfd.readouterr().err


def test_a_launch_names_the_first_that_failed():
    code = "import sys, time; time.sleep(60 * (sys.argv[-1] != '--process=1')); sys.exit(3)"
    with pytest.raises(ChildProcessError, match=r"process 1 of 2 failed \(3\)"):
        launch([sys.executable, "-c", code], 2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_launch_that_is_told_to_stop_waits_for_what_its_processes_save(tmp_path, number):
    code = (
        "import os, pathlib, signal, sys, time\n"
        "def save(*_): time.sleep(0.5); pathlib.Path(sys.argv[-1][2:]).touch(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"if sys.argv[-1] == '--process=1': time.sleep(1); os.kill(os.getppid(), {number:d})\n"
        "time.sleep(60)"
    )
    before = signal.getsignal(number)
    with contextlib.chdir(tmp_path), pytest.raises(SystemExit) as stopped:
        launch([sys.executable, "-c", code], 2)
    assert stopped.value.code == 128 + number
    assert {file.name for file in tmp_path.iterdir()} == {"process=0", "process=1"}
    assert signal.getsignal(number) is before


def test_a_launch_that_is_told_to_stop_while_it_starts_reaches_all(monkeypatch):
    class Told(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            if arguments[0][-1] == "--process=0":
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Told)
    began = time.time()
    with pytest.raises(SystemExit) as stopped:
        launch([sys.executable, "-c", "import time; time.sleep(60)"], 2)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert time.time() - began < 30


@pytest.mark.exhaustive
def test_a_run_of_two_that_is_told_to_stop_saves_and_goes_on(alone, command, tmp_path):
    arguments = [*command, "--run-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        started(arguments, tmp_path / "records", stop="1:3")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert 3 <= rows_of(tmp_path / "run")[-1]["step"] < STEPS
    started([*arguments, "--resume"], tmp_path / "records")
    assert_same_run(tmp_path, alone)


def test_a_launch_blames_no_process_that_jax_aborted_after_another():
    ended = [subprocess.Popen([sys.executable, "-c", code]) for code in ("exit(1)", ABORT)]
    for process in ended:
        process.wait()
    with pytest.raises(ChildProcessError, match=r"process 0 of 2 failed \(1\)"):
        check(ended, [])


def test_hosts_that_differ_are_refused(monkeypatch):
    first = {"seed": "0", "resume": "True", "model.width": "64"}
    monkeypatch.setattr("glowjax.runs.hosts.of_first_host", lambda function: first)
    check_same(seed=0, resume=True, **{"model.width": 64})
    message = "differing: resume: False, on the first host True; model.width: absent, on the first"
    with pytest.raises(ValueError, match=f"^hosts must have the same of everything; {message}"):
        check_same(seed=0, resume=False)


@pytest.mark.exhaustive
@pytest.mark.parametrize("option", ["--resume", "--data.validation=16", "--seed=1"])
def test_hosts_that_are_told_otherwise_end(alone, command, copy_of_alone, capfd, option):
    arguments = [*command, "--run-dir", str(copy_of_alone / "run"), "--resume"]
    if option == "--resume":
        arguments.remove(option)
    with pytest.raises(ChildProcessError, match=r"process [01] of 2 failed \(1\)"):
        started(arguments, copy_of_alone / "records", only_second=option)
    printed = capfd.readouterr().err
    assert "hosts must have the same of everything; differing: " in printed
    assert_same_run(copy_of_alone, alone)


@pytest.mark.exhaustive
def test_hosts_with_other_data_end(command, digits_dir, tmp_path, capfd):
    other = Path(shutil.copytree(digits_dir, tmp_path / "other"))
    train_split, test_split = (next(other.rglob(f"*-{s}.array_record*")) for s in ("train", "test"))
    info = next(other.rglob("dataset_info.json"))
    shutil.copy(test_split, train_split)
    info.write_text(info.read_text().replace('"1400"', '"247"'))
    arguments = [*command, "--run-dir", str(tmp_path / "run")]
    with pytest.raises(ChildProcessError, match=r"process [01] of 2 failed \(1\)"):
        started(arguments, tmp_path / "records", only_second=f"--data.data-dir={other}")
    assert "differing: train: " in capfd.readouterr().err


def test_a_launch_that_succeeds_says_nothing():
    launch([sys.executable, "-c", ""], 2)


def test_an_error_of_one_host_is_raised_on_all(monkeypatch):
    def gathered(text):
        other = np.frombuffer(b"disk full".ljust(len(text)), np.uint8)
        return np.stack([text, other])

    monkeypatch.setattr("glowjax.runs.hosts.multihost_utils.process_allgather", gathered)
    with pytest.raises(ValueError, match=r"^host 1: disk full$"):
        in_turn(lambda: 1)
    with pytest.raises(KeyError):  # its own first
        in_turn(lambda: {}["missing"])


def test_one_host_takes_its_turn():
    assert in_turn(lambda: 1) == 1
