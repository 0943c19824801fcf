"""Planar flow: extreme parameters, the constraint and what is without it, sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_MLP, Case, parameters
from jax.test_util import check_grads
from vector_checks import check_start, integral_2d, program_size

import glowjax
from glowjax import Planar, as_flow, planar_forward, planar_inverse
from glowjax.bijections import planar

STACK = glowjax.repeat(as_flow(Planar()), 4)
W = np.asarray([0.6, -0.8])
ACROSS = np.asarray([0.8, 0.6])
EXTREMES = {  # u, w
    "plain": (0.5 * W + ACROSS, W),
    "against": (-3.0 * W, W),
    "huge against": (-1e4 * W, W),
    "huge against a large w": (-1e3 * W, 30 * W),
    "huge along": (1e4 * W, W),
    "huge across": (1e4 * ACROSS, W),
    "small w": (-5.0 * W + ACROSS, 1e-9 * W),
    "vanishing w": (-5.0 * W + ACROSS, 1e-200 * W),
    "no w": (-5.0 * W, 0 * W),
    "no u": (0 * W, W),
}


def extreme_parameters():
    u, w = (jnp.asarray(np.stack(a)) for a in zip(*EXTREMES.values(), strict=True))
    return u, w, jnp.linspace(-1, 1, len(u))


def round_trip(u, w, b, seed=0):
    """Errors of x, of z again, and of log_det, in units of rounding times what slopes add."""
    x = jax.random.normal(jax.random.key(seed), w.shape)
    z, log_det = planar_forward(x, u, w, b)
    back, inverse_log_det = planar_inverse(z, u, w, b)
    again, _ = planar_forward(back, u, w, b)
    unit = jnp.finfo(x.dtype).eps * (1 + jnp.max(jnp.abs(jnp.stack([x, z, z - x])), axis=(0, 2)))
    flat = jnp.minimum(1, jnp.exp(log_det))
    steep = 1 + jnp.linalg.norm(u, axis=1) * jnp.linalg.norm(w, axis=1)
    return (
        jnp.max(jnp.abs(back - x), axis=1) / unit / steep * flat,
        jnp.max(jnp.abs(again - z), axis=1) / unit / steep,
        jnp.abs(log_det + inverse_log_det) / unit / steep,
    )


@pytest.mark.slow
def test_invertible_with_extreme_parameters():
    for seed in range(3):
        errors = jax.jit(round_trip, static_argnums=3)(*extreme_parameters(), seed)
        assert np.max(errors) < 50


@pytest.mark.slow
def test_without_the_constraint_points_meet(monkeypatch):
    """Of a + wᵀu·tanh(a) with wᵀu = -3, a = 0 and a = 3·tanh(3…) give 0 both."""
    u, w, b = jnp.asarray(-3 * W), jnp.asarray(W), jnp.zeros(())
    a = 3.0
    for _ in range(50):
        a = 3 * np.tanh(a)
    x = jnp.asarray(np.stack([0 * W, a * W]))
    z, _ = planar_forward(x, u, w, b)
    assert np.max(np.abs(z[0] - z[1])) > 1
    monkeypatch.setattr(planar, "constrain", lambda u, w: (u, 1 + jnp.sum(u * w, axis=-1)))
    z, _ = planar_forward(x, u, w, b)
    np.testing.assert_allclose(z[0], z[1], atol=1e-14)
    assert np.max(np.abs(planar_inverse(z, u, w, b)[0] - x)) > 1
    assert not np.all(round_trip(*extreme_parameters())[0] < 50)


def test_the_constraint():
    """It moves u along w only, and not at all where wᵀu > 0 or w is 0; 1 + wᵀû > 0."""
    u, w, _ = extreme_parameters()
    u_hat, slope = planar.constrain(u, w)
    before, after = (jnp.sum(a * w, axis=1) for a in (u, u_hat))
    assert np.all(slope > 0)
    np.testing.assert_allclose(1 + after, slope, atol=1e-12, rtol=1e-12)
    np.testing.assert_allclose(u_hat @ jnp.asarray([[0.8], [0.6]]), u @ ACROSS[:, None], atol=1e-12)
    free = (before >= 0) | (np.max(np.abs(w), axis=1) < 1e-6)
    assert np.sum(free) == 7
    np.testing.assert_allclose(u_hat[free], u[free], rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_the_scalar_equation_increases():
    a = jnp.linspace(-10, 10, 4000)  # 0 is in the middle of a step
    for product in (-1e30, -3.0, 0.0, 20.0):
        _, slope = planar.constrain(jnp.full((1, 1), product), jnp.ones((1, 1)))
        s = a + (slope - 1) * jnp.tanh(a)
        assert np.all(np.diff(s) > 0)
        np.testing.assert_allclose(planar.tanh_root(s, slope), a, rtol=1e-9)
        log_slope = planar.log_slope(jnp.zeros(1), slope)
        np.testing.assert_allclose(log_slope, np.sign(product) * np.log1p(abs(product)))


@pytest.mark.slow
@pytest.mark.parametrize("flow", [STACK, glowjax.invert(STACK)])
def test_integrates_to_one_in_2d(flow):
    np.testing.assert_allclose(integral_2d(flow), 1, atol=1e-6)


@pytest.mark.slow
def test_gradients_through_the_inverse():
    z = jnp.asarray([[0.3, -0.7], [1.2, 0.4], [-0.5, 0.1]])
    u = jnp.asarray([[-1.5, 1.0], [0.5, 0.3], [0.2, -0.4]])  # one product below 0, two above
    w = jnp.asarray([[0.9, -0.4], [1.0, 0.2], [-0.3, -1.1]])
    check_grads(jax.jit(planar_inverse), (z, u, w, jnp.asarray([0.1, -0.3, 0.6])), order=1)


def test_parameters_of_their_own_for_each_example():
    u, w, b = extreme_parameters()
    x = jax.random.normal(jax.random.key(3), w.shape)
    z, log_det = planar_forward(x, u, w, b)
    for i in range(3):
        one = planar_forward(x[i : i + 1], u[i], w[i], b[i])
        np.testing.assert_allclose(one[0][0], z[i], rtol=1e-12)
        np.testing.assert_allclose(one[1][0], log_det[i], rtol=1e-12)


@pytest.mark.slow
def test_the_start():
    check_start(STACK, 5)


@pytest.mark.slow
def test_as_an_approximate_posterior():
    """Sampling goes forward through the stack; log-probabilities of the samples agree."""
    stack = glowjax.repeat(as_flow(Planar(SMALL_MLP)), 4)
    model = glowjax.density(glowjax.invert(stack), (2,))
    context = jax.random.normal(jax.random.key(0), (50, 3))
    compiled = []

    @jax.jit
    def measure(params, key):
        compiled.append(1)
        x, log_prob = model.sample_and_log_prob(params, key, 50, context)
        return x, log_prob, model.log_prob(params, x, context)

    fresh = jax.jit(model.init_from_base, static_argnums=1)(jax.random.key(1), 50, context)
    moved = jax.tree.map(lambda p: p + 0.2 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), fresh)
    for params in (fresh, moved):
        x, log_prob, again = measure(params, jax.random.key(2))
        np.testing.assert_allclose(log_prob, again, rtol=1e-9)
    other, *_ = measure(moved, jax.random.key(3))
    assert np.all(np.isfinite(x)) and np.any(x != other)
    assert len(compiled) == 1


@pytest.mark.slow
def test_a_deeper_stack_is_no_larger_program():
    def size(n):
        flow = glowjax.repeat(as_flow(Planar()), n)
        params = parameters(Case(flow, (2,), ()))
        return program_size(flow.inverse, params, jnp.ones((3, 2)))

    assert size(2) == size(5)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_call")
def test_errors():
    key, x, context = jax.random.key(0), jnp.ones((4, 2)), jnp.ones((4, 3))
    with pytest.raises(ValueError, match=r"x must be of shape \[B, D\], got \(4, 2, 3\)"):
        as_flow(Planar()).init(key, jnp.ones((4, 2, 3)))
    flow = as_flow(Planar(SMALL_MLP))
    for wrong in (None, jnp.ones((3, 3))):
        with pytest.raises(ValueError, match=r"context must be floats of shape \(4, F\), got"):
            flow.init(key, x, wrong)
    params = flow.init(key, x, context)
    with pytest.raises(ValueError, match=r"params of Planar do not fit z .*\(4, 3\)"):
        flow.inverse(params, jnp.ones((4, 3)), context)
    with pytest.raises(AssertionError):
        planar_forward(x, jnp.ones(3), jnp.ones(2), jnp.ones(()))
