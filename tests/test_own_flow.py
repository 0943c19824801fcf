"""docs/own-flow.md runs as printed, from top to bottom."""

import functools
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import glowjax

PAGE = (Path(__file__).parents[1] / "docs" / "own-flow.md").read_text(encoding="utf-8")


@pytest.mark.float32
def test_the_page_runs(monkeypatch):
    monkeypatch.setattr(glowjax, "fit", functools.partial(glowjax.fit, show=False))
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), names)
    assert names["message"].startswith("inverse's log_det must be minus forward's")
    assert names["new"].shape == (10, 3) and jnp.all(jnp.isfinite(names["new"]))
