"""Whole runs on scikit-learn's digits: what they leave behind, resuming, stopping, using them."""

import contextlib
import dataclasses
import json
import shutil
import struct
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from saved import rows_of, sampled, state_of, steps_of
from tensorboardX.proto import event_pb2

from glowjax.cli import main
from glowjax.data.source import Source
from glowjax.data.transform import Transform
from glowjax.fitting.optim import Optimizer
from glowjax.runs import pictures, results, training
from glowjax.runs.checkpoints import METRIC
from glowjax.runs.folder import Run
from glowjax.runs.models import Autoregressive, FlowPP, Glow, RealNVP
from glowjax.runs.sources import load_split
from glowjax.runs.steps import make_trainer
from glowjax.runs.trained import image_model
from glowjax.runs.transformers import Jet, TarFlow

# Runs are of float32, and trained ones are shared.
pytestmark = [pytest.mark.float32, pytest.mark.xdist_group("runs")]


@pytest.fixture(scope="module")
def conditional(config):
    model = dataclasses.replace(config.model, conditional=True)
    return dataclasses.replace(config, model=model, classifier_weight=0.01, train_steps=2)


@pytest.fixture(scope="module")
def folder(trained):
    return trained[0]


@pytest.fixture(scope="module")
def classes(conditional, tmp_path_factory):
    """The folder of a run conditional on labels."""
    folder = tmp_path_factory.mktemp("runs") / "conditional"
    training.train(conditional, folder)
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def break_step(monkeypatch, at, act):
    """Lets `act(state, metrics)` have the say over what step `at` gives."""
    original = training.mapped

    def mapped(trainer):
        on_devices = original(trainer)

        def train_step(state, batch):
            step = int(state.step[0]) + 1
            state, metrics = on_devices.train_step(state, batch)
            return act(state, metrics) if step == at else (state, metrics)

        return on_devices._replace(train_step=train_step)

    monkeypatch.setattr(training, "mapped", mapped)


def replace_source(monkeypatch, **changes):

    def load(*arguments):
        source = load_split(*arguments)
        images = changes.get("images", source.images)[: len(source)]
        return dataclasses.replace(source, **changes | {"images": images})

    monkeypatch.setattr(training, "load_split", load)


# What a run leaves behind


@pytest.mark.slow
def test_config_is_kept(folder, config):
    with contextlib.closing(Run.open(folder, read_only=True)) as run:
        assert run.config == config
        assert run.images == {"image_shape": (4, 4, 1), "levels": 17, "num_classes": 10}


@pytest.mark.slow
def test_log_has_a_row_per_step_and_validation(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if METRIC not in row]
    assert [row["step"] for row in train] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if METRIC in row] == [2, 4, 6]
    assert all(row["images"] == 8 * row["step"] for row in rows)
    for name in ("train_bits_per_dim", "gradient_norm", "learning_rate", "images_per_second"):
        assert all(np.isfinite(row[name]) and row[name] > 0 for row in train)


def test_tensorboard_has_the_same_numbers(folder):
    (file,) = (folder / "tensorboard").iterdir()
    messages: Any = event_pb2
    stored, values, start = file.read_bytes(), {}, 0
    while start < len(stored):  # length, checksum of 4 bytes, event, checksum
        (length,) = struct.unpack_from("<Q", stored, start)
        event = messages.Event.FromString(stored[start + 12 : start + 12 + length])
        values |= {(event.step, v.tag): v.simple_value for v in event.summary.value}
        start += 16 + length
    rows = rows_of(folder)
    numbers = {
        (row["step"], k): v for row in rows for k, v in row.items() if k not in ("step", "images")
    }
    assert len(numbers) == 6 * 3 + 3
    for name, value in numbers.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6)


@pytest.mark.parametrize("name", ["samples.png", "curves.png"])
def test_pictures_are_not_blank(folder, name):
    pixels = np.asarray(Image.open(folder / name).convert("L"))
    assert min(pixels.shape) > 100
    assert len(np.unique(pixels)) > 10


