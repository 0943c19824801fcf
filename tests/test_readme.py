"""README's import example is run as it stands, at a small size."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.float32
def test_import_example():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert "levels=3, steps=32, width=512" in example
    names = {}
    exec(example.replace("levels=3, steps=32, width=512", "levels=2, steps=2, width=8"), names)
    assert [a.shape for a in names["z"]] == [(8, 16, 16, 6), (8, 8, 8, 24)]
    np.testing.assert_allclose(names["x"], names["images"], atol=1e-5)
    assert names["log_det"].shape == names["log_p"].shape == (8,)
    assert names["new"].shape == (16, 32, 32, 3)
    assert jnp.all(jnp.isfinite(names["log_p"])) and jnp.all(jnp.isfinite(names["new"]))
