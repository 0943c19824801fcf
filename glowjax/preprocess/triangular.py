"""Symmetric matrices and their free numbers: the lower triangle, row after row; Cholesky factors.

LAPACK is not used, so that no batch of matrices waits for another: docs/lapack-hang.md.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import HIGHEST
from glowjax.checks import require


def from_triangle(name: str, entries: jax.Array, *, strict: bool = False) -> jax.Array:
    """`[B, ..., m]` -> lower triangular `[B, ..., n, n]`, filled row after row, 0 elsewhere.

    Args:
        name: of the argument, for the error.
        strict: whether they are the numbers below the diagonal, m = n(n-1)/2, which then is 0;
            else m = n(n+1)/2.

    Raises:
        ValueError: there is no such n.
    """
    m = entries.shape[-1]
    n = (math.isqrt(8 * m + 1) - 1) // 2 + strict
    wanted = f"of shape [B, ..., n(n{'-' if strict else '+'}1)/2]"
    require(m == n * (n + 1) // 2 - n * strict, name, f"shape {entries.shape}", wanted)
    rows, columns = np.tril_indices(n, -1 if strict else 0)
    matrix = jnp.zeros((*entries.shape[:-1], n, n), entries.dtype)
    return matrix.at[..., rows, columns].set(entries)


def to_triangle(matrix: jax.Array, *, strict: bool = False) -> jax.Array:
    """The lower triangle of `[B, ..., n, n]`, row after row; if strict without the diagonal."""
    rows, columns = np.tril_indices(matrix.shape[-2], -1 if strict else 0)
    return matrix[..., rows, columns]


def symmetric(lower: jax.Array) -> jax.Array:
    """The matrix whose lower triangle this is, whatever `lower` has above the diagonal."""
    return jnp.tril(lower) + jnp.swapaxes(jnp.tril(lower, -1), -1, -2)


def outer_product(factor: jax.Array) -> jax.Array:
    """L·Lᵀ of `[B, ..., n, n]`, symmetric to the last bit."""
    return symmetric(jnp.matmul(factor, jnp.swapaxes(factor, -1, -2), precision=HIGHEST))


def diagonal(matrix: jax.Array) -> jax.Array:
    """`[B, ..., n, n]` -> `[B, ..., n]`."""
    return jnp.diagonal(matrix, axis1=-2, axis2=-1)


def check_square(x: Any, least: int) -> None:
    """Raises `ValueError` unless x is `[B, ..., n, n]` of n ≥ least."""
    square = x.ndim > 2 and x.shape[-1] == x.shape[-2] >= least
    require(square, "x", f"shape {x.shape}", f"of shape [B, ..., n, n], n ≥ {least}")


def is_symmetric(x: jax.Array) -> jax.Array:
    """Whether `[B, ..., n, n]` are finite and symmetric, within half of the dtype's digits.

    An entry is measured by the two of the diagonal in its row and column, so that units of the
    coordinates do not matter.
    """
    deviations = jnp.sqrt(jnp.abs(diagonal(x)))
    sizes = deviations[..., :, None] * deviations[..., None, :]
    apart = jnp.abs(x - jnp.swapaxes(x, -1, -2))
    even = jnp.isfinite(x) & (apart <= jnp.sqrt(jnp.finfo(x.dtype).eps) * sizes)
    return jnp.all(even, axis=(-2, -1))


def cholesky_factor(x: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
    """L of x = L·Lᵀ, and whether x is positive-definite, of lower triangles of `[B, ..., n, n]`.

    It is not where a pivot is no larger than rounding makes it. A matrix that is not, or that is
    not `inside: [B, ...]`, has a factor of finite gradient all the same.
    """
    n = x.shape[-1]
    x = jnp.where(inside[..., None, None], x, jnp.eye(n, dtype=x.dtype))
    rounding = 4 * n * jnp.finfo(x.dtype).eps * diagonal(x)

    def step(rest, column_and_least):
        j, least = column_and_least
        column = jax.lax.dynamic_index_in_dim(rest, j, axis=rest.ndim - 1, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(column, j, axis=column.ndim - 1)
        positive = pivot[..., 0] > least
        column = jnp.where(jnp.arange(n) < j, 0.0, column)
        column = column / jnp.sqrt(jnp.where(positive[..., None], pivot, 1.0))
        return rest - column[..., :, None] * column[..., None, :], (column, positive)

    steps = np.arange(n), jnp.moveaxis(rounding, -1, 0)
    _, (columns, positive) = jax.lax.scan(step, x, steps)
    factor = jnp.moveaxis(columns, 0, -1)
    inside = inside & jnp.all(positive, axis=0)
    return jnp.where(inside[..., None, None], factor, jnp.eye(n, dtype=x.dtype)), inside
