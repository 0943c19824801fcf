"""Tweedie's formula against the exact means of clean data; refusals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

DEVIATION = np.array([0.5, 2.0])
MEAN = np.array([1.0, -3.0])


def noisy_gaussian(noise):
    """The density of y = x + σ·ε, x from N(MEAN, DEVIATION²), and its parameters."""
    model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(2,))
    whole = jnp.asarray(DEVIATION**2 + noise**2)
    return model, {
        "log_scale": -jnp.log(whole) / 2,
        "bias": -jnp.asarray(MEAN),
        "shift": jnp.zeros(2),
    }


@pytest.mark.quick
@pytest.mark.parametrize("noise", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("batch", [(4,), (2, 3)])
def test_of_a_gaussian_it_is_the_exact_mean(noise, batch):
    model, params = noisy_gaussian(noise)
    y = 3 * jax.random.normal(jax.random.key(0), (*batch, 2))
    share = DEVIATION**2 / (DEVIATION**2 + noise**2)
    found = glowjax.tweedie(model, params, y, noise)
    np.testing.assert_allclose(found, MEAN + share * (y - MEAN), rtol=1e-12, atol=1e-12)


class AroundContext(nn.Module):
    """z = (y - context) / √2."""

    def forward(self, y, context):
        return (y - context) / 2**0.5, jnp.full(len(y), -jnp.log(2.0))

    def inverse(self, z, context):
        return 2**0.5 * z + context, jnp.full(len(z), jnp.log(2.0))


def test_each_example_has_its_context():
    """With x from N(c, 1) and ε from N(0, 1), the mean of x is halfway between y and c."""
    model = glowjax.density(glowjax.as_flow(AroundContext()), event_shape=(2,))
    y, context = (jax.random.normal(jax.random.key(seed), (3, 2)) for seed in (0, 1))
    found = glowjax.tweedie(model, {}, y, 1.0, context)
    np.testing.assert_allclose(found, (y + context) / 2, rtol=1e-12)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), None])
def test_a_noise_that_is_no_deviation_is_refused(noise):
    model, params = noisy_gaussian(1.0)
    with pytest.raises(ValueError, match=r"noise must be in \[0, inf\), got"):
        glowjax.tweedie(model, params, jnp.ones((1, 2)), noise)
