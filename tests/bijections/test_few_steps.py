"""Paths in few steps against solutions in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

import glowjax


def growing(params, x, t, context=None):
    """dx/dt = 2·t·x + c, from 1 at t = 1: without c, x(0) = exp(-1)."""
    return 2 * t[:, None] * x + (0.0 if context is None else context)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
def test_errors_fall_with_the_order_of_the_method(method, order):
    z = jnp.ones((2, 3))

    def error(n):
        path = glowjax.path_in_steps(growing, {}, z, n, method=method)
        assert path.shape == (n + 1, 2, 3)
        np.testing.assert_array_equal(path[0], z)
        return jnp.abs(path[-1, 0, 0] - np.exp(-1))

    np.testing.assert_allclose(error(40) / error(80), 2**order, rtol=0.05)


def test_a_context_reaches_the_velocity():
    context = jnp.arange(3.0)[:, None]
    path = glowjax.path_in_steps(growing, {}, jnp.zeros((3, 1)), 1, context)
    np.testing.assert_allclose(path[-1], -context)


def test_straight_paths_need_one_step():
    def velocity(params, x, t, context=None):
        return jnp.ones_like(x)

    path = glowjax.path_in_steps(velocity, {}, jnp.zeros((2, 3)), 5)
    np.testing.assert_allclose(path[-1], -1)
    np.testing.assert_allclose(glowjax.straightness(path), 0, atol=1e-25)


def test_straightness_of_a_circle():
    """A half circle of radius 1 has the speed π, and its ends are 2 apart: S = π² - 4."""
    angle = jnp.pi * jnp.linspace(0, 1, 1001)
    path = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)[:, None]
    np.testing.assert_allclose(glowjax.straightness(path), np.pi**2 - 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"method": "heun"}, "method must be one of 'euler', 'midpoint', got 'heun'"),
        ({"z": jnp.ones((2, 3), int)}, "z must be floating point"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_errors(wrong, message):
    arguments = {"z": jnp.ones((2, 3)), "n": 2} | wrong
    with pytest.raises(ValueError, match=message):
        glowjax.path_in_steps(growing, {}, **arguments)


def test_a_path_without_a_step_is_refused():
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        glowjax.straightness(jnp.ones((1, 2, 3)))
