"""Affine maps by what a net puts out, rounded alike by machines that differ in the last bits.

A number near the edge between two whole numbers may be rounded up here and down there. So all
numbers of an image are shifted, before they are rounded, by the first of eight shifts at which none
of them is near an edge. Which one it was goes onto the stack: mostly the first, which costs 0.005
bits.
"""

import numpy as np

from glowjax.codec.affine import Affine, affine, affine_forward, affine_inverse
from glowjax.codec.coder import PRECISION, Coder
from glowjax.codec.fixed_point import OutOfRange

SHIFTS = 8
APART = 2.0**-36  # what machines may differ by, for numbers of about 1
RARE = 2 ** (PRECISION - 11)  # slots of each shift but the first
COMMON = 2**PRECISION - (SHIFTS - 1) * RARE


def steady_forward(
    x: np.ndarray, scale: np.ndarray, offset: np.ndarray, coder: Coder
) -> np.ndarray:
    """z = x·scale + offset of int64 numbers `[B, ...]` in fixed point, by float64 like them.

    Raises:
        OutOfRange: a number of z does not fit, or a scale or an offset is not finite.
    """
    by, shift = _steady(scale, offset)
    z = affine_forward(x, by, coder)
    for row in coder.rows(len(shift)):
        coder.push(*_slots(shift[row]))
    return z


def steady_inverse(
    z: np.ndarray, scale: np.ndarray, offset: np.ndarray, coder: Coder
) -> np.ndarray:
    """The inverse of `steady_forward`."""
    shift = np.empty(len(z), np.int64)
    for row in reversed(coder.rows(len(z))):
        slots = coder.slots(row.stop - row.start)
        shift[row] = np.where(slots < COMMON, 0, 1 + (slots - COMMON) // RARE)
        coder.drop(*_slots(shift[row]))
    return affine_inverse(z, _shifted(scale, offset, shift), coder)


def _steady(scale: np.ndarray, offset: np.ndarray) -> tuple[Affine, np.ndarray]:
    """The map, and of each example the first shift at which no number is near an edge, `[B]`."""
    wrong = ~(_all(np.isfinite(scale)) & _all(np.isfinite(offset)))
    shift = np.zeros(len(scale), np.int64)
    while not wrong.any():
        # All that another machine may have is between these two, since rounding is monotone.
        low, high = (_shifted(scale, offset, shift, by) for by in (-APART, APART))
        near = ~(
            _all(low.scale.numerator == high.scale.numerator) & _all(low.offset == high.offset)
        )
        if not near.any():
            return low, shift
        shift += near
        wrong = shift == SHIFTS
    raise OutOfRange(np.flatnonzero(wrong))


def _shifted(scale, offset, shift, error=0.0):
    """The map of numbers that are off by an error."""
    scale, offset = scale * (1 + error), offset + 2 * error * np.maximum(1, np.abs(offset))
    places = shift.reshape(-1, *[1] * (scale.ndim - 1)) / (2 * SHIFTS)
    return affine(scale, offset, places)


def _slots(shift):
    rare = shift > 0
    return np.where(rare, COMMON + (shift - 1) * RARE, 0), np.where(rare, RARE, COMMON)


def _all(true):
    return true.reshape(len(true), -1).all(axis=1)