def test_last_two_checkpoints_and_the_best_are_kept(config, tmp_path):
    state = {"x": np.arange(3.0)}
    images = {"image_shape": (4, 4, 1), "levels": 17, "num_classes": 10}
    with contextlib.closing(Run.create(tmp_path / "run", config, images, {})) as run:
        for step, bits in enumerate([5.0, 3.0, 4.0, 4.5, 4.2], 1):
            run.checkpoints.save(step, state, bits)
    assert steps_of(tmp_path / "run") == [2, 4, 5]
    with contextlib.closing(Run.open(tmp_path / "run", read_only=True)) as run:
        assert (
            run.checkpoints.step("best"),
            run.checkpoints.step("latest"),
            run.checkpoints.step(4),
        ) == (2, 5, 4)


def test_parameters_by_level_and_speed_are_printed(trained):
    printed = trained[2]
    total = sum(a.size for a in jax.tree.leaves(state_of(trained[0]).params))
    for text in ("1,400 training images", "17 grey levels", "level 1", "top prior"):
        assert text in printed
    assert f"{total:,}" in printed
    # Not a terminal: lines instead of a bar.
    assert "step 6 of 6: " in printed
    assert "images/s, 0:00:00 left" in printed


@pytest.mark.slow
def test_result_is_that_of_the_best_checkpoint(folder, trained):
    again = results.evaluate(folder)
    assert again == trained[1]
    assert again["count"] == 247
    assert again["standard_error"] > 0
    best = min((row for row in rows_of(folder) if METRIC in row), key=lambda row: row[METRIC])
    assert again["step"] == best["step"]
    assert results.evaluate(folder, split="validation")["bits_per_dim"] == pytest.approx(
        best[METRIC]
    )


# Going on


def test_a_killed_run_resumes_exactly(folder, config, tmp_path, monkeypatch, capsys):
    def kill(state, metrics):
        raise KeyboardInterrupt

    killed = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        break_step(patch, 6, kill)
        training.train(config, killed)
    assert rows_of(killed)[-1]["step"] == 5
    assert steps_of(killed) == [2, 4]
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "ima')  # cut off by the kill

    training.train(config, killed, resume=True)
    assert "resumed after step 4" in capsys.readouterr().err
    assert rows_of(killed) == rows_of(folder)
    assert_same(state_of(killed), state_of(folder))  # weights, average and optimiser, bit for bit


@pytest.mark.slow
def test_a_run_of_muon_on_images_in_memory(config, tmp_path):
    rng = np.random.default_rng(0)
    sources = {
        split: Source(
            name="mine", split=split, images=rng.integers(0, 256, (n, 4, 4, 3)).astype(np.uint8)
        )
        for split, n in [("train", 20), ("validation", 8), ("test", 12)]
    }
    transform = Transform(shift=0.25, first_steps=1, shift_edge="reflect")
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, transform=transform),
        optimizer=dataclasses.replace(config.optimizer, name="muon", weight_decay=0.2),
        train_steps=2,
    )
    result = training.train(config, tmp_path / "run", sources=sources)
    assert (result["step"], result["count"]) == (2, 12)
    muon = state_of(tmp_path / "run").optimizer[0].inner_states["muon"].inner_state[0][0]
    assert muon.count == 2 and all(np.any(momentum) for momentum in jax.tree.leaves(muon.mu))
    with pytest.raises(ValueError, match=r"^split must be one of 'train'.*, got 'all'$"):
        results.evaluate(tmp_path / "run", split="all", sources=sources)


@pytest.mark.slow
def test_a_run_that_begins_on_crops_goes_on_with_whole_images(config, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    transform = Transform(first_crop=4, first_steps=2, flip=True)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, transform=transform), train_steps=4
    )
    sources = Source.from_arrays(images, held_out=8)
    training.train(config, tmp_path / "whole", sources=sources)
    training.train(
        dataclasses.replace(config, train_steps=1), tmp_path / "stopped", sources=sources
    )
    training.train(config, tmp_path / "stopped", sources=sources, resume=True)
    assert_same(state_of(tmp_path / "stopped"), state_of(tmp_path / "whole"))
    drawn = sampled(tmp_path / "whole", 2)
    assert drawn.shape == (2, 8, 8, 3)


