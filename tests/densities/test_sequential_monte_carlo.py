"""Sequential Monte Carlo and Hamiltonian annealed importance sampling against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import glowjax
from glowjax.densities.annealing_path import Particles, resampled
from glowjax.densities.hamiltonian import hamiltonian_move

MODEL = glowjax.density(glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), (2,))
PARAMS = {"bias": np.zeros(2), "log_scale": -np.log(1.5) * np.ones(2)}  # N(0, 1.5²)
MEAN, SCALE, LOG_Z = np.array([2.0, -1.5]), 0.4, 2.0


def rising(number):
    """β_k = (k/K)²: the first change, from the wide density, is the hardest."""
    return np.linspace(0, 1, number + 1)[1:] ** 2


SEVERAL = {
    "SMC": {"ess_threshold": 0.5, "temperatures": rising(8)},
    "SMC, always resampled": {"ess_threshold": 1.0, "temperatures": rising(8)},
    "HAIS": {"persistence": 0.9, "leapfrog_steps": 1, "temperatures": rising(30)},
    "both": {"persistence": 0.5, "ess_threshold": 0.9, "temperatures": rising(6)},
}


def target(x):
    return LOG_Z + jnp.sum(norm.logpdf(x, MEAN, SCALE), axis=-1)


def estimate(key, n=200, **options):
    return glowjax.annealed_importance_sampling(
        MODEL,
        PARAMS,
        target,
        key,
        n,
        step_size=0.25,
        statistic=lambda x: {"mean": x, "square": x**2},
        **options,
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, id=name, marks=[pytest.mark.slow] * (name != "both"))
        for name, options in SEVERAL.items()
    ],
)
def test_estimates_are_right_on_average_and_their_errors_are_not_too_small(options):
    keys = jax.random.split(jax.random.key(0), 100)
    found = jax.jit(jax.vmap(lambda key: estimate(key, **options)))(keys)
    ratio = jnp.exp(found.log_z - LOG_Z)  # its mean is 1 for any n
    error = jnp.std(ratio) / 10
    assert error < 0.03 and abs(jnp.mean(ratio) - 1) < 3.5 * error
    np.testing.assert_allclose(jnp.mean(found.mean["mean"], axis=0), MEAN, atol=0.02)
    second = SCALE**2 + MEAN**2
    np.testing.assert_allclose(jnp.mean(found.mean["square"], axis=0), second, atol=0.06)
    assert 0.8 < jnp.mean(found.log_z_error) / jnp.std(found.log_z) < 2.5


def test_resampling_keeps_sums_and_draws_each_as_often_as_it_weighs():
    log_w = jnp.array([0.0, 1.0, -2.0, 3.0, -jnp.inf])
    x = jnp.arange(5.0)[:, None]
    state = Particles(x, 2 * x, log_w, log_w, log_w, jnp.arange(5))
    keys = jax.random.split(jax.random.key(0), 4000)
    found = jax.vmap(lambda key: resampled(key, state, 1.0))(keys)
    expected = 5 * jax.nn.softmax(log_w)
    counts = jnp.sum(found.ancestors[..., None] == jnp.arange(5), axis=1)
    assert jnp.all((counts >= jnp.floor(expected)) & (counts <= jnp.ceil(expected)))
    np.testing.assert_allclose(jnp.mean(counts, axis=0), expected, atol=0.03)
    np.testing.assert_allclose(found.log_w, glowjax.log_mean_exp(log_w), rtol=1e-12)
    for name, times in (("x", 1), ("momentum", 2)):
        moved = getattr(found, name)[..., 0]
        np.testing.assert_array_equal(moved, times * found.ancestors)


def test_samples_are_drawn_anew_only_below_the_threshold():
    log_w = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1]))  # of 3.33 effective samples
    x = jnp.arange(4.0)[:, None]
    state = Particles(x, x, log_w, log_w, log_w, jnp.arange(4))
    for threshold, same in ((0.83, True), (0.84, False)):
        found = resampled(jax.random.key(1), state, threshold)
        assert bool(jnp.all(found.log_w == log_w)) is same


def test_one_temperature_is_importance_sampling_and_its_figures_agree():
    def annealed(key):  # under jit, as users have it
        betas, sizes = jnp.ones(1), jnp.ones(0)
        return glowjax.anneal(MODEL, PARAMS, target, key, 50, temperatures=betas, step_size=sizes)

    found = jax.jit(annealed)(jax.random.key(0))
    assert found.accepted.shape == (0,)
    np.testing.assert_allclose(found.ess, found.conditional_ess, rtol=1e-9)
    np.testing.assert_allclose(found.ess, glowjax.effective_sample_size(found.log_w), rtol=1e-9)
    np.testing.assert_allclose(found.increments, jnp.mean(found.log_w), rtol=1e-9)


@pytest.mark.slow
def test_a_weight_of_nothing_stays_so():
    def half(x):
        return jnp.where(x[:, 0] > 0, norm.logpdf(x).sum(-1), -jnp.inf)

    found = glowjax.anneal(
        MODEL, PARAMS, half, jax.random.key(0), 500, temperatures=3, ess_threshold=0.1
    )
    assert jnp.all(jnp.isneginf(found.log_w[found.x[:, 0] <= 0]))
    assert not jnp.any(jnp.isnan(found.increments))
    np.testing.assert_allclose(jnp.exp(glowjax.log_mean_exp(found.log_w)), 0.5, atol=0.07)


@pytest.mark.slow
def test_momentum_that_is_kept_makes_the_weights_of_short_moves_more_equal():
    def size(persistence):
        options = {"temperatures": rising(60), "leapfrog_steps": 1, "persistence": persistence}
        found = [estimate(key, **options) for key in jax.random.split(jax.random.key(0), 4)]
        return np.mean([one.effective_sample_size for one in found])

    assert size(0.8) > 1.1 * size(0.0)


@pytest.mark.slow
def test_tuned_temperatures_are_equally_hard_and_leave_more_effective_samples():
    def ended(betas):
        found = glowjax.anneal(
            MODEL, PARAMS, target, jax.random.key(1), 2000, temperatures=betas, step_size=0.25
        )
        return found.conditional_ess / 2000

    even = ended(6)
    betas = glowjax.tuned_temperatures(
        MODEL, PARAMS, target, jax.random.key(0), 1000, temperatures=6, step_size=0.25
    )
    tuned = ended(betas)
    assert betas.shape == (6,) and betas[-1] == 1 and jnp.all(jnp.diff(betas) > 0)
    assert jnp.max(tuned) - jnp.min(tuned) < 0.2 < jnp.max(even) - jnp.min(even)
    assert jnp.min(tuned) > 2 * jnp.min(even)


@pytest.mark.parametrize("persistence", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_a_move_leaves_samples_and_momenta_as_they_are_distributed(persistence):
    def log_p(x):
        return norm.logpdf(x).sum()

    def step(state, key):
        keys = jax.random.split(key, 20_000)
        x, v, accepted = jax.vmap(
            lambda key, x, v: hamiltonian_move(
                key, x, v, log_p, jnp.array(1.7), leapfrog_steps=1, persistence=persistence
            )
        )(keys, *state)
        return (x, v), jnp.mean(accepted)

    start = tuple(jax.random.normal(jax.random.key(0), (2, 20_000, 1)))
    (x, v), accepted = jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 20))
    assert 0.3 < jnp.mean(accepted) < 0.9
    for a in (x, v):
        np.testing.assert_allclose(jnp.mean(a), 0, atol=0.03)
        np.testing.assert_allclose(jnp.mean(a**2), 1, atol=0.04)
        np.testing.assert_allclose(jnp.mean(a**4), 3, atol=0.25)
    np.testing.assert_allclose(jnp.mean(x * v), 0, atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"persistence": 1.0}, r"persistence must be in \[0, 1\), got 1.0"),
        ({"ess_threshold": 50}, r"ess_threshold must be in \[0, 1\], got 50"),
        ({"ess_threshold": 0.5, "context": np.ones((5, 1))}, "ess_threshold must be 0 where"),
        ({"temperatures": np.array([0.5, 0.9])}, "temperatures must be a whole number, or rise"),
        ({"temperatures": np.array([0.5, 0.5, 1.0])}, "temperatures must be a whole number"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        glowjax.anneal(MODEL, PARAMS, target, jax.random.key(0), 5, **options)
