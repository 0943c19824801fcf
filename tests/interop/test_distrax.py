"""Flows in distrax, and bijectors of distrax and TensorFlow Probability as flows."""

from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorflow_probability.substrates import jax as tfp

import glowjax
from glowjax.interop.distrax import from_distrax, to_distrax
from glowjax.testing import check_flow

NO_FLOW: Any = glowjax.ConvNet(2)


@pytest.fixture
def vectors():
    flow = glowjax.realnvp_mlp(steps=2, width=8)
    x = jax.random.normal(jax.random.key(0), (6, 3))
    params = flow.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: p + 0.01, params)
    return flow, params, x


def test_a_flow_is_a_bijector(vectors):
    flow, params, x = vectors
    bijector = to_distrax(flow, params)
    for shape in ((6, 3), (2, 3, 3), (3,)):
        batch = x[: np.prod(shape[:-1], dtype=int)].reshape(shape)
        z, log_det = bijector.forward_and_log_det(batch)
        assert z.shape == shape and log_det.shape == shape[:-1]
        back, minus = bijector.inverse_and_log_det(z)
        np.testing.assert_allclose(back, batch, atol=1e-10)
        np.testing.assert_allclose(minus, -log_det, atol=1e-10)
    z, log_det = flow.forward(params, x)
    np.testing.assert_array_equal(bijector.forward(x), z)
    np.testing.assert_array_equal(bijector.forward_log_det_jacobian(x), log_det)


def test_distrax_makes_the_same_density(vectors):
    flow, params, x = vectors
    base = distrax.MultivariateNormalDiag(jnp.zeros(3), jnp.ones(3))
    transformed = distrax.Transformed(base, distrax.Inverse(to_distrax(flow, params)))
    model = glowjax.density(flow, (3,))
    np.testing.assert_allclose(transformed.log_prob(x), model.log_prob(params, x), rtol=1e-9)
    samples, log_prob = transformed.sample_and_log_prob(seed=jax.random.key(0), sample_shape=(4, 2))
    assert samples.shape == (4, 2, 3)
    np.testing.assert_allclose(
        log_prob, model.log_prob(params, samples.reshape(8, 3)).reshape(4, 2), rtol=1e-9
    )


def test_flows_and_bijectors_make_chains(vectors):
    flow, params, x = vectors
    both = distrax.Chain([distrax.Block(distrax.Tanh(), 1), to_distrax(flow, params)])
    z, log_det = both.forward_and_log_det(x)
    expected, first = flow.forward(params, x)
    np.testing.assert_allclose(z, jnp.tanh(expected))
    np.testing.assert_allclose(log_det, first + jnp.sum(jnp.log(1 - jnp.tanh(expected) ** 2), -1))


def test_images_have_three_event_axes():
    flow = glowjax.as_flow(glowjax.InvertibleConv1x1())
    x = jax.random.normal(jax.random.key(0), (4, 2, 2, 3))
    params = flow.init(jax.random.key(1), x)
    bijector = to_distrax(flow, params, event_ndims=3)
    assert bijector.forward_log_det_jacobian(x.reshape(2, 2, 2, 2, 3)).shape == (2, 2)


def test_latents_of_several_arrays_are_refused():
    flow = glowjax.as_flow(glowjax.Split())
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 2))
    params = flow.init(jax.random.key(1), x)
    with pytest.raises(ValueError, match="flow must be one with a single array of latents"):
        to_distrax(flow, params, event_ndims=3).forward(x)


def matrix():
    weight = jnp.array([[2.0, 0.5, 0.1], [0.3, 1.0, 0.0], [0.2, 0.1, 1.5]], jnp.float32)
    return distrax.LowerUpperTriangularAffine(weight, jnp.ones(3, jnp.float32))


BIJECTORS = {  # made in the test, where numbers are of float64
    "numbers": lambda: distrax.Lambda(jnp.sinh),
    "block": lambda: distrax.Block(distrax.ScalarAffine(1.0, 2.0), 1),
    "matrix": matrix,
    "tfp numbers": tfp.bijectors.Softplus,
    "tfp chain": lambda: tfp.bijectors.Chain(
        [tfp.bijectors.Scale(jnp.float32(2)), tfp.bijectors.Exp()]
    ),
    "function": lambda: jnp.tanh,
}


@pytest.mark.float32  # bijectors with constants keep their dtype
@pytest.mark.parametrize("name", BIJECTORS)
def test_a_bijector_is_a_flow(name):
    bijector = distrax.as_bijector(BIJECTORS[name]())
    flow = from_distrax(bijector)
    x = 0.5 * jax.random.normal(jax.random.key(0), (5, 3))
    params = flow.init(jax.random.key(0), x)
    z, log_det = flow.forward(params, x)
    np.testing.assert_array_equal(z, bijector.forward(x))
    jacobians = jax.vmap(jax.jacfwd(bijector.forward))(x)
    np.testing.assert_allclose(log_det, jnp.linalg.slogdet(jacobians)[1], rtol=1e-5, atol=1e-5)
    back, minus = flow.inverse(params, z)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(minus, -log_det, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["numbers", "tfp numbers"])
def test_a_bijector_passes_the_harness(name):
    check_flow(from_distrax(BIJECTORS[name]()), jax.random.normal(jax.random.key(0), (5, 3)))


def test_a_bijector_goes_into_a_chain(vectors):
    flow, _, x = vectors
    both = glowjax.chain(positive=from_distrax(distrax.Inverse(tfp.bijectors.Exp())), rest=flow)
    model = glowjax.density(both, (3,))
    data = jnp.exp(x)
    params = model.init(jax.random.key(0), data)
    expected = glowjax.density(flow, (3,)).log_prob(params["rest"], x) - jnp.sum(x, axis=1)
    np.testing.assert_allclose(model.log_prob(params, data), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: from_distrax(None), "bijector must be one of distrax or TFP"),
        (lambda: from_distrax(matrix(), event_ndims=0), "event_ndims must be"),
        (lambda: to_distrax(NO_FLOW, {}), "flow must be a Flow"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
