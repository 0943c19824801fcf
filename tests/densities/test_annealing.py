"""Annealed importance sampling against closed forms, and `fab` against its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import glowjax
from glowjax.densities import targets

MODEL = glowjax.density(glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), (2,))
PARAMS = {"bias": np.zeros(2), "log_scale": -np.log(1.5) * np.ones(2)}  # N(0, 1.5²)
MEAN, SCALE, LOG_Z = np.array([2.0, -1.5]), 0.4, 2.0


def target(x):
    return LOG_Z + jnp.sum(norm.logpdf(x, MEAN, SCALE), axis=-1)


def drawn(target, n):
    assert target.sample is not None
    return target.sample(jax.random.key(0), n)


def estimate(key, temperatures, n=200):
    return glowjax.annealed_importance_sampling(
        MODEL,
        PARAMS,
        target,
        key,
        n,
        temperatures=temperatures,
        step_size=0.25,
        statistic=lambda x: {"mean": x, "square": x**2},
    )


def test_estimates_and_their_stated_error():
    keys = jax.random.split(jax.random.key(0), 100)
    result = jax.jit(jax.vmap(lambda key: estimate(key, 10)))(keys)
    np.testing.assert_allclose(jnp.mean(jnp.exp(result.log_z - LOG_Z)), 1, atol=0.03)
    np.testing.assert_allclose(jnp.mean(result.mean["mean"], axis=0), MEAN, atol=0.02)
    second = SCALE**2 + MEAN**2
    np.testing.assert_allclose(jnp.mean(result.mean["square"], axis=0), second, atol=0.06)
    np.testing.assert_allclose(jnp.std(result.log_z), jnp.mean(result.log_z_error), rtol=0.3)


@pytest.mark.slow
def test_more_temperatures_make_weights_more_equal_and_one_is_importance_sampling():
    key = jax.random.key(1)
    sizes = [float(estimate(key, k, 1000).effective_sample_size) for k in (1, 4, 16)]
    assert sizes[0] < 0.5 * sizes[1] < 0.4 * sizes[2]
    plain = glowjax.importance_sampling(MODEL, PARAMS, target, jax.random.split(key)[1], 1000)
    np.testing.assert_allclose(estimate(key, 1, 1000).log_z, plain.log_z, rtol=1e-9)


def test_the_target_itself_has_equal_weights_and_keeps_its_samples():
    def same(x):
        return MODEL.log_prob(PARAMS, x) + LOG_Z

    found = glowjax.anneal(MODEL, PARAMS, same, jax.random.key(0), 2000, step_size=1.0)
    np.testing.assert_allclose(found.log_w, LOG_Z, atol=1e-9)
    np.testing.assert_allclose(jnp.std(found.x, axis=0), 1.5, rtol=0.06)
    assert 0.5 < float(found.accepted.min()) < 1


def test_tuned_steps_are_accepted_as_often_as_is_best():
    sizes = glowjax.tuned_step_size(MODEL, PARAMS, target, jax.random.key(0), 200, rounds=40)
    assert sizes.shape == (7,)
    found = glowjax.anneal(MODEL, PARAMS, target, jax.random.key(1), 2000, step_size=sizes)
    np.testing.assert_allclose(found.accepted, 0.65, atol=0.08)


def test_a_density_given_a_context_is_annealed():
    flow = glowjax.as_flow(glowjax.Coupling(glowjax.affine(), glowjax.MLP))
    model = glowjax.density(flow, (2,))
    context = jnp.linspace(-1, 1, 50)[:, None]
    params = model.init(jax.random.key(0), jnp.zeros((50, 2)), context)
    found = glowjax.anneal(
        model, params, target, jax.random.key(1), 50, temperatures=3, context=context
    )
    assert found.x.shape == (50, 2) and bool(jnp.all(jnp.isfinite(found.log_w)))


@pytest.mark.slow
def test_the_gradient_of_fab_is_that_of_the_mass_of_p2_over_q():
    def mass(params):  # ln of the integral of p²/q, on a grid, with q unnormalised by nothing
        x, area = targets.grid((-9, 9), 300)
        log_p = jnp.sum(norm.logpdf(x, 0.3, 1.0), axis=-1)
        return jax.nn.logsumexp(2 * log_p - MODEL.log_prob(params, x)) + jnp.log(area)

    def loss(params, key):
        def p(x):
            return jnp.sum(norm.logpdf(x, 0.3, 1.0), axis=-1)

        return glowjax.fab(MODEL, params, p, key, 2000, temperatures=4, step_size=0.5)

    keys = jax.random.split(jax.random.key(0), 20)
    found = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(PARAMS, keys)
    for name, expected in jax.grad(mass)(PARAMS).items():
        np.testing.assert_allclose(found[name].mean(axis=0), expected, atol=0.02)


@pytest.mark.slow
def test_fab_finds_a_mode_that_reverse_kl_leaves_out():
    model = glowjax.density(glowjax.realnvp_mlp(steps=4, width=32), (2,))
    wells = targets.many_wells(1)

    def fitted(loss):
        def of_step(params, batch, key, step):
            return loss(model, params, wells.log_prob, key, 64)

        fit = glowjax.fit(model, loss=of_step, steps=300, show=False)
        x = model.sample(fit.params, jax.random.key(1), 1000)
        return float(jnp.mean(x[:, 0] > 0))  # 85 % of the target's mass

    truth = float(jnp.mean(drawn(wells, 20_000)[:, 0] > 0))
    assert fitted(glowjax.fab) == pytest.approx(truth, abs=0.1)
    assert fitted(glowjax.reverse_kl) > 0.99


@pytest.mark.slow
def test_wells_have_the_mass_and_the_samples_that_they_say():
    wells = targets.many_wells(1)
    assert float(targets.grid_log_normalizer(wells._replace(extent=(-9, 9)), 1000)) == (
        pytest.approx(np.log(11784.509) + 0.5 * np.log(2 * np.pi), abs=1e-4)
    )
    x = drawn(targets.many_wells(3), 50_000)
    grid, _ = targets.grid((-9, 9), 1000)
    weights = jax.nn.softmax(wells.log_prob(grid))
    for pair in range(3):
        for power in (1, 2):
            moment = jnp.sum(weights[:, None] * grid**power, axis=0)
            part = x[:, 2 * pair : 2 * pair + 2] ** power
            np.testing.assert_allclose(part.mean(axis=0), moment, atol=0.03)
    at = targets.many_wells(3).log_prob(x[:5])
    parts = [wells.log_prob(x[:5, i : i + 2]) for i in (0, 2, 4)]
    np.testing.assert_allclose(at, sum(parts), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": 0}, "temperatures must be a whole number of at least 1, got 0"),
        ({"leapfrog_steps": 0}, "leapfrog_steps must be a whole number of at least 1, got 0"),
        ({"step_size": -0.1}, "step_size must be finite and above 0, got -0.1"),
        ({"step_size": np.ones(3)}, r"step_size must be one, or of shape \(7,\), got \(3,\)"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        glowjax.anneal(MODEL, PARAMS, target, jax.random.key(0), 5, **options)


def test_wells_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"x must be of shape \[..., 8\]"):
        targets.many_wells().log_prob(jnp.zeros((2, 6)))


@pytest.mark.parametrize("wrong", ["sum", "column", "one", "nothing"])
def test_fab_refuses_a_target_that_is_not_one_number_a_point(wrong):
    def target(x):
        log_p = jnp.sum(norm.logpdf(x), axis=-1)
        return {"sum": log_p.sum(), "column": log_p[:, None], "one": log_p[:1]}.get(wrong)

    with pytest.raises(ValueError, match=r"target must give log p̃ of each of 16 points"):
        glowjax.fab(MODEL, PARAMS, target, jax.random.key(1), 16, temperatures=2, step_size=0.5)
