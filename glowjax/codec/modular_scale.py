"""The modular scale transform: an exact bijection of integers that scales (Li et al. 2021)."""

from typing import NamedTuple

import numpy as np

from glowjax.codec.coder import Coder

MANTISSA = 15  # bits of a scale's numerator
MOST = 28  # bits of its denominator


class Ratio(NamedTuple):
    """Scales numerator / 2^bits, int64 arrays: numerators up to 2¹⁵."""

    numerator: np.ndarray
    bits: np.ndarray

    def of(self, rows: slice) -> "Ratio":
        """Those of some numbers."""
        return Ratio(self.numerator[rows], self.bits[rows])


def ratio(scale: np.ndarray, shift: np.ndarray | float = 0.0) -> Ratio:
    """Scales above 0 as fractions, to 15 bits of their own size; 1 is exact.

    A scale beyond 2⁻¹⁴ … 2¹⁵ becomes the nearest within: another bijection than the model's, which
    costs bits, and is as exact. So does one that is not a number: it becomes 1. `shift`, of 0 … ½,
    moves the edges between two numerators down by as much.
    """
    scale = within(scale)
    _, exponent = np.frexp(scale)  # scale < 2^exponent
    bits = (MANTISSA - exponent).astype(np.int64)
    numerator = np.floor(np.ldexp(scale, bits) + (0.5 + shift)).astype(np.int64)
    full = (numerator == 2**MANTISSA) & (bits > 0)  # the same as a half with a bit less
    return Ratio(numerator >> full, bits - full)


def within(scale: np.ndarray) -> np.ndarray:
    """Scales in float64, the nearest that `ratio` can have."""
    scale = np.where(np.isnan(scale), 1.0, scale.astype(np.float64))
    return np.clip(scale, 2.0 ** (MANTISSA - 1 - MOST), 2.0**MANTISSA - 1)


def scale_forward(x: np.ndarray, by: Ratio, coder: Coder) -> np.ndarray:
    """z ≈ x·R / S, S = 2^bits, of int64 vectors: q = x·R + pop(U[0, R)); z, e = divmod(q, S);
    push(e, U[0, S)). The stack grows by log₂ S - log₂ R bits a number: minus the log-determinant.

    Source: Li et al. 2021, iFlow, section 3.2 (modular scale transform).
    """
    if not _scales(by):
        return x
    z = np.empty_like(x)
    for row in coder.rows(len(x)):
        numerator, bits = by.of(row)
        q = x[row] * numerator + coder.pop_uniform(len(bits), numerator)
        z[row] = q >> bits
        coder.push_bits(q & ((np.int64(1) << bits) - 1), bits)
    return z


def scale_inverse(z: np.ndarray, by: Ratio, coder: Coder) -> np.ndarray:
    """The inverse of `scale_forward`, which leaves `coder` as it was before."""
    if not _scales(by):
        return z
    x = np.empty_like(z)
    for row in reversed(coder.rows(len(z))):
        numerator, bits = by.of(row)
        q = (z[row] << bits) + coder.pop_bits(len(bits), bits)
        x[row] = q // numerator
        coder.push_uniform(q - x[row] * numerator, numerator)
    return x


def _scales(by):
    return np.any(by.numerator != np.int64(1) << by.bits)
