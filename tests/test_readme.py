"""README's examples are run as they stand, at a small size, but for the first."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


# All of them: a new one needs its test. tests/test_two_cores.py runs the first.
_, TABLE, TARGET, LOAD, OWN_FLOW = EXAMPLES


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
    from glowjax.runs.training import train

    monkeypatch.chdir(tmp_path)
    train(config, tmp_path / "runs" / "demo")
    names: dict[str, Any] = {}
    exec(LOAD, names)
    assert names["images"].shape == (16, 4, 4, 1) and names["bits"].shape == (16,)
    assert [a.shape for a in names["z"]] == [(16, 2, 2, 4)]
    np.testing.assert_array_equal(names["again"], names["images"])


@pytest.mark.float32
def test_example_of_a_flow_of_ones_own():
    names: dict[str, Any] = {}
    exec(OWN_FLOW, names)
    x = jnp.linspace(-1, 1, 12).reshape(4, 3)
    params = names["model"].init(jax.random.key(0), x)
    assert names["model"].log_prob(params, x).shape == (4,)


@pytest.mark.slow
@pytest.mark.float32
def test_arrays_are_trained_on_as_the_page_of_own_images_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("\n".join(examples_of("own-images.md")), names)
    (kept,) = json.loads((tmp_path / "runs/arrays/results.json").read_text())
    assert (kept["split"], kept["count"], kept["step"]) == ("test", 20, 20)

    flow, x = names["flow"], (names["images"][:4].astype(np.float32) + 0.5) / 256 - 0.5
    params = flow.init(jax.random.key(0), x)
    z, _ = flow.forward(params, x)
    np.testing.assert_allclose(flow.inverse(params, z)[0], x, atol=1e-5)


def examples_of(page):
    """The Python examples of a page of docs."""
    path = Path(__file__).parent.parent / "docs" / page
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
@pytest.mark.float32
def test_examples_of_other_libraries():
    # tests/interop has the others.
    with_distrax, with_numpyro, *others = examples_of("other-libraries.md")
    (plain,) = (example for example in others if "(2, 6)" in example)
    exec(with_distrax, {})
    names: dict[str, Any] = {}
    exec(plain, names)
    assert names["log_p"].shape == (4, 5) and names["new"].shape == (2, 6, 3)
    short = with_numpyro.replace("1500", "20").replace("num_samples=1000", "num_samples=20")
    assert short.count("20") > with_numpyro.count("20")
    exec(short, names)
    assert names["samples"]["y"].shape == (20,)


@pytest.mark.slow
@pytest.mark.float32
def test_example_of_trained_models(config, tmp_path, monkeypatch):
    from glowjax.runs.training import train

    (example,) = examples_of("trained-models.md")
    monkeypatch.chdir(tmp_path)
    train(config, tmp_path / "runs" / "demo")
    names: dict[str, Any] = {}
    exec(example, names)
    assert [h.shape for h in names["halfway"]] == [(3, 8, 2, 2, 4)]
    np.testing.assert_array_equal(names["again"], names["images"])


def test_links_lead_to_files():
    root = Path(__file__).parent.parent
    for page in (*root.glob("*.md"), *root.glob("docs/**/*.md"), root / "experiments/RESULTS.md"):
        links = re.findall(
            r"\]\((?!http)([^)#]+)\)|src=\"(?!http)([^\"]+)\"", page.read_text(encoding="utf-8")
        )
        missing = [a or b for a, b in links if not (page.parent / (a or b)).exists()]
        assert not missing, (page.name, missing)
