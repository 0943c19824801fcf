"""Positive-definite matrices and correlation matrices, as free numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, sum_event
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.preprocess.support import bounded_exp, fixed, supported
from glowjax.preprocess.triangular import (
    check_square,
    cholesky_factor,
    diagonal,
    from_triangle,
    is_symmetric,
    outer_product,
    to_triangle,
)


def cholesky_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = the lower triangle of L, x = L·Lᵀ, with ln L_ii on the diagonal, row after row.

    Args:
        x: `[B, ..., n, n]`, positive-definite, and symmetric within half of the dtype's digits.

    Returns:
        `(z, log_det)`: z `[B, ..., n(n+1)/2]`; log_det `[B]` = -n·ln 2 - Σ (n-i+2)·ln L_ii, i from
        1, in nats, with respect to the lower triangle of x; −inf where x is not in the support.
    """
    x = promote(x)
    check_square(x, 1)
    n = x.shape[-1]
    factor, inside = cholesky_factor(x, is_symmetric(x))
    log_diagonal = jnp.log(diagonal(factor))
    z = to_triangle(jnp.where(np.eye(n, dtype=bool), log_diagonal[..., None], factor))
    return z, supported(-_log_det_of_square(log_diagonal), inside, x)


def cholesky_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x = L·Lᵀ, symmetric to the last bit; returns `(x, log_det)` as `cholesky_forward`."""
    lower = from_triangle("z", promote(z))
    log_diagonal = diagonal(lower)
    on_diagonal = np.eye(lower.shape[-1], dtype=bool)
    factor = jnp.where(on_diagonal, bounded_exp(log_diagonal)[..., None], lower)
    return outer_product(factor), _log_det_of_square(log_diagonal)


def _log_det_of_square(log_diagonal):
    """log|det| of z -> L·Lᵀ: L_ii multiplies those below it, itself twice, and has a slope in z."""
    n = log_diagonal.shape[-1]
    return sum_event(math.log(2) + jnp.arange(n + 1, 1, -1) * log_diagonal)


def correlation_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = artanh of the canonical partial correlations of x, row after row below the diagonal.

    With x = L·Lᵀ, they are r_ij = L_ij / √(1 - Σ_(k<j) L_ik²), so that z_ij is
    arsinh(L_ij / √(L_i(j+1)² + … + L_ii²)).

    Args:
        x: `[B, ..., n, n]`, positive-definite; symmetric, and 1 on the diagonal, within half of the
            dtype's digits.

    Returns:
        `(z, log_det)`: z `[B, ..., n(n-1)/2]`; log_det `[B]` in nats, with respect to the numbers
        below the diagonal of x; −inf where x is not in the support.
    """
    x = promote(x)
    check_square(x, 2)
    units = jnp.abs(diagonal(x) - 1) <= jnp.sqrt(jnp.finfo(x.dtype).eps)
    inside = is_symmetric(x) & jnp.all(units, axis=-1)
    factor, inside = cholesky_factor(x, inside)
    rest = jax.lax.cumsum(jnp.square(factor), axis=x.ndim - 1, reverse=True)  # of the diagonal up
    log_left = 0.5 * jnp.log(jnp.where(np.tri(x.shape[-1], dtype=bool), rest, 1.0))
    z = to_triangle(factor[..., :-1] * jnp.exp(-log_left[..., 1:]), strict=True)
    return jnp.arcsinh(z), supported(-_log_det_of_rows(log_left), inside, x)


def correlation_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x = L·Lᵀ, its diagonal 1 and symmetric to the last bit; returns `(x, log_det)` as forward."""
    angles = from_triangle("z", promote(z), strict=True)
    n = angles.shape[-1]
    log_cosh = jnp.logaddexp(angles, -angles) - math.log(2)
    log_left = -(jax.lax.cumsum(log_cosh, axis=angles.ndim - 1) - log_cosh)  # of those before
    on_diagonal = np.eye(n, dtype=bool)
    factor = jnp.where(on_diagonal, 1.0, jnp.tanh(angles)) * jnp.exp(log_left)
    return jnp.where(on_diagonal, 1.0, outer_product(factor)), _log_det_of_rows(log_left)


def _log_det_of_rows(log_left):
    """log|det| of z -> x, of ln √(L_ij² + … + L_ii²), `[B, ..., n, n]`, of which j ≤ i is seen.

    For each number below the diagonal, L_ij has the slope left_i(j+1)² / left_ij in z, and x_ij
    the slope L_jj in L_ij.
    """
    before, after = log_left[..., :-1], log_left[..., 1:]
    slopes = to_triangle(2 * after - before, strict=True)
    below = jnp.arange(log_left.shape[-1])[::-1]
    return sum_event(slopes) + sum_event(below * diagonal(log_left))


@recorded
def cholesky() -> Flow:
    """x = L·Lᵀ: positive-definite matrices, such as covariances.

    L is lower triangular; z holds its entries row after row, ln L_ii on the diagonal. Arrays are
    `[B, ..., n, n]` of x and `[B, ..., n(n+1)/2]` of z. The density is with respect to the lower
    triangle of x. x that is not symmetric and positive-definite has the density 0; a matrix that is
    nearly singular may be so by rounding. Source: Pinheiro & Bates 1996, section 2.2.
    """
    return fixed(cholesky_forward, cholesky_inverse)


@recorded
def correlation() -> Flow:
    """Correlation matrices, by artanh of their canonical partial correlations.

    For n = 2, z is Fisher's transform of the one correlation. Arrays are `[B, ..., n, n]` of x and
    `[B, ..., n(n-1)/2]` of z. The density is with respect to the numbers below the diagonal of x. x
    that is no correlation matrix has the density 0; a matrix that is nearly singular may be so by
    rounding. Source: Lewandowski, Kurowicka & Joe 2009, section 2; Stan Reference Manual, section
    "Cholesky factors of correlation matrices".
    """
    return fixed(correlation_forward, correlation_inverse)
