"""Block autoregressive flows: against their formula, triangular, exact near and far."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax import BlockAutoregressive, BlockLayer, as_flow
from glowjax.testing import moved

FLOW = as_flow(BlockAutoregressive(width=3, depth=2))
D = 3


def drawn(scale=1.0, noise=0.5):
    x = scale * np.random.default_rng(0).normal(size=(20, D))
    x = jnp.asarray(x, jnp.result_type(float))
    return moved(jax.jit(FLOW.init)(jax.random.key(0), x), noise), x


def by_numpy(params, x):
    """z of one example, unit by unit."""
    units = [[value] for value in x]
    for layer in (1, 2, 3):
        weight, bias = (np.asarray(params[f"{kind}{layer}"]) for kind in ("weight", "bias"))
        sums = [
            [
                bias[i, m]
                + sum(np.exp(weight[i, n, i, m]) * h for n, h in enumerate(units[i]))
                + sum(weight[j, n, i, m] * h for j in range(i) for n, h in enumerate(units[j]))
                for m in range(bias.shape[1])
            ]
            for i in range(D)
        ]
        units = [[np.tanh(a) for a in row] for row in sums]
    return np.exp(params["log_scale"]) * x + np.array(sums)[:, 0]


def test_is_its_formula():
    params, x = drawn()
    z, _ = jax.jit(FLOW.forward)(params, x)
    np.testing.assert_allclose(z, [by_numpy(params, row) for row in np.asarray(x)], rtol=1e-12)


@pytest.mark.slow
def test_a_number_depends_on_those_before_and_grows_with_itself():
    params, x = drawn()
    jacobian = jax.jit(jax.vmap(jax.jacrev(lambda x: FLOW.forward(params, x[None])[0][0])))(x)
    assert np.all(np.triu(jacobian, 1) == 0)
    assert np.all(np.tril(jacobian)[:, *np.tril_indices(D)] != 0)
    scale = np.exp(params["log_scale"])
    assert np.all(np.diagonal(jacobian, axis1=1, axis2=2) > scale)
    slopes = np.log(np.diagonal(jacobian, axis1=1, axis2=2)).sum(axis=1)
    np.testing.assert_allclose(jax.jit(FLOW.log_det)(params, x), slopes, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e6])
def test_round_trips_near_and_far_in_float32(scale):
    """Rounding of z is of the size of z and of the sums in it, some ten."""
    params, x = drawn(scale)

    @jax.jit
    def both(x):
        z, log_det = FLOW.forward(params, x)
        return z, log_det, *FLOW.inverse(params, z)

    z, log_det, back, inverse_log_det = map(np.asarray, both(x))
    assert z.dtype == back.dtype == log_det.dtype == np.float32
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-5 * max(1, scale))
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-3)


@pytest.mark.slow
def test_every_latent_has_an_example():
    params, _ = drawn(noise=2.0)
    z = jnp.array([[-1e4, 1e4, 0], [3e2, -50, 1e3], [0, 0, 0], [-7, 7, -7.0]])
    x, _ = jax.jit(FLOW.inverse)(params, z)
    np.testing.assert_allclose(jax.jit(FLOW.forward)(params, x)[0], z, rtol=1e-9, atol=1e-9)


def test_what_is_not_finite_is_no_plausible_number():
    params, x = drawn()
    x = x.at[0, 0].set(np.nan)
    assert np.all(np.isnan(jax.jit(FLOW.forward)(params, x)[1][:1]))
    assert np.all(np.isnan(jax.jit(FLOW.inverse)(params, x)[0][0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"depth": 1.5}, "depth must be a whole number of at least 1, got 1.5"),
    ],
)
def test_refuses_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        as_flow(BlockAutoregressive(**options)).init(jax.random.key(0), jnp.ones((2, 3)))


def test_refuses_other_arrays(as_users_call):
    flow = as_flow(BlockAutoregressive())
    with pytest.raises(ValueError, match=r"x must be of shape \[B, D\], got \(2, 4, 4, 1\)"):
        flow.init(jax.random.key(0), jnp.ones((2, 4, 4, 1)))
    with pytest.raises(ValueError, match=r"context must be floats of shape \(2, F\)"):
        flow.init(jax.random.key(0), jnp.ones((2, 3)), jnp.ones((5, 3)))
    layer = BlockLayer(jnp.ones((3, 1, 3, 1)), jnp.ones((3, 1)))
    for apply in glowjax.block_autoregressive_forward, glowjax.block_autoregressive_inverse:
        with pytest.raises(ValueError, match=r"number of layers must be .* at least 2, got 1"):
            apply(jnp.ones((2, 3)), (layer,), jnp.zeros(3))
