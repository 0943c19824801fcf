"""What the tests of converted weights share: parameters that are not as initialised, and checks."""

import pickle
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import glowjax

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def stirred(module, seed=0, scale=0.3):
    """A module of torch in evaluation, in float64, every parameter of which was moved."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(scale * noise / max(parameter.shape[-1], 1) ** 0.5)
    return module


def log_prob(model, *arrays):
    """Of a flow of torch at an array, given another or not, as an array."""
    import torch

    with torch.no_grad():
        return model.log_prob(*map(torch.tensor, arrays)).numpy()


def check_log_prob(flow, params, x, expected, context=None):
    """Raises `AssertionError` unless the log-likelihoods of `x: [B, D]` are those expected."""
    model = glowjax.density(flow, x.shape[1:])
    found = jax.jit(model.log_prob)(params, jnp.asarray(x), context)
    dtype = str(jnp.result_type(found))
    assert {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(params)} <= {dtype}
    size = np.maximum(1, np.abs(expected))
    np.testing.assert_array_less(np.abs(found - expected) / size, TOLERANCE[dtype])
    assert np.std(expected) > 0.1


def check_round_trip(flow, params, x, context=None):
    """Raises `AssertionError` unless the inverse leads back, and the flow can be pickled."""
    assert repr(pickle.loads(pickle.dumps(flow))) == repr(flow)
    z, log_det = jax.jit(flow.forward)(params, jnp.asarray(x), context)
    back, minus = jax.jit(flow.inverse)(params, z, context)
    np.testing.assert_allclose(back, x, atol=1e-7)
    np.testing.assert_allclose(minus, -log_det, atol=1e-7)
    shapes = jax.eval_shape(flow.init, jax.random.key(0), jnp.asarray(x), context)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


def example(function):
    """The example of docs/other-libraries.md that has a function."""
    page = Path(__file__).parents[2] / "docs" / "other-libraries.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (text for text in examples if f"import {function}\n" in text)
    return found
