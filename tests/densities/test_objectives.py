"""Objectives against closed forms for Gaussians."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

MODEL = glowjax.density(glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), (1,))
MEAN, STD, LOG_Z = 0.4, 1.2, 1.3
PARAMS = {"bias": np.array([-MEAN]), "log_scale": -np.log(np.array([STD]))}
N = 20_000


def target(x):
    """N(0, 1), times Z = exp(1.3)."""
    return LOG_Z + distrax.Normal(0.0, 1.0).log_prob(x[:, 0])


def kl(q_mean, q_std, p_mean, p_std):
    """KL(N(q)‖N(p))."""
    return np.log(p_std / q_std) + (q_std**2 + (q_mean - p_mean) ** 2) / (2 * p_std**2) - 0.5


def renyi(alpha):
    """D_α(N(MEAN, STD²)‖N(0, 1)) (Gil et al. 2013)."""
    variance = alpha + (1 - alpha) * STD**2
    return -np.log(STD) + np.log(variance) / (2 * (1 - alpha)) + alpha * MEAN**2 / (2 * variance)


def test_forward_kl_is_the_cross_entropy():
    x = MEAN + STD * jax.random.normal(jax.random.key(0), (N, 1))
    entropy = 0.5 * np.log(2 * np.pi * np.e * STD**2)
    np.testing.assert_allclose(glowjax.forward_kl(MODEL, PARAMS, x), entropy, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_reverse_kl_and_its_gradient(beta):
    def loss(params):
        return glowjax.reverse_kl(MODEL, params, target, jax.random.key(0), N, beta=beta)

    def exact(params):
        mean, std = -params["bias"][0], jnp.exp(-params["log_scale"][0])
        cross = 0.5 * jnp.log(2 * jnp.pi) + (std**2 + mean**2) / 2 - LOG_Z
        return beta * cross - 0.5 * jnp.log(2 * jnp.pi * jnp.e * std**2)

    value, gradient = jax.value_and_grad(loss)(PARAMS)
    expected, expected_gradient = jax.value_and_grad(exact)(PARAMS)
    np.testing.assert_allclose(value, expected, atol=0.02)
    for name, g in gradient.items():
        np.testing.assert_allclose(g, expected_gradient[name], atol=0.03)
    if beta == 1:
        np.testing.assert_allclose(value, kl(MEAN, STD, 0, 1) - LOG_Z, atol=0.02)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_alpha_divergence(alpha):
    value = glowjax.alpha_divergence(MODEL, PARAMS, target, jax.random.key(0), N, alpha=alpha)
    np.testing.assert_allclose(value, renyi(alpha) - LOG_Z, atol=0.03)


@pytest.mark.slow
def test_importance_weighted_bound_rises_to_log_z():
    def bound(n):
        keys = jax.random.split(jax.random.key(0), N // n)
        f = glowjax.importance_weighted_bound
        return jnp.mean(jax.vmap(lambda k: f(MODEL, PARAMS, target, k, n))(keys))

    bounds = [bound(n) for n in (1, 4, 32)]
    np.testing.assert_allclose(bounds[0], LOG_Z - kl(MEAN, STD, 0, 1), atol=0.02)
    assert bounds[0] < bounds[1] < bounds[2] < LOG_Z + 0.01
    np.testing.assert_allclose(bounds[2], LOG_Z, atol=0.03)


def test_effective_sample_size():
    log_w = jnp.log(jnp.asarray([1.0, 1.0, 2.0]))
    np.testing.assert_allclose(glowjax.effective_sample_size(log_w + 800), 16 / 6, rtol=1e-12)
    assert glowjax.effective_sample_size(jnp.asarray([0.0, -1e9])) == 1


@pytest.mark.parametrize("shape", ["()", "(4, 1)"])
@pytest.mark.parametrize(
    "objective",
    [
        glowjax.reverse_kl,
        glowjax.alpha_divergence,
        glowjax.importance_weighted_bound,
        glowjax.importance_sampling,
        glowjax.annealed_importance_sampling,
    ],
)
def test_a_target_that_is_not_of_each_point_is_refused(objective, shape):
    def wrong(x):
        return jnp.sum(x) if shape == "()" else x

    with pytest.raises(ValueError, match=r"^target must give .* of shape \(4,\), got") as refusal:
        objective(MODEL, PARAMS, wrong, jax.random.key(0), 4)
    assert f"of shape {shape} for points of shape (4, 1)" in str(refusal.value)


def test_alpha_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\), got 1"):
        glowjax.alpha_divergence(MODEL, PARAMS, target, jax.random.key(0), 2, alpha=1.0)
