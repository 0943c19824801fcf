"""Matrices as exact bijections of integers: triangular factors by lifting steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.checks import require
from glowjax.codec.fixed_point import RANGE_BITS, two_to

TOGETHER = 4, 3, 2, 1  # channels, of which the first that divides all of them


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
    sums = jnp.matmul(x.astype(jnp.float64), jnp.asarray(by.weights).T)
    return x + _rounded(sums, by).astype(jnp.int64)


def unlift(z: jax.Array, by: Lifting) -> jax.Array:
    """The inverse of `lift`: a few channels become known in each turn of a loop."""
    channels, order = z.shape[-1], jnp.asarray(by.order)
    some = next(n for n in TOGETHER if channels % n == 0)
    weights = jnp.asarray(by.weights)[order][:, order]  # 0 but for channels that are known before

    def turn(k, x):
        start = k * some
        rows, now = (lax.dynamic_slice_in_dim(a, start, some) for a in (weights, x))
        before = jnp.where(jnp.arange(channels) < start, rows, 0)
        among = lax.dynamic_slice_in_dim(rows, start, some, axis=1)
        known = []
        for weight, total, number in zip(among, jnp.tensordot(before, x, 1), now, strict=True):
            total += sum(w * one for w, one in zip(weight, known, strict=False))
            known.append(number - _rounded(total, by))
        return lax.dynamic_update_slice_in_dim(x, jnp.stack(known), start, axis=0)

    x = jnp.moveaxis(z, -1, 0)[order].astype(jnp.float64)
    x = lax.fori_loop(0, channels // some, turn, x)
    return jnp.moveaxis(x[jnp.argsort(order)], 0, -1).astype(jnp.int64)


def _rounded(sums, by):
    return jnp.rint(sums * two_to(-jnp.asarray(by.bits)))
