"""Unit triangular matrices as exact bijections of integers: lifting steps."""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from glowjax.checks import require
from glowjax.codec.fixed_point import RANGE_BITS


class Lifting(NamedTuple):
    """A unit triangular matrix `[C, C]` less its diagonal, times 2^bits, in whole numbers.

    They are kept as float64, in which their products with the numbers of an image, and the sums of
    these, are whole numbers below 2⁵³: exact, in whatever order they are added.
    """

    weights: np.ndarray
    bits: int


class Factors(NamedTuple):
    """W of z = x·W, taken apart: z = P·L·D·U·x, with x and z as columns.

    Attributes:
        upper, lower: the unit triangular ones.
        scale: `[C]`, D, of any sign.
        order: `[C]`, P: z[i] is the row order[i] of what P is applied to.
    """

    upper: Lifting
    scale: np.ndarray
    lower: Lifting
    order: np.ndarray


def factors(weight: np.ndarray) -> Factors:
    """The `Factors` of W `[C, C]`, taken apart once in float64.

    Raises:
        ValueError: W is singular, or so nearly that its factors do not fit into 53 bits.
    """
    permutation, lower, upper = scipy.linalg.lu(weight.T.astype(np.float64))
    scale = np.diag(upper)
    require(np.all(scale != 0), "weight", "a singular matrix", "invertible")
    upper = lifting(upper / scale[:, None])
    return Factors(upper, scale, lifting(lower), np.argmax(permutation, axis=1))


def lifting(matrix: np.ndarray) -> Lifting:
    """The `Lifting` of a unit triangular matrix; errors as for `factors`."""
    weights = matrix - np.eye(len(matrix))
    largest = np.abs(weights).sum(axis=1).max()
    bits = 52 - RANGE_BITS - int(np.ceil(np.log2(largest + 1)))
    require(bits >= 8, "weight", f"rows that add up to {largest:.3g}", "a well-conditioned matrix")
    bits = min(bits, 20)
    return Lifting(np.rint(weights * 2.0**bits), bits)


def lift(x: np.ndarray, by: Lifting) -> np.ndarray:
    """z_i = x_i + round(Σ_j M_ij·x_j), M without its diagonal, of int64 `[N, C]`."""
    return x + _rounded(x.astype(np.float64) @ by.weights.T, by)


def unlift(z: np.ndarray, by: Lifting) -> np.ndarray:
    """The inverse of `lift`: number by number, in the order in which they become known."""
    channels = range(len(by.weights))
    x = z.astype(np.float64)
    for i in channels if np.tril(by.weights).any() else reversed(channels):
        x[:, i] -= _rounded(x @ by.weights[i], by)
    return x.astype(np.int64)


def _rounded(sums, by):
    return np.rint(sums * 2.0**-by.bits).astype(np.int64)