def test_first_crops_that_the_model_cannot_halve(config, tmp_path):
    sources = Source.from_arrays(np.zeros((40, 8, 8, 3), np.uint8), held_out=8)
    transform = Transform(first_crop=(4, 3), first_steps=2)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, transform=transform))
    with pytest.raises(ValueError, match=r"first_crop must be divisible by 2 .*, got \(4, 3\)"):
        training.train(config, tmp_path / "run", sources=sources)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_starts_again(folder, config, tmp_path):
    early = tmp_path / "early"
    early.mkdir()
    shutil.copy(folder / "config.json", early)
    training.train(dataclasses.replace(config, train_steps=2), early, resume=True)
    assert rows_of(early) == rows_of(folder)[:3]


@pytest.mark.slow
def test_a_finished_run_takes_more_steps(copy, config):
    longer = dataclasses.replace(config, train_steps=7)
    training.train(longer, copy, resume=True)
    assert [row["step"] for row in rows_of(copy)][-2:] == [7, 7]
    assert json.loads((copy / "config.json").read_text())["config"]["train_steps"] == 7


def test_more_steps_are_refused_where_the_learning_rate_depends_on_them(tmp_path, config):
    optimizer = dataclasses.replace(config.optimizer, decay="cosine", warmup_images=8)
    cosine = dataclasses.replace(config, optimizer=optimizer)
    images = {"image_shape": (4, 4, 1), "levels": 17, "num_classes": 10}
    Run.create(tmp_path / "run", cosine, images, {}).close()
    longer = dataclasses.replace(cosine, train_steps=7)
    with pytest.raises(ValueError, match="differing: train_steps 6 -> 7"):
        training.train(longer, tmp_path / "run", resume=True)


@pytest.mark.slow
def test_resuming_a_finished_run_only_tests_it(copy, config, trained):
    assert training.train(config, copy, resume=True) == trained[1]
    assert rows_of(copy) == rows_of(trained[0])


def test_fewer_steps_than_done_are_refused(copy, config):
    shorter = dataclasses.replace(config, train_steps=5)
    with pytest.raises(ValueError, match=r"train_steps must be at least 6.*, got 5"):
        training.train(shorter, copy, resume=True)


def test_another_config_is_refused_by_the_names_of_its_fields(copy, config):
    model = dataclasses.replace(config.model, width=5)
    other = dataclasses.replace(config, model=model, seed=1)
    with pytest.raises(ValueError, match=r"differing: model.width 4 -> 5, seed 0 -> 1$"):
        training.train(other, copy, resume=True)
    assert rows_of(copy)[-1]["step"] == 6


def others(config, *, fewer: bool):
    """The splits of a config, of which validation has an image less, or another one."""
    splits = {name: load_split(config, name) for name in ("train", "validation", "test")}
    images = np.array(splits["validation"].images)
    kept = slice(1, None) if fewer else slice(None)
    images[-1] = 0
    splits["validation"] = dataclasses.replace(
        splits["validation"], images=images[kept], labels=splits["validation"].labels[kept]
    )
    return splits


def test_a_run_goes_on_with_as_many_images_only(copy, config):
    with pytest.raises(ValueError, match=r"validation data must be the images .* began with"):
        training.train(config, copy, resume=True, sources=others(config, fewer=True))


@pytest.mark.slow
def test_images_that_changed_are_told(copy, config, capsys):
    training.train(config, copy, resume=True, sources=others(config, fewer=False))
    assert "warning: the images of validation are not those" in capsys.readouterr().err
    results.evaluate(copy, split="validation", sources=others(config, fewer=True))
    assert "warning: the images of validation are not those" in capsys.readouterr().err
    results.evaluate(copy, split="validation")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
def test_moved_data_are_no_other_config(copy, config, digits_dir, tmp_path):
    moved = shutil.copytree(digits_dir, tmp_path / "moved")
    there = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=moved))
    training.train(there, copy, resume=True)
    assert json.loads((copy / "config.json").read_text())["config"]["data"]["data_dir"] == str(
        moved
    )


