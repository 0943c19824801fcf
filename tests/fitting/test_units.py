"""The same data in other units train to the same density, less the change of units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_MLP

import glowjax
from glowjax import as_flow

UNITS = [(1e-8, 0.0), (1e8, 0.0), (1.0, 1e6), (1e-4, -1e5)]  # scale, and offset in scales
TOLERANCE = 0.02  # nats, of what is learned in single precision

COUPLING = as_flow(glowjax.AffineCoupling(SMALL_MLP, scale="tanh"))
FLOWS = {
    "maf": glowjax.maf(steps=2, width=8, depth=1),
    "realnvp_mlp": glowjax.realnvp_mlp(steps=2, width=8, depth=1),
    "actnorm": as_flow(glowjax.ActNorm()),
    "planar": glowjax.repeat(as_flow(glowjax.Planar()), 2),
    "planar, then actnorm": glowjax.chain(as_flow(glowjax.Planar()), as_flow(glowjax.ActNorm())),
    "coupling": glowjax.chain(COUPLING, as_flow(glowjax.Reverse()), COUPLING),
}


def ring(n, seed):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    noise = 0.2 * rng.normal(size=(n, 2))
    return np.stack([2 * np.cos(angle), np.sin(angle)], axis=1) + noise


def held_out_nats(model, scale, offset, **options):
    """What `fit` reaches in these units, and the parameters, in units of 1."""
    train, held_out = ((ring(n, n) + offset) * scale for n in (700, 500))
    fitted = glowjax.fit(
        model, train, validation=held_out, steps=60, batch_size=64, show=False, **options
    )
    log_p = model.log_prob(fitted.params, jnp.asarray(held_out))
    return float(-np.mean(log_p)) - 2 * np.log(scale), fitted


SLOW = ("realnvp_mlp", "coupling")


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.exhaustive] * (n in SLOW)) for n in FLOWS]
)
def test_units_do_not_matter(name):
    model = glowjax.density(FLOWS[name], (2,))
    at_one, _ = held_out_nats(model, 1.0, 0.0)
    assert at_one < 4  # finite, and in the region of the entropy
    others = [held_out_nats(model, *units)[0] for units in UNITS]
    np.testing.assert_allclose(others, at_one, atol=TOLERANCE)


@pytest.mark.float32
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_actnorm_makes_latents_standard_in_any_units(scale):
    x = jnp.asarray((ring(500, 0) + 3) * scale, jnp.float32)
    flow = as_flow(glowjax.ActNorm())
    z, _ = flow.forward(flow.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(np.mean(z, 0), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(z, 0), 1, rtol=1e-5)


@pytest.mark.slow
def test_standardized_parameters_serve_every_function_of_a_density():
    model = glowjax.density(FLOWS["planar"], (2,))
    _, fitted = held_out_nats(model, 1e-3, 10.0)
    params = fitted.params
    assert isinstance(params, glowjax.Standardized)
    x = jnp.asarray((ring(50, 3) + 10) * 1e-3)
    np.testing.assert_allclose(model.decode(params, model.encode(params, x)), x, rtol=1e-9)
    drawn, log_p = model.sample_and_log_prob(params, jax.random.key(1), 200)
    np.testing.assert_allclose(log_p, model.log_prob(params, drawn), rtol=1e-6)
    np.testing.assert_allclose(np.mean(drawn, 0), np.mean(x, 0), rtol=0.1)
    again = model.sample(params, jax.random.key(2), 200)
    np.testing.assert_allclose(np.std(again, 0), [1.4e-3, 0.7e-3], rtol=0.5)


def test_a_flow_refuses_standardized_parameters():
    flow, x = as_flow(glowjax.Coupling(glowjax.rational_quadratic())), np.eye(2)
    standardized = glowjax.Standardized(jnp.zeros(2), jnp.ones(2), flow.init(jax.random.key(0), x))
    flow.forward(standardized.params, x)
    with pytest.raises(ValueError, match=r"params of Coupling must be a dict.*got a Standardized"):
        flow.forward(standardized, x)


@pytest.mark.slow
def test_training_goes_on_from_standardized_parameters():
    model = glowjax.density(FLOWS["planar"], (2,))
    first, fitted = held_out_nats(model, 1e3, 0.0)
    second, more = held_out_nats(model, 1e3, 0.0, params=fitted.params)
    assert second < first
    np.testing.assert_array_equal(more.params.scale, fitted.params.scale)


@pytest.mark.slow
def test_a_flow_with_a_bounded_support_sees_the_data_as_they_are():
    flow = glowjax.chain(as_flow(glowjax.Logit()), as_flow(glowjax.ActNorm()))
    model = glowjax.density(flow, (2,))
    x = np.random.default_rng(0).beta(2, 3, size=(400, 2)) - 0.5
    fitted = glowjax.fit(model, x, steps=20, show=False)
    assert not isinstance(fitted.params, glowjax.Standardized)
    assert np.all(model.sample(fitted.params, jax.random.key(0), 50) < 1)


@pytest.mark.slow
@pytest.mark.float32
def test_values_that_fall_together_in_float32_are_refused():
    model = glowjax.density(FLOWS["actnorm"], (1,))
    seconds = 1.7e9 + np.random.default_rng(0).normal(size=(500, 1)) * 60
    with pytest.raises(ValueError, match=r"data must differ by more than the rounding of float32"):
        glowjax.fit(model, seconds, steps=2, show=False)
    days = 1.7e9 + np.random.default_rng(0).normal(size=(500, 1)) * 86400 * 30
    glowjax.fit(model, days, steps=2, show=False)


@pytest.mark.slow
def test_constant_columns_are_no_reason_to_fail():
    x = np.concatenate([ring(300, 0), np.full((300, 1), 7.0)], axis=1)
    for name in ("actnorm", "planar"):
        fitted = glowjax.fit(glowjax.density(FLOWS[name], (3,)), x, steps=5, show=False)
        assert np.isfinite(fitted.history[-1]["validation"])
