"""Pages of docs/ whose examples run as printed, from top to bottom."""

import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def run(monkeypatch):
    """The names that the examples of a page leave."""
    monkeypatch.setattr(glowjax, "fit", functools.partial(glowjax.fit, show=False))

    def run(page: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        text = (DOCS / page).read_text(encoding="utf-8")
        exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)
        return names

    return run


@pytest.mark.float32
def test_a_flow_of_ones_own(run):
    names = run("own-flow.md")
    assert names["message"].startswith("inverse's log_det must be minus forward's")
    assert names["new"].shape == (10, 3) and jnp.all(jnp.isfinite(names["new"]))


@pytest.mark.float32
def test_the_change_of_variables(run):
    names = run("change-of-variables.md")
    np.testing.assert_allclose(names["integral"], 1, rtol=1e-5)
    np.testing.assert_allclose(names["back"], names["x"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(names["inverse_log_det"], -names["log_det"], atol=1e-4)
    np.testing.assert_allclose(names["by_autodiff"], names["log_det"], atol=1e-4)
    likelihood = names["base"] + names["log_det"]
    np.testing.assert_allclose(names["log_likelihood"], likelihood, rtol=1e-5)
    assert jnp.std(names["log_det"]) > 0


@pytest.mark.slow
@pytest.mark.float32
def test_questions(run):
    names = run("faq.md")
    assert names["log_p"].shape == (5, 100) and names["new"].shape == (2, 4, 3)
    log_p = names["again"].log_prob(names["same"], names["x"])
    np.testing.assert_allclose(log_p, names["log_p"].ravel(), rtol=1e-4)
    assert all(jax.tree.leaves(names["unchanged"]))
