"""score, interpolate, reconstruct and edit, on a tiny run from end to end."""

import csv
import json
import shutil
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

import glowjax
from glowjax.cli import main
from glowjax.commands import options
from glowjax.commands.latents import paired
from glowjax.data.attributes import load_attribute
from glowjax.runs.given import Given, read_files, read_split

pytestmark = [pytest.mark.float32, pytest.mark.xdist_group("runs")]


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    return shutil.copytree(trained[0], tmp_path_factory.mktemp("commands") / "run")


@pytest.fixture(scope="module")
def loaded(run):
    return glowjax.load(run)


@pytest.fixture(scope="module")
def files(run, loaded):
    """Four images of the test split as files."""
    model, _ = loaded
    given = read_split(model, "test", num=4)
    paths = []
    for i, image in enumerate(glowjax.to_uint8(given.images, levels=model.levels)):
        paths.append(run.parent / f"{i}.png")
        Image.fromarray(np.asarray(image)[..., 0]).save(paths[-1])
    return paths


def works(*arguments):
    assert main([str(a) for a in arguments]) == 0


def size(path):
    with Image.open(path) as picture:
        return picture.size


# ---------------------------------------------------------------------------- the loaded model


def test_a_loaded_model_scores_as_the_run_was_evaluated(run, loaded):
    model, params = loaded
    (kept,) = json.loads((run / "results.json").read_text())
    given = read_split(model, "test")
    bits = np.mean(model.bits_per_dim(params, given.images))
    assert abs(bits - kept["bits_per_dim"]) < 5 * kept["standard_error"]
    nats = model.log_prob(params, given.images)
    np.testing.assert_allclose(-nats / np.log(2) / 16, model.bits_per_dim(params, given.images))


def test_images_come_back_from_their_latents(loaded):
    model, params = loaded
    images = read_split(model, "test", num=9).images
    np.testing.assert_array_equal(model.decode(params, model.encode(params, images)), images)


def test_samples_are_images_of_the_models(loaded):
    model, params = loaded
    samples = model.sample(params, jax.random.key(0), 5, temperature=0.5)
    assert samples.shape == (5, *model.image_shape) and samples.dtype == np.uint8
    assert samples.max() < model.levels
    assert np.all(np.isfinite(model.log_prob(params, samples)))


@pytest.mark.slow
def test_a_loaded_model_works_under_transformations(loaded):
    model, params = loaded
    images = read_split(model, "test", num=3).images
    bits = jax.jit(model.bits_per_dim)(params, images)
    np.testing.assert_allclose(bits, model.bits_per_dim(params, images), rtol=1e-5)
    gradient = jax.grad(lambda p: model.bits_per_dim(p, images).mean())(params)
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_a_temperature_may_be_traced(loaded):
    model, params = loaded
    draw = jax.jit(lambda p, t: model.sample(p, jax.random.key(0), 3, t))
    np.testing.assert_array_equal(
        draw(params, 0.5), model.sample(params, jax.random.key(0), 3, 0.5)
    )
    with pytest.raises(ValueError, match="temperature must be"):
        model.sample(params, jax.random.key(0), 3, -1.0)


@pytest.mark.slow
def test_a_damaged_results_file_hides_no_result(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "results.json").write_text("[{")
    works("eval", copy)
    out, err = capsys.readouterr()
    assert "bits/dim, 247 images" in out
    assert "warning: the result is not kept" in err
    assert (copy / "results.json").read_text() == "[{"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, p: m.bits_per_dim(p, np.zeros((1, 4, 4, 1))), "images must be integers"),
        (lambda m, p: m.bits_per_dim(p, np.zeros((1, 8, 8, 1), int)), "images must be of shape"),
        (lambda m, p: m.encode(p, np.full((1, 4, 4, 1), 17)), "images must be in 0..16"),
        (lambda m, p: m.sample(p, jax.random.key(0), 0), "n must be"),
        (lambda m, p: m.sample(p, jax.random.key(0), 2, labels=[0, 1]), "labels must be None"),
        (lambda m, p: m.prepare([]), "images must be one at least"),
        (lambda m, p: m.prepare([np.zeros((3, 3, 1))]), "images must be uint8"),
    ],
)
def test_bad_images_are_refused(loaded, call, message):
    with pytest.raises(ValueError, match=message):
        call(*loaded)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda run: glowjax.load(run.parent / "none"), "does not exist"),
        (lambda run: glowjax.load(run, checkpoint=3), "checkpoint must be best, latest or one of"),
        (lambda run: glowjax.load(run, weights="mean"), "weights must be"),
    ],
)
def test_what_cannot_be_loaded_is_refused(run, call, message):
    with pytest.raises(ValueError, match=message):
        call(run)


# ---------------------------------------------------------------------------------- commands


def test_samples_as_an_array_a_sheet_and_files(run, tmp_path):
    at_two = ["--num", 3, "--temperature", 0.5, 1]
    works("sample", run, *at_two, "--out", tmp_path / "two.npy")
    images = np.load(tmp_path / "two.npy")
    assert images.shape == (2, 3, 4, 4, 1) and images.dtype == np.uint8
    works("sample", run, "--num", 3, "--temperature", 1, "--out", tmp_path / "one.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy"), images[1])
    works("sample", run, *at_two, "--out", tmp_path / "files")
    files = sorted(tmp_path.glob("files/*"))
    assert [file.name for file in files][::3] == [f"temperature-{t}-00000.png" for t in ("0.5", 1)]
    for file, image in zip(files, images.reshape(6, 4, 4, 1), strict=True):
        with Image.open(file) as shown:
            np.testing.assert_array_equal(np.asarray(shown), image[..., 0])
    works("sample", run, *at_two, "--out", tmp_path / "two.png")
    assert size(tmp_path / "two.png")[0] > 100


