"""Classes of one's own pictures keep their names, from the folder to the samples."""

import numpy as np
import pytest
from PIL import Image

import glowjax
from glowjax.cli import main
from glowjax.data.class_names import class_number

pytestmark = [pytest.mark.float32, pytest.mark.xdist_group("runs")]


@pytest.mark.parametrize(
    ("given", "names", "number"),
    [
        ("dog", ("cat", "dog"), 1),
        ("1", ("cat", "dog"), 1),
        ("7", ("3", "7"), 1),
        ("1", ("3", "7"), None),
        ("2", ("cat", "dog"), None),
        ("-1", ("cat", "dog"), None),
        ("Dog", ("cat", "dog"), None),
    ],
)
def test_a_class_is_given_by_its_name_or_number(given, names, number):
    assert class_number(given, names) == number


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A conditional run on pictures of two classes."""
    folder = tmp_path_factory.mktemp("classes")
    noise = np.random.RandomState(0).randint(0, 256, (40, 8, 8)).astype(np.uint8)
    for i, image in enumerate(noise):
        path = folder / "pictures" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    options = f"--data.name folder:{folder / 'pictures'} --data.data-dir {folder / 'data'}"
    options += " --model.levels 1 --model.steps 1 --model.width 4 --model.conditional"
    options += f" --train-steps 2 --batch-size 4 --run-dir {folder / 'run'}"
    assert main(["train", "glow_digits", *options.split()]) == 0
    return folder / "run"


@pytest.mark.slow
def test_samples_of_a_class_are_asked_for_by_its_name(run, capsys):
    assert glowjax.load(run)[0].class_names == ("cat", "dog")
    drawn = {}
    for label in ("dog", "1", "cat"):
        path = run / f"{label}.npy"
        assert main(["sample", str(run), "--num", "3", "--label", label, "--out", str(path)]) == 0
        drawn[label] = np.load(path)
    np.testing.assert_array_equal(drawn["dog"], drawn["1"])
    assert np.any(drawn["dog"] != drawn["cat"])
    assert main(["sample", str(run)]) == 0  # a row for each
    assert main(["sample", str(run), "--label", "bird"]) != 0
    assert "label must be one of cat, dog, got bird" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_model_keeps_the_names_of_its_classes(run):
    out = run / "exported"
    assert main(["export", str(run), "--no-programs", "--out", str(out)]) == 0
    assert glowjax.load(out)[0].class_names == ("cat", "dog")
