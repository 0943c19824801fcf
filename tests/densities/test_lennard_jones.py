"""Lennard-Jones clusters: their energy by hand, symmetries, the soft core, and ln Z."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import glowjax

T, TRAP = 0.5, 0.3


def pair(distance, **options):
    """T·ln p̃ of two particles of the plane around the origin, without the trap: -u."""
    x = jnp.array([-distance / 2, 0.0, distance / 2, 0.0])
    target = glowjax.lennard_jones(2, 2, temperature=T, trap=TRAP, **options)
    return T * target.log_prob(x) + TRAP / 2 * jnp.sum(x**2)


def test_energy_of_two_particles():
    u = [-float(pair(r)) for r in (1.0, 2.0, 0.9)]
    np.testing.assert_allclose(u, [-1, 2**-12 - 2 * 2**-6, 0.9**-12 - 2 * 0.9**-6], rtol=1e-9)
    np.testing.assert_allclose(jax.grad(pair)(1.0), 0, atol=1e-9)


def test_energies_of_pairs_and_of_the_trap_add_up():
    x = jax.random.normal(jax.random.key(0), (5, 4, 3))
    target = glowjax.lennard_jones(4, 3, temperature=T, trap=TRAP)
    total = TRAP / 2 * np.sum(np.square(x), axis=(1, 2))
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        total -= [pair(r) for r in np.linalg.norm(x[:, i] - x[:, j], axis=-1)]
    np.testing.assert_allclose(target.log_prob(x.reshape(5, 12)), -total / T, rtol=1e-6)


@pytest.mark.parametrize("core", [0.5, 0.8])
def test_the_core_goes_on_as_a_line_in_the_squared_distance(core):
    squares = np.linspace(0, core, 5) ** 2
    at_core, slope = (
        -(core**-12) + 2 * core**-6,
        6 * core**-14 - 6 * core**-8,
    )
    found = [float(pair(math.sqrt(s), core=core)) for s in squares]
    np.testing.assert_allclose(found, at_core + slope * (squares - core**2), rtol=1e-9)
    for side in (-1e-7, 1e-7):  # touches
        gradient = jax.grad(lambda r: pair(r, core=core))(core + side)
        np.testing.assert_allclose(gradient, 2 * core * slope, rtol=1e-5)


def test_gradients_are_finite_where_particles_meet():
    target = glowjax.lennard_jones(3, 2)
    x = jnp.array([[0.3, 0.2] * 3, [0.0] * 6, [1.0, 0.0, 1.0, 0.0, -40.0, 0.0]])
    value, gradient = jax.vmap(jax.value_and_grad(target.log_prob))(x)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(gradient))


def test_particles_may_be_swapped_and_turned_but_not_moved():
    x = jax.random.normal(jax.random.key(0), (20, 4, 3))
    turn, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (3, 3)))
    target = glowjax.lennard_jones(4, 3, temperature=T, trap=TRAP)

    def log_prob(x):
        return target.log_prob(x.reshape(20, 12))

    np.testing.assert_allclose(log_prob(x[:, jnp.array([2, 0, 3, 1])]), log_prob(x), rtol=1e-9)
    np.testing.assert_allclose(log_prob(x @ turn), log_prob(x), rtol=1e-9)
    assert not np.any(np.isclose(log_prob(x + 1), log_prob(x)))


def test_log_z_of_two_particles_is_what_importance_sampling_gives():
    """Z = 2πT/(2·trap)·2π·∫ exp(-(u + trap/4·r²)/T) r dr, as |x_1|² + |x_2|² = 2·|centre|² + r²/2.

    The proposal is N(0, T / trap), which the trap alone would give.
    """
    target = glowjax.lennard_jones(2, 2, temperature=T, trap=TRAP)
    value = jax.jit(pair)
    integral, _ = quad(
        lambda r: r * math.exp((float(value(r)) - TRAP / 4 * r * r) / T), 0, 12, points=[0.8, 1, 2]
    )
    exact = math.log(math.pi * T / TRAP * 2 * math.pi * integral)
    model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), (4,))
    params = {
        "log_scale": jnp.full(4, 0.5 * math.log(TRAP / T)),
        "bias": jnp.zeros(4),
        "shift": jnp.zeros(4),
    }
    found = glowjax.importance_sampling(model, params, target.log_prob, jax.random.key(0), 100_000)
    assert float(found.log_z_error) < 0.02
    assert abs(float(found.log_z) - exact) < 4 * float(found.log_z_error)


@pytest.mark.float32
def test_it_is_float32():
    x = jnp.zeros((2, 6), jnp.bfloat16)
    assert jax.eval_shape(glowjax.lennard_jones(3, 2).log_prob, x).dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: glowjax.lennard_jones(1), "particles must be a whole number of at least 2, got 1"),
        (lambda: glowjax.lennard_jones(3, 0), "dimensions must be a whole number of at least 1"),
        (lambda: glowjax.lennard_jones(temperature=0.0), r"temperature must be in \(0, inf\)"),
        (lambda: glowjax.lennard_jones(trap=0.0), r"trap must be in \(0, inf\), got 0.0"),
        (lambda: glowjax.lennard_jones(core=1.0), r"core must be in \(0, 1\), got 1.0"),
        (
            lambda: glowjax.lennard_jones(3, 2).log_prob(jnp.zeros((2, 4))),
            r"x must be of shape \[..., 6\], got \(2, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
