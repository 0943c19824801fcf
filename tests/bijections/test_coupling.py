"""Couplings by affine maps are their formulas, and choose their net by the input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

FORMULAS = {
    "exp": lambda raw: raw[..., 1],
    "sigmoid": lambda raw: np.log(1 / (1 + np.exp(-raw[..., 1] - 2))),
    "floor": lambda raw: np.log(0.1 + 0.9 / (1 + np.exp(-raw[..., 1] - 2))),
    "tanh": lambda raw: (1 + raw[..., 2]) * np.tanh(raw[..., 1]) + raw[..., 3],
}


@pytest.mark.parametrize("scale", FORMULAS)
def test_affine_maps_are_their_formulas(scale):
    transform = glowjax.affine(scale=scale)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(5, 3)))
    raw = jnp.asarray(rng.normal(size=(5, 3, transform.size)))
    log_scale = FORMULAS[scale](raw)
    z, log_slope = transform.forward(x, raw)
    np.testing.assert_allclose(z, (x + raw[..., 0]) * np.exp(log_scale), rtol=1e-12)
    np.testing.assert_allclose(log_slope, log_scale, rtol=1e-12)
    back, inverse_log_slope = transform.inverse(z, raw)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    np.testing.assert_allclose(inverse_log_slope, -log_scale, rtol=1e-12)


def test_shared_parameters_are_learned_once_a_channel():
    flow = glowjax.as_flow(glowjax.AffineCoupling(scale="tanh"))
    params = jax.eval_shape(flow.init, jax.random.key(0), jnp.ones((2, 4, 4, 5)))
    assert params["shared"].shape == (3, 2)  # of the channels that are mapped
    assert params["net"]["out"]["bias"].shape == (2 * 3,)  # the net gives shift and raw scale


@pytest.mark.parametrize(("shape", "layer"), [((2, 4), "dense1"), ((2, 4, 4, 2), "conv1")])
def test_the_net_is_that_of_vectors_or_of_images(shape, layer):
    flow = glowjax.as_flow(glowjax.AdditiveCoupling())
    params = jax.eval_shape(flow.init, jax.random.key(0), jnp.ones(shape))
    assert layer in params["net"]


def test_a_bound_is_of_the_plain_scale():
    with pytest.raises(ValueError, match="bound must be None for scale='tanh', got 3"):
        glowjax.affine(scale="tanh", bound=3)
