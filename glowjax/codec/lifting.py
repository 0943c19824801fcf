"""Matrices as exact bijections of integers: triangular factors by lifting steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.checks import require
from glowjax.codec.fixed_point import RANGE_BITS, two_to


class Lifting(NamedTuple):
    """A unit triangular matrix `[C, C]` less its diagonal, times 2^bits, in whole numbers.

    They are kept as float64, in which their products with the numbers of an image, and the sums of
    these, are whole numbers below 2⁵³: exact, in whatever order they are added.

    `order` is that in which the channels become known, from z to x.
    """

    weights: np.ndarray
    bits: np.ndarray
    order: np.ndarray


class Factors(NamedTuple):
    """W of z = x·W, taken apart: z[rows] = L·D·U·x[columns], with x and z as columns.

    Attributes:
        columns, rows: `[C]`, permutations.
        upper, lower: U and L, unit triangular, of entries from -1 to 1.
        scale: `[C]`, D, of any sign.
    """

    columns: np.ndarray
    upper: Lifting
    scale: np.ndarray
    lower: Lifting
    rows: np.ndarray


def factors(weight: np.ndarray) -> Factors:
    """The `Factors` of W `[C, C]`, in float64, by Gaussian elimination with complete pivoting.

    Each pivot is the largest entry that is left, so no factor stretches a number by much.

    Raises:
        ValueError: W is singular, or not finite.

    Source: Golub & Van Loan 2013, Matrix computations, section 3.4.8.
    """
    a = weight.T.astype(np.float64)
    rows, columns = np.arange(len(a)), np.arange(len(a))
    for k in range(len(a)):
        i, j = (k + int(at) for at in divmod(np.argmax(np.abs(a[k:, k:])), len(a) - k))
        a[[k, i]], rows[[k, i]] = a[[i, k]], rows[[i, k]]
        a[:, [k, j]], columns[[k, j]] = a[:, [j, k]], columns[[j, k]]
        require(np.isfinite(a[k, k]) and a[k, k], "weight", weight, "finite and invertible")
        a[k + 1 :, k] /= a[k, k]
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    scale = np.diag(a)
    upper = np.triu(a, 1) / scale[:, None]
    return Factors(columns, _lifting(upper), scale, _lifting(np.tril(a, -1)), rows)


def _lifting(weights: np.ndarray) -> Lifting:
    largest = np.abs(weights).sum(axis=1).max()
    bits = 52 - RANGE_BITS - int(np.ceil(np.log2(largest + 1)))
    order = np.arange(len(weights))
    order = order if np.tril(weights).any() else order[::-1]
    return Lifting(np.rint(weights * 2.0**bits), np.array(bits), order)


def lift(x: jax.Array, by: Lifting) -> jax.Array:
    """z_i = x_i + round(Σ_j M_ij·x_j), M without its diagonal, of int64 `[..., C]`."""
    return x + _rounded(jnp.matmul(x.astype(jnp.float64), jnp.asarray(by.weights).T), by)


def unlift(z: jax.Array, by: Lifting) -> jax.Array:
    """The inverse of `lift`: channel by channel."""
    weights, order = jnp.asarray(by.weights), jnp.asarray(by.order)

    def one(i, x):
        row = weights[order[i]]
        return x.at[order[i]].add(-_rounded(jnp.tensordot(row, x, 1), by).astype(jnp.float64))

    x = lax.fori_loop(0, len(order), one, jnp.moveaxis(z, -1, 0).astype(jnp.float64))
    return jnp.moveaxis(x, 0, -1).astype(jnp.int64)


def _rounded(sums, by):
    return jnp.rint(sums * two_to(-jnp.asarray(by.bits))).astype(jnp.int64)