# Stopping


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(folder, config, tmp_path, monkeypatch):
    run = tmp_path / "nan"
    break_step(monkeypatch, 5, lambda s, m: (s, m | {"train_bits_per_dim": np.float32("nan")}))
    late = dataclasses.replace(config, log_every=10)  # step 5 is looked at together with step 6
    message = "step 5: train_bits_per_dim nan; stopped, the checkpoint of step 4 is the last good"
    with pytest.raises(FloatingPointError, match=message):
        training.train(late, run)
    assert [row["step"] for row in rows_of(run)] == [2, 2, 4, 4]
    assert steps_of(run) == [2, 4]
    assert_same(state_of(run), state_of(folder, 4))


@pytest.mark.slow
def test_weights_that_lead_too_far_are_not_saved(config, tmp_path):
    # The first loss and gradient are finite; what the step makes of them is not.
    optimizer = Optimizer(name="adam", learning_rate=1e30, warmup_images=0)
    absurd = dataclasses.replace(config, optimizer=optimizer, evaluate_every=1)
    with pytest.raises(FloatingPointError, match=f"step 1: {METRIC} (nan|inf); stopped, none"):
        training.train(absurd, tmp_path / "run")
    assert steps_of(tmp_path / "run") == []


# Bad input, refused before anything is written


@pytest.mark.parametrize("kind", ["file", "full"])
def test_a_place_that_is_taken_is_refused(config, tmp_path, kind):
    place = tmp_path / "place"
    if kind == "full":
        place.mkdir()
        (place / "thesis.txt").touch()
    else:
        place.touch()
    with pytest.raises(ValueError, match="run_dir must be a new or empty folder"):
        training.train(config, place)


def test_batches_that_devices_cannot_share_are_refused(config, tmp_path):
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 4 devices, got 6"):
        training.train(dataclasses.replace(config, batch_size=6), tmp_path / "run")
    assert not (tmp_path / "run").exists()


