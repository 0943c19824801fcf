"""Nets of other libraries as conditioners, as docs/other-libraries.md writes them."""

import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import glowjax
from glowjax.testing import check_flow

PAGE = Path(__file__).parents[2] / "docs" / "other-libraries.md"
LIBRARIES = {"NNXNet": "flax.nnx", "EquinoxNet": "equinox", "HaikuNet": "haiku"}


@pytest.fixture(
    params=[
        "NNXNet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("EquinoxNet", "HaikuNet")),
    ]
)
def flow(request):
    """The flow of the page's example, with a narrower net."""
    pytest.importorskip(LIBRARIES[request.param])
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (e for e in examples if f"class {request.param}(" in e)
    assert "64" in example
    names: dict[str, Any] = {}
    exec(example.replace("64", "8"), names)
    return names["flow"]


@pytest.fixture
def x():
    return jax.random.normal(jax.random.key(0), (6, 3))


def moved(flow, x):
    """Parameters away from zeros at the start, in float64, which NNX does not start in."""
    params = flow.init(jax.random.key(1), x)
    return jax.tree.map(
        lambda p: p + 0.1 * jnp.cos(jnp.arange(1.0 * p.size)).reshape(p.shape), params
    )


def test_a_flow_with_the_net_is_right(flow, x):
    check_flow(flow, x, params=moved(flow, x))


def test_every_number_of_the_net_is_trained(flow, x):
    model = glowjax.density(flow, (3,))
    params = moved(flow, x)
    leaves = jax.tree.leaves(params)
    assert sum(leaf.size for leaf in leaves) == (1 * 8 + 8) + (8 * 4 + 4)  # a and b: 1 and 2
    before, grads = jax.jit(jax.value_and_grad(lambda p: -model.log_prob(p, x).mean()))(params)
    assert all(jnp.all(g != 0) for g in jax.tree.leaves(grads))
    after = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)
    assert -model.log_prob(after, x).mean() < before


def test_transformations_agree(flow, x):
    params = moved(flow, x)
    z, log_det = flow.forward(params, x)
    jitted = jax.jit(flow.forward)(params, x)
    np.testing.assert_allclose(jitted[0], z, rtol=1e-12)
    stacked = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    both, log_dets = jax.vmap(flow.forward, (0, None))(stacked, x)
    np.testing.assert_allclose(both[0], z, rtol=1e-12)
    np.testing.assert_allclose(log_dets[0], log_det, rtol=1e-12)
    assert not np.allclose(both[1], z)


def test_repeated_steps_have_nets_of_their_own(flow, x):
    step = glowjax.chain(coupling=flow, turn=glowjax.as_flow(glowjax.Reverse()))
    deep = glowjax.repeat(step, 3)
    params = deep.init(jax.random.key(1), x)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params)} == {3}
    weights = next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3 and leaf.any())
    assert not np.allclose(weights[0], weights[1])


def test_parameters_are_saved_and_restored(flow, x, tmp_path):
    params = moved(flow, x)
    np.savez(tmp_path / "params.npz", *jax.tree.leaves(params))
    like = jax.eval_shape(flow.init, jax.random.key(1), x)
    with np.load(tmp_path / "params.npz") as saved:
        restored = jax.tree.unflatten(jax.tree.structure(like), list(saved.values()))
    np.testing.assert_array_equal(flow.forward(restored, x)[0], flow.forward(params, x)[0])


def test_a_context_is_refused(flow, x):
    with pytest.raises(ValueError, match="context must be None"):
        flow.init(jax.random.key(0), x, jnp.ones((6, 2)))


@pytest.mark.float32
def test_layers_that_keep_statistics_are_refused(x):
    class Net(nnx.Module):
        def __init__(self, inputs, features, *, rngs):
            self.first = nnx.Linear(inputs, 8, rngs=rngs)
            self.normed = nnx.BatchNorm(8, rngs=rngs)
            self.last = nnx.Linear(8, features, rngs=rngs)

        def __call__(self, x):
            return self.last(self.normed(self.first(x)))

    class NNXNet(nn.Module):
        features: int

        @nn.compact
        def __call__(self, x):
            return nnx.bridge.ToLinen(Net, args=(x.shape[-1], self.features))(x)

    flow = glowjax.as_flow(glowjax.Coupling(glowjax.affine(), NNXNet))
    with pytest.raises(ValueError, match="which keeps batch_stats, as BatchNorm does"):
        flow.init(jax.random.key(0), x)
