"""Batches, one matrix after another, give what JAX's own batches give, with all derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import solve_triangular

from glowjax.bijections.linear import linalg


def unit_lower(a):
    return jnp.tril(a, -1) + jnp.eye(len(a))


def upper(a):
    return jnp.triu(a) + 3 * jnp.eye(len(a))


def inverse_in_two(a):
    half = solve_triangular(unit_lower(a), jnp.eye(len(a)), lower=True, unit_diagonal=True)
    return solve_triangular(upper(a), half)


CASES = {
    "inverse": (
        linalg.inverse_and_log_abs_det,
        lambda a: (jnp.linalg.inv(a), jnp.linalg.slogdet(a)[1]),
    ),
    "lu_inverse": (lambda a: linalg.lu_inverse(unit_lower(a), upper(a)), inverse_in_two),
    "spectral_norm": (linalg.spectral_norm, lambda a: jnp.linalg.norm(a, ord=2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_are_those_of_jax(name):
    a, tangent = jax.random.normal(jax.random.key(0), (2, 2, 5, 4, 4))

    def derivatives(f):
        def total(a):
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(many(a)))

        many = jax.vmap(jax.vmap(f))
        gradient = jax.grad(total)
        return jax.jit(lambda a: (many(a), gradient(a), jax.jvp(gradient, (a,), (tangent,))))(a)

    ours, theirs = map(derivatives, CASES[name])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), ours, theirs)


def test_an_argument_that_is_not_mapped_serves_all():
    a = jax.random.normal(jax.random.key(0), (3, 4, 4))
    lower, uppers = unit_lower(a[0]), jax.vmap(upper)(a)
    inverses = jax.vmap(linalg.lu_inverse, in_axes=(None, 0))(lower, uppers)
    np.testing.assert_allclose(
        inverses @ (lower @ uppers), jnp.broadcast_to(jnp.eye(4), a.shape), atol=1e-9
    )


def test_factors_are_those_of_each_matrix():
    a = jax.random.normal(jax.random.key(0), (3, 4, 4))
    q = jax.vmap(linalg.orthogonal_factor)(a)
    np.testing.assert_allclose(q, jnp.linalg.qr(a)[0], atol=1e-12)
    for m, l, u in zip(a, *jax.vmap(linalg.lu_factors)(a), strict=True):
        np.testing.assert_allclose(sorted((l @ u).tolist()), sorted(m.tolist()), atol=1e-12)