@pytest.mark.parametrize("name", ["a.jpg", "a.txt", "full"])
def test_samples_are_not_written_just_anywhere(run, tmp_path, capsys, name):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.png").touch()
    assert main(["sample", str(run), "--out", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert "out must be a .png, a .npy, or a new or empty folder, got" in error
    assert [*tmp_path.rglob("*.*")] == [tmp_path / "full" / "mine.png"]


def test_score(run, loaded, capsys):
    works("score", run, "--samples", 2, "--against", "digits", "--num", 40)
    with (run / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"test {i}" for i in range(40)]
    model, params = loaded
    given = read_split(model, "test", num=40)
    assert [int(row["label"]) for row in rows] == np.asarray(given.labels).tolist()
    keys = jax.random.split(jax.random.key(model.config.seed), 2)
    bits = np.mean([model.bits_per_dim(params, given.images, key) for key in keys], axis=0)
    np.testing.assert_allclose([float(row["bits_per_dim"]) for row in rows], bits, atol=1e-5)
    assert "(AUROC 0.5000)" in capsys.readouterr().out  # against the same images
    assert size(run / "scores.png")[0] > 300


@pytest.mark.slow
def test_score_of_files(run, loaded, files):
    works("score", run, *files, "--table", run / "files.json", "--out", run / "files.png")
    rows = json.loads((run / "files.json").read_text())
    assert [row["image"] for row in rows] == [str(file) for file in files]
    model, _ = loaded
    np.testing.assert_array_equal(
        read_files(model, files).images, read_split(model, "test", num=4).images
    )


@pytest.mark.slow
def test_interpolate(run, files):
    works("interpolate", run, *files, "--steps", 5, "--animation", "--pairs", 1)
    with Image.open(run / "interpolated.png") as sheet:
        pixels = np.asarray(sheet)
    with Image.open(files[0]) as first:
        corner = np.asarray(first)
    scale = pixels.shape[1] // (5 * 5 - 1)
    shown = pixels[::scale, ::scale]
    assert shown.shape == (2 * 5 - 1, 5 * 5 - 1)
    np.testing.assert_array_equal(shown[:4, :4], corner)
    with Image.open(run / "interpolated.gif") as animation:
        assert len(list(ImageSequence.Iterator(animation))) == 8


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_pairs_of_a_conditional_model_are_of_one_class(conditional, count):
    labels = np.array([0, 1, 1, 2, 0, 1, 1][:count])
    given = Given([str(i) for i in range(count)], np.arange(count), labels)
    model: Any = SimpleNamespace(conditional=conditional)
    got = paired(model, given, 2)
    pairs = {1: None, 2: "01", 7: "0123"}[count]
    if conditional:
        pairs = {1: None, 2: None, 7: "1204"}[count]
    assert (None if got is None else "".join(got.names)) == pairs
    if got is not None:
        assert list(got.images) == [int(name) for name in got.names]
        np.testing.assert_array_equal(got.labels, labels[got.images])


@pytest.mark.slow
def test_reconstruct(run):
    works("reconstruct", run, "--num", 3)
    assert size(run / "reconstructed.png")[0] > 100


@pytest.mark.slow
def test_edit(run, capsys):
    works("edit", run, "--attribute", 3, "--num", 2, "--examples", 200)
    assert "direction of 3: " in capsys.readouterr().out
    assert size(run / "edited.png")[0] > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["edit", "--attribute", 3, "--num", 2, "--examples", 200, "--strengths", 0, 1e38],
        ["sample", "--num", 2, "--temperature", 1e38],
    ],
    ids=lambda arguments: arguments[0],
)
def test_images_that_are_not_finite_are_counted(run, capsys, arguments):
    command, *options = arguments
    works(command, run, *options)
    assert "2 of 2 images are not finite, and drawn black" in " ".join(
        capsys.readouterr().err.split()
    )


def test_attributes_are_labels(loaded, digits_dir):
    model, _ = loaded
    have = load_attribute(model.config.data, "train", "3", 300)
    labels = read_split(model, "train", num=300).labels
    np.testing.assert_array_equal(have, labels == 3)
    with pytest.raises(ValueError, match="attribute must be one of digits's: "):
        load_attribute(model.config.data, "train", "Smiling", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["interpolate", "0.png"], "files must be two by two"),
        (["score", "none.png"], "none.png cannot be read as an image"),
        (["score", "--table", "scores.txt"], "table must be"),
        (["edit", "--attribute", "Smiling"], "attribute must be one of"),
        (["score", "--samples", "0"], "samples must be"),
    ],
)
def test_what_commands_refuse(run, files, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(files[0].parent)
    command, *rest = arguments
    assert main([command, str(run), *rest]) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_long_work_says_how_far_it_has_come(monkeypatch, capsys):
    monkeypatch.setattr(options, "CHUNK", 2)
    monkeypatch.setattr(options, "PAUSE", 0)
    done = options.in_chunks("encoding", lambda a, none: a + 1, np.arange(5), None)
    np.testing.assert_array_equal(done, np.arange(1, 6))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"image {count} of 5: encoding" for count in (2, 4, 5)
    ]
