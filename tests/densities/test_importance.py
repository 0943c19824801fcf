"""Importance sampling against closed forms for Gaussians."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

MODEL = glowjax.density(glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), (2,))
PARAMS = {"bias": np.zeros(2), "log_scale": -np.log(1.5) * np.ones(2)}  # N(0, 1.5²)
MEAN, LOG_Z = np.array([0.5, -0.2]), 2.0


def target(x):
    return LOG_Z + jnp.sum(distrax.Normal(MEAN, 1.0).log_prob(x), axis=-1)


def estimate(key, n=2000):
    return glowjax.importance_sampling(
        MODEL, PARAMS, target, key, n, statistic=lambda x: {"mean": x, "square": x**2}
    )


def test_estimates_and_their_stated_error():
    keys = jax.random.split(jax.random.key(0), 200)
    result = jax.jit(jax.vmap(estimate))(keys)
    np.testing.assert_allclose(jnp.mean(result.log_z), LOG_Z, atol=0.01)
    np.testing.assert_allclose(jnp.mean(result.mean["mean"], axis=0), MEAN, atol=0.01)
    np.testing.assert_allclose(jnp.mean(result.mean["square"], axis=0), 1 + MEAN**2, atol=0.02)
    np.testing.assert_allclose(jnp.std(result.log_z), jnp.mean(result.log_z_error), rtol=0.15)


@pytest.mark.slow
def test_the_target_itself_as_proposal_has_equal_weights():
    params = {"bias": -MEAN, "log_scale": np.zeros(2)}
    result = glowjax.importance_sampling(MODEL, params, target, jax.random.key(0), 10)
    np.testing.assert_allclose(result.effective_sample_size, 10, rtol=1e-9)
    np.testing.assert_allclose([result.log_z, result.log_z_error], [LOG_Z, 0], atol=1e-7)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="n must be a whole number of at least 2"):
        estimate(jax.random.key(0), 1)
