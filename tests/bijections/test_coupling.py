"""Couplings by affine maps are their formulas, and choose their net by the input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

FORMULAS = {
    "exp": lambda raw: raw[..., 1],
    "sigmoid": lambda raw: np.log(1 / (1 + np.exp(-raw[..., 1] - 2))),
    "double_sigmoid": lambda raw: np.log(2 / (1 + np.exp(-raw[..., 1]))),
    "softplus": lambda raw: np.log(np.log1p(np.exp(raw[..., 1]))),
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


@pytest.mark.parametrize("scale", ["sigmoid", "softplus"])
def test_a_scale_may_have_a_least_value_and_the_shift_may_come_last(scale):
    transform = glowjax.affine(scale=scale, least=0.01, shift="last")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(5, 3)))
    raw = jnp.asarray(rng.normal(size=(5, 3, 2)))
    raw = raw.at[0, 0, 1].set(-60.0)  # where the least value is all that is left
    expected = 0.01 + np.exp(FORMULAS[scale](raw))
    z, log_slope = transform.forward(x, raw)
    np.testing.assert_allclose(z, x * expected + raw[..., 0], rtol=1e-12)
    np.testing.assert_allclose(log_slope, np.log(expected), rtol=1e-12)
    back, inverse_log_slope = transform.inverse(z, raw)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    np.testing.assert_allclose(inverse_log_slope, -log_slope, rtol=1e-12)


@pytest.mark.parametrize("module", [glowjax.Coupling, glowjax.Autoregressive])
def test_what_must_be_called_first_is_told(module: Any):
    elementwise: Any = glowjax.ElementwiseFlow
    with pytest.raises(ValueError, match="transform must be an Elementwise, as affine"):
        glowjax.as_flow(module(glowjax.affine))
    with pytest.raises(ValueError, match=r"net must be a function that makes a module.*a MLP"):
        glowjax.as_flow(module(glowjax.affine(), net=glowjax.MLP(4)))
    with pytest.raises(ValueError, match="transform must be an Elementwise, as affine"):
        glowjax.as_flow(elementwise(glowjax.affine))


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "tanh", "bound": 3}, "bound must be None for scale='tanh', got 3"),
        ({"least": 0.1}, "least must be 0 for scale='exp', got 0.1"),
        ({"scale": "sigmoid", "least": -1}, r"least must be in \[0, inf\), got -1"),
        ({"shift": "middle"}, "shift must be one of 'first', 'last', got 'middle'"),
    ],
)
def test_options_of_an_affine_map_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        glowjax.affine(**options)
