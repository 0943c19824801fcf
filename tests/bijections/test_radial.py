"""Radial flow: extreme parameters, its centre, the constraint and what is without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_MLP
from jax.test_util import check_grads
from vector_checks import check_start, integral_2d

import glowjax
from glowjax import Radial, as_flow, radial_forward, radial_inverse
from glowjax.bijections import radial
from glowjax.bijections.roots import increasing_root

STACK = glowjax.repeat(as_flow(Radial()), 4)
CENTRE = [0.3, -0.6]
RAW = [(a, b) for a in (-20.0, -3.0, 0.0, 5.0, 100.0) for b in (-300.0, -40.0, -1.0, 2.0, 1e4)]


def round_trip():
    """Errors of x, of z again, and of log_det, in units of rounding times what flat places add."""
    raw_alpha, raw_beta = jnp.asarray(RAW).T
    x, centre = jax.random.normal(jax.random.key(0), (len(RAW), 2)), jnp.asarray(CENTRE)
    z, log_det = radial_forward(x, centre, raw_alpha, raw_beta)
    back, inverse_log_det = radial_inverse(z, centre, raw_alpha, raw_beta)
    again, _ = radial_forward(back, centre, raw_alpha, raw_beta)
    unit = jnp.finfo(x.dtype).eps * (1 + jnp.max(jnp.abs(z), axis=1))
    flat = jnp.minimum(1, jnp.exp(log_det))
    return (
        jnp.max(jnp.abs(back - x), axis=1) / unit * flat,
        jnp.max(jnp.abs(again - z), axis=1) / unit,
        jnp.abs(log_det + inverse_log_det) / unit * flat,
    )


def test_invertible_with_extreme_parameters():
    assert np.max(jax.jit(round_trip)()) < 50


@pytest.mark.slow
def test_without_the_constraint_points_meet(monkeypatch):
    """With β = -2 and α = 1, the circle r = 1 goes to the centre."""
    one, centre = jnp.log(jnp.expm1(1.0)), jnp.asarray(CENTRE)
    x = centre + jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    z, _ = radial_forward(x, centre, one, jnp.asarray(-2.0))
    assert np.max(np.abs(z[0] - z[1])) > 0.1

    def unconstrained(x, centre, raw_alpha, beta):
        alpha = jax.nn.softplus(raw_alpha)
        return x, centre, alpha, alpha + beta

    monkeypatch.setattr(radial, "_parameters", unconstrained)
    z, _ = radial_forward(x, centre, one, jnp.asarray(-2.0))
    np.testing.assert_allclose(z, jnp.broadcast_to(centre, (3, 2)), atol=1e-15)
    assert not np.max(round_trip()[0]) < 50


@pytest.mark.slow
def test_the_closed_form_is_the_root_of_an_increasing_equation():
    raw_alpha, raw_beta = (a[:, None] for a in jnp.asarray(RAW).T)
    alpha, gamma = jax.nn.softplus(raw_alpha), jax.nn.softplus(raw_beta)
    r = jnp.broadcast_to(jnp.logspace(-9, 3, 50), (len(RAW), 50))

    def rho(r):
        return r * (gamma + r) / (alpha + r)

    assert np.all(np.diff(rho(r)) > 0)
    root = jax.jit(lambda: increasing_root(lambda s: rho(s) - rho(r), jnp.zeros_like(r), 2 * r))()

    def closed(rho, raw_alpha, raw_beta):
        zero = jnp.zeros(1)
        return radial_inverse(rho[:, None], zero, raw_alpha, raw_beta)[0][:, 0]

    np.testing.assert_allclose(jax.vmap(closed)(rho(r), raw_alpha[:, 0], raw_beta[:, 0]), root)


@pytest.mark.slow
@pytest.mark.parametrize("raw_beta", [-100.0, -2.0, 0.0, 3.0])
def test_the_centre_stays_and_has_finite_gradients(raw_beta):
    raw, centre = jnp.asarray([0.5, raw_beta]), jnp.asarray(CENTRE)
    x = centre[None]

    def loss(apply, x, centre, raw):
        z, log_det = apply(x, centre, *raw)
        return jnp.sum(jnp.sin(z)) + jnp.sum(jnp.cos(log_det))

    scale = jax.nn.softplus(raw_beta) / jax.nn.softplus(0.5)
    for apply, sign in ((radial_forward, 1), (radial_inverse, -1)):
        z, log_det = apply(x, centre, *raw)
        np.testing.assert_array_equal(z, x)
        np.testing.assert_allclose(log_det, sign * 2 * jnp.log(scale), rtol=1e-12)
        jacobian = jax.jacobian(lambda x, f=apply: f(x[None], centre, *raw)[0][0])(centre)
        np.testing.assert_allclose(jacobian, scale**sign * jnp.eye(2), rtol=1e-9)
        gradients = jax.grad(loss, argnums=(1, 2, 3))(apply, x, centre, raw)
        assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.slow
@pytest.mark.parametrize("flow", [STACK, glowjax.invert(STACK)])
def test_integrates_to_one_in_2d(flow):
    """Within 1e-4: a density with cusps at the centres converges slowly."""
    np.testing.assert_allclose(integral_2d(flow), 1, atol=1e-4)


@pytest.mark.slow
def test_gradients_through_the_inverse():
    z = jnp.asarray([[0.3, -0.7], [1.2, 0.4], [-2.5, 0.1]])
    raws = jnp.asarray([0.2, -1.0, 0.5]), jnp.asarray([-2.0, 1.0, 0.3])
    check_grads(jax.jit(radial_inverse), (z, jnp.asarray(CENTRE), *raws), order=2)


@pytest.mark.slow
def test_gradients_where_the_two_forms_of_the_root_meet():
    z = jnp.asarray([[1.0]])
    raws = jnp.asarray(0.2), jnp.log(jnp.expm1(1.0))  # γ = ρ = 1 but for rounding

    def loss(*args):
        return radial_inverse(*args)[0][0, 0]

    check_grads(loss, (z, jnp.zeros(1), *raws), order=1)


@pytest.mark.slow
def test_the_start():
    check_start(STACK, 5)


@pytest.mark.slow
def test_as_an_approximate_posterior():
    model = glowjax.density(glowjax.invert(glowjax.repeat(as_flow(Radial(SMALL_MLP)), 3)), (2,))
    context = jax.random.normal(jax.random.key(0), (20, 3))

    @jax.jit
    def measure(key):
        params = model.init_from_base(key, 20, context)
        x, log_prob = model.sample_and_log_prob(params, key, 20, context)
        return log_prob, model.log_prob(params, x, context)

    np.testing.assert_allclose(*measure(jax.random.key(1)), rtol=1e-9)


@pytest.mark.usefixtures("as_users_call")
def test_errors():
    with pytest.raises(ValueError, match=r"x must be of shape \[B, D\], got \(4, 2, 3\)"):
        as_flow(Radial()).init(jax.random.key(0), jnp.ones((4, 2, 3)))
    with pytest.raises(ValueError, match=r"context must be floats of shape \(4, F\), got None"):
        as_flow(Radial(SMALL_MLP)).init(jax.random.key(0), jnp.ones((4, 2)))
    with pytest.raises(AssertionError):
        radial_forward(jnp.ones((4, 2)), jnp.ones(3), jnp.ones(()), jnp.ones(()))