BAD_DATA = {
    "no labels": ({"labels": None, "num_classes": None}, "conditional must be false for data with"),
    "label too large": ({"num_classes": 7}, r"labels must be in 0\.\.6 .* got \d\.\.9"),
    "odd images": (
        {"images": np.zeros((1400, 7, 7, 1), np.uint8)},
        "height and width divisible by 2 .* got 7×7",
    ),
    "too many grey levels": (
        {"images": np.full((1400, 8, 8, 1), 17, np.uint8)},
        r"images must be in 0\.\.16",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_refused(conditional, tmp_path, monkeypatch, case):
    changes, message = BAD_DATA[case]
    replace_source(monkeypatch, **changes)
    transform = Transform(shift=0.25)
    given = dataclasses.replace(
        conditional, data=dataclasses.replace(conditional.data, transform=transform)
    )
    with pytest.raises(ValueError, match=message):
        training.train(given, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_data_without_labels_are_enough_for_an_unconditional_model(
    folder, config, tmp_path, monkeypatch
):
    replace_source(monkeypatch, labels=None, num_classes=None)
    short = dataclasses.replace(config, train_steps=2)
    training.train(short, tmp_path / "run")
    assert rows_of(tmp_path / "run") == rows_of(folder)[:3]


FOREIGN = {
    "not JSON": "{",
    "another's JSON": '{"learning_rate": 3}',
    "a list": "[1]",
    "not text": b"\xff\xfe\xff",
    "unknown fields": '{"config": {"train_step": 5}, "images": {}}',
    "no image shape": '{"config": {}, "images": {"levels": 3}}',
    "bad values": '{"config": {"train_steps": "many"}, "images": {}}',
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_folders_are_refused(tmp_path, case):
    text = FOREIGN[case]
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"its config.json is not ours: .+"):
        results.evaluate(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["config.json"]


def test_a_run_whose_parameters_have_no_names_is_refused(copy):
    path = copy / "config.json"
    about = json.loads(path.read_text())
    del about["format"]
    path.write_text(json.dumps(about))
    before = sorted(copy.rglob("*"))
    for use in (results.evaluate, lambda folder: sampled(folder, 1)):
        with pytest.raises(ValueError, match="is of format 1, and this glowjax reads format 2"):
            use(copy)
    assert sorted(copy.rglob("*")) == before  # not a checkpoint of it was called damaged


def test_folders_without_a_run_are_refused(config, tmp_path):
    for use in (
        results.evaluate,
        lambda f: sampled(f, 1),
        lambda f: training.train(config, f, resume=True),
    ):
        with pytest.raises(ValueError, match=r"has no config\.json"):
            use(tmp_path)
        with pytest.raises(ValueError, match="does not exist"):
            use(tmp_path / "nowhere")


def test_a_run_without_checkpoints_has_nothing_to_evaluate(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        results.evaluate(tmp_path)


@pytest.mark.slow
def test_a_broken_checkpoint_is_named(copy):
    files = [f for f in (copy / "checkpoints" / "6").rglob("*") if f.is_file()]
    for file in files:
        if "metrics" not in file.parts:
            file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoint 6 of run .* cannot be read"):
        results.evaluate(copy, checkpoint=6)
    assert results.evaluate(copy, checkpoint=4)["step"] == 4


# Using a run


@pytest.mark.slow
def test_weights_can_be_chosen(folder):
    bits = {w: results.evaluate(folder, weights=w)["bits_per_dim"] for w in ("ema", "raw")}
    assert bits["ema"] == results.evaluate(folder)["bits_per_dim"]
    assert bits["ema"] != bits["raw"]


EVALUATE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "split": ({"split": "tset"}, "split must be train, validation or test, got 'tset'"),
    "step": ({"checkpoint": 3}, r"checkpoint must be best, latest or one of \[.*4, 6\], got 3"),
    "checkpoint": ({"checkpoint": "last"}, "checkpoint must be best, latest or one of"),
    "weights": ({"weights": "mean"}, "weights must be one of 'ema', 'raw', got 'mean'"),
    "samples": ({"samples": 0}, "samples must be a whole number of at least 1, got 0"),
    "batch size": ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    "uneven batch": ({"batch_size": 6}, "batch_size must be a multiple of the 4 devices, got 6"),
}


@pytest.mark.parametrize("case", EVALUATE_ERRORS)
def test_evaluation_refuses(folder, case):
    arguments, message = EVALUATE_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        results.evaluate(folder, **arguments)


@pytest.mark.slow
def test_same_seed_same_samples(folder):
    images = sampled(folder, 5)
    assert images.shape == (5, 4, 4, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, sampled(folder, 5))
    assert np.any(images != sampled(folder, 5, seed=1))


SAMPLE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "num": ({"num": 0}, "num must be a whole number of at least 1, got 0"),
    "temperature": ({"num": 2, "temperature": -1.0}, r"temperature must be in \[0, inf\), got -1"),
    "label": (
        {"num": 2, "label": 3},
        "label must be left out: the model is not conditional, got 3",
    ),
    "step": ({"num": 2, "checkpoint": 3}, "checkpoint must be best, latest or one of"),
}


@pytest.mark.parametrize("case", SAMPLE_ERRORS)
def test_sampling_refuses(folder, case):
    arguments, message = SAMPLE_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        sampled(folder, **arguments)


@pytest.mark.slow
def test_a_conditional_run(classes):
    last = [row for row in rows_of(classes) if METRIC not in row][-1]
    assert 0 <= last["train_accuracy"] <= 1
    # The classifier starts from zero: ln 10 nats.
    first = rows_of(classes)[0]["train_cross_entropy_bits"]
    assert first == pytest.approx(np.log2(10), rel=1e-5)
    assert results.evaluate(classes)["count"] == 247


@pytest.mark.slow
def test_labels_of_samples(classes):
    by_turns, threes = sampled(classes, 4), sampled(classes, 4, label=3)
    np.testing.assert_array_equal(by_turns[3], threes[3])
    for wrong in (-1, 10):
        with pytest.raises(ValueError, match=rf"label must be in 0\.\.9, got {wrong}"):
            sampled(classes, 4, label=wrong)


OTHERS = [
    pytest.param(RealNVP(levels=1, width=4, blocks=1), marks=pytest.mark.exhaustive),
    Autoregressive(width=4, depth=1, components=2, conditional=True),
    FlowPP(
        steps=(1, 1, 1),
        components=2,
        width=4,
        blocks=1,
        dropout=0.1,
        noise_steps=1,
        noise_width=4,
        noise_blocks=1,
    ),
    pytest.param(
        Jet(patch=2, steps=1, channel_couplings=1, width=4, blocks=1, heads=2),
        marks=pytest.mark.exhaustive,
    ),
    pytest.param(
        TarFlow(patch=2, steps=1, width=4, blocks=1, heads=2, conditional=True),
        marks=pytest.mark.exhaustive,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", OTHERS, ids=["realnvp", "autoregressive", "flowpp", "jet", "tarflow"]
)
def test_a_run_of_another_kind_of_model(config, tmp_path, model):
    folder = tmp_path / "run"
    short = dataclasses.replace(config, model=model, train_steps=2)
    result = training.train(short, folder)
    assert results.evaluate(folder) == result
    assert np.isfinite(result["bits_per_dim"])
    assert training.train(short, folder, resume=True) == result
    images = sampled(folder, 5)
    assert images.shape == (5, 4, 4, 1)
    np.testing.assert_array_equal(images, sampled(folder, 5))
    if model.conditional:
        np.testing.assert_array_equal(images[3], sampled(folder, 5, label=3)[3])
    with pytest.raises(ValueError, match=f"differing: .*model.kind {model.kind} -> glow"):
        training.train(config, folder, resume=True)


@pytest.mark.slow
def test_samples_are_guided_by_labels_that_training_left_out(config, tmp_path, capsys):
    model = TarFlow(patch=2, steps=1, width=4, blocks=1, heads=2, conditional=True)
    images = []
    for rate, weights in ((0.0, (0, 1e3)), (0.5, (0, 1e3, 1e4))):  # a net of two steps is weak
        dropping = dataclasses.replace(config, model=dataclasses.replace(model, label_dropout=rate))
        training.train(dataclasses.replace(dropping, train_steps=2), tmp_path / f"{rate}")
        for weight in weights:
            out = tmp_path / f"{rate}, {weight}.npy"
            command = ["sample", str(tmp_path / f"{rate}"), "--num", "20", "--out", str(out)]
            works = main([*command, "--guidance", str(weight)]) == 0
            assert works == (rate > 0 or weight == 0)
            images += [np.load(out).astype(int)] if works else []
    assert "trained with model.label_dropout above 0" in capsys.readouterr().err
    _, plain, guided, more = images
    assert 0 < np.abs(guided - plain).sum() < np.abs(more - plain).sum()
    with pytest.raises(ValueError, match="label_dropout must be 0 unless conditional"):
        TarFlow(label_dropout=0.5).parts(10)


@pytest.mark.slow
def test_samples_in_chunks_are_of_one_size(folder, monkeypatch):
    whole = sampled(folder, 5)
    monkeypatch.setattr(pictures, "CHUNK", 2)
    chunks = sampled(folder, 5)
    assert chunks.shape == whole.shape
    assert len(np.unique(chunks.reshape(5, -1), axis=0)) == 5


def test_using_a_run_under_way_leaves_its_unfinished_save_alone(copy):
    unfinished = copy / "checkpoints" / "8.orbax-checkpoint-tmp"
    unfinished.mkdir()
    results.evaluate(copy)
    assert unfinished.exists()


def test_a_log_that_is_broken_in_the_middle_is_named(copy):
    path = copy / "metrics.jsonl"
    path.write_text("not JSON\n" + path.read_text())
    with (
        pytest.raises(ValueError, match="line 1 is not JSON"),
        contextlib.closing(Run.open(copy)) as run,
    ):
        run.history()


# What is refused, drawn and taken before any training


def kept(tmp_path, config):
    """The folder of a run that has begun, and done nothing yet."""
    images = {"image_shape": (4, 4, 1), "levels": 17, "num_classes": 10}
    return contextlib.closing(Run.create(tmp_path / "run", config, images, {}))


def test_more_steps_are_refused_where_they_change_the_warmup(config, tmp_path):
    default = dataclasses.replace(config, optimizer=Optimizer(), train_steps=60)
    longer = dataclasses.replace(default, train_steps=100)
    with kept(tmp_path, default) as run:
        training._check_resumes(run, default)
        message = r"differing: optimizer.warmup_images 48 -> 80$"
        with pytest.raises(ValueError, match=message):
            training._check_resumes(run, longer)
        same = dataclasses.replace(longer, optimizer=Optimizer(warmup_images=48))
        training._check_resumes(run, same)  # the learning rates of the steps done stay as they were


def test_runs_from_before_the_warmup_had_a_default_keep_theirs(config, tmp_path):
    old = dataclasses.replace(config, optimizer=Optimizer(warmup_images=500_000))
    new = dataclasses.replace(config, optimizer=Optimizer())
    with (
        kept(tmp_path, old) as run,
        pytest.raises(ValueError, match=r"warmup_images 500000 -> 0$"),
    ):
        training._check_resumes(run, new)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
def test_pictures_of_any_number_of_channels(config, tmp_path, monkeypatch, channels):
    images = np.random.RandomState(0).randint(0, 256, (6, 8, 8, channels)).astype(np.uint8)
    source = Source(name="bands", split="train", images=images)
    about = {"image_shape": (4, 4, channels), "levels": 256, "num_classes": None}
    monkeypatch.setattr(pictures, "draw", lambda *arguments, **options: images[:4, :4, :4])
    model = image_model(make_trainer(config, **about), config, about)
    with contextlib.closing(Run.create(tmp_path / "run", config, about, {})) as run:
        run.log({"step": 1, "images": 8, "train_bits_per_dim": 8.0})
        pictures.pictures(run, model, None, source)
    drawn = np.asarray(Image.open(tmp_path / "run" / "samples.png").convert("RGB"))
    assert (np.ptp(drawn, axis=-1) > 0).any() == (channels > 2)


FITS = {
    "both": (
        (45, 30),
        Transform(),
        r"got 45×30; what would fit: data.transform.crop=\(44, 28\), or"
        r" data.transform.pad=\(\(1, 2\), \(1, 1\)\), or fewer levels",
    ),
    "cut already": ((44, 30), Transform(crop=(44, 30)), r"crop=\(44, 28\), or fewer levels"),
    "too small": ((2, 8), Transform(), r"fit: data.transform.pad=\(\(1, 1\), \(0, 0\)\), or fewer"),
}


@pytest.mark.parametrize("case", FITS)
def test_images_that_do_not_fit_get_a_proposal_that_does(config, case):
    (height, width), transform, message = FITS[case]
    images = np.zeros((2, height, width, 3), np.uint8)
    source = Source(name="portraits", split="train", images=images)
    model = dataclasses.replace(config.model, levels=2)
    data = dataclasses.replace(config.data, transform=transform)
    given = dataclasses.replace(config, model=model, data=data)
    with pytest.raises(ValueError, match=f"portraits must .* divisible by 4 .*{message}"):
        training._check_fits(given, source, transform.image_shape(source))


DIVISORS = [
    (Glow(levels=3), 8),
    (RealNVP(levels=3), 4),
    (RealNVP(levels=3, architecture="single_scale"), 2),
    (RealNVP(levels=1), 1),
    (Autoregressive(), 1),
    (FlowPP(), 4),
    (Jet(patch=2), 4),
    (TarFlow(patch=2), 2),
]


@pytest.mark.parametrize(("model", "divisor"), DIVISORS)
def test_what_image_sides_must_be_multiples_of(model, divisor):
    assert model.divisor == divisor


@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize(("first", "wrong"), [(1, 10), (-1, -1)])
def test_a_label_out_of_range_anywhere_is_found_before_any_step(conditional, split, first, wrong):
    images = np.zeros((300, 4, 4, 1), np.uint8)
    labels = np.arange(300) % 10
    bad = labels + 1 if first == 1 else np.where(np.arange(300) == 250, -1, labels)
    sources = [
        Source(name="mine", split=name, images=images, labels=bad if i == split else labels)
        for i, name in enumerate(("train", "validation"))
    ]
    trainer = make_trainer(conditional, image_shape=(4, 4, 1), levels=17, num_classes=10)
    place, name = (9 if first == 1 else 250), sources[split].split
    message = (
        rf"^mine, split '{name}': labels must be in 0\.\.9 .* got {min(bad)}\.\.{max(bad)}, that of"
        rf" image {place} being {wrong}, .*: labels count from 0$"
    )
    with pytest.raises(ValueError, match=message):
        training._check_whole(trainer, conditional, *sources)
