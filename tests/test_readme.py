"""README's examples are run as they stand, at a small size."""

import functools
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import glowjax
from glowjax import data
from glowjax.data import prepare

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


FIRST, TABLE, TARGET, LOAD, OWN_FLOW = EXAMPLES  # all of them: a new one needs its test


@pytest.mark.float32
def test_first_example():
    assert "levels=3, steps=32, width=512" in FIRST
    names = {}
    exec(FIRST.replace("levels=3, steps=32, width=512", "levels=2, steps=2, width=8"), names)
    assert [a.shape for a in names["z"]] == [(8, 16, 16, 6), (8, 8, 8, 24)]
    np.testing.assert_allclose(names["x"], names["images"], atol=1e-5)
    assert names["log_det"].shape == names["log_p"].shape == (8,)
    assert names["new"].shape == (16, 32, 32, 3)
    assert jnp.all(jnp.isfinite(names["log_p"])) and jnp.all(jnp.isfinite(names["new"]))


@pytest.fixture
def short_fit(monkeypatch):
    monkeypatch.setattr(glowjax, "fit", functools.partial(glowjax.fit, steps=2, show=False))


@pytest.mark.slow
@pytest.mark.float32
def test_example_of_a_table(short_fit):
    names: dict[str, Any] = {}
    exec(TABLE, names)
    assert names["log_p"].shape == (5000,) and names["new"].shape == (100, 4)
    assert jnp.all(jnp.isfinite(names["log_p"]))


@pytest.mark.slow
@pytest.mark.float32
def test_example_of_a_target(short_fit):
    names: dict[str, Any] = {}
    exec(TARGET, names)
    assert np.isfinite(names["fitted"].history[-1]["loss"]) and np.isfinite(names["log_z"])


@pytest.mark.slow
@pytest.mark.float32
def test_example_of_a_trained_model(config, tmp_path, monkeypatch):
    from glowjax.runs.loop import train

    monkeypatch.chdir(tmp_path)
    train(config, tmp_path / "runs" / "demo")
    names: dict[str, Any] = {}
    exec(LOAD, names)
    assert names["images"].shape == names["x"].shape == (16, 4, 4, 1)
    assert set(names["score"]) == {"bits_per_dim", "standard_error", "count", "step"}
    assert np.all(np.isfinite(names["log_p"])) and [a.shape for a in names["z"]] == [(16, 2, 2, 4)]


@pytest.mark.float32
def test_example_of_a_flow_of_ones_own():
    names: dict[str, Any] = {}
    exec(OWN_FLOW, names)
    x = jnp.linspace(-1, 1, 12).reshape(4, 3)
    params = names["model"].init(jax.random.key(0), x)
    assert names["model"].log_prob(params, x).shape == (4,)


def test_own_images_are_brought_in_as_the_page_says(tmp_path, monkeypatch):
    page = Path(__file__).parent.parent / "docs" / "own-images.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "prepare.py").write_text(example, encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 9, 6, 3), np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "pictures" / ("cats", "dogs")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    with prepare.quiet():
        runpy.run_path("prepare.py", run_name="prepare")
    assert "tensorflow" not in sys.modules
    source = data.load("my_pictures", "train", data_dir=tmp_path / "data", resize=(6, 4))
    assert (source.image_shape, len(source), source.num_classes) == ((6, 4, 3), 16, 2)
    whole = data.load("my_pictures", "train", data_dir=tmp_path / "data")
    for image, label in zip(whole.images, whole.labels, strict=True):
        ((i,),) = np.nonzero((pixels == image).all((1, 2, 3)))
        assert label == i % 2


def test_links_lead_to_files():
    root = Path(__file__).parent.parent
    for page in (*root.glob("*.md"), *root.glob("docs/*.md"), root / "experiments/RESULTS.md"):
        links = re.findall(
            r"\]\((?!http)([^)#]+)\)|src=\"(?!http)([^\"]+)\"", page.read_text(encoding="utf-8")
        )
        missing = [a or b for a, b in links if not (page.parent / (a or b)).exists()]
        assert not missing, (page.name, missing)
