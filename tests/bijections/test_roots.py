"""Roots against closed forms: values, derivatives of two orders, ends of the bracket."""

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.roots import increasing_root


def cube_root(a, low=-10.0, high=10.0):
    return increasing_root(lambda x: x**3 - a, jnp.full_like(a, low), jnp.full_like(a, high))


def test_roots_are_exact_to_rounding_near_zero_too():
    roots = jnp.asarray([-2.0, -1e-7, 1e-9, 0.3, 4.0])
    np.testing.assert_allclose(jax.jit(cube_root)(roots**3), roots, rtol=4e-16)


def test_derivatives_are_those_of_the_implicit_function_theorem():
    first = jax.vmap(jax.grad(cube_root))
    second = jax.vmap(jax.grad(jax.grad(cube_root)))
    a = jnp.asarray([0.5, 2.0, 7.0])
    np.testing.assert_allclose(first(a), a ** (-2 / 3) / 3, rtol=1e-12)
    np.testing.assert_allclose(second(a), -2 / 9 * a ** (-5 / 3), rtol=1e-12)


def test_a_root_outside_gives_the_nearer_end_and_nan_gives_nan():
    x = cube_root(jnp.asarray([1e6, -1e6, jnp.nan]))
    np.testing.assert_allclose(x, [10, -10, np.nan])
