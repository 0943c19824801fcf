"""z = x·scale + offset of every number, as an exact bijection of integers."""

from typing import NamedTuple

import numpy as np

from glowjax.codec.coder import Coder
from glowjax.codec.fixed_point import fixed, in_range
from glowjax.codec.modular_scale import Ratio, ratio, scale_forward, scale_inverse, within


class Affine(NamedTuple):
    """z = x·scale + offset, the scale a fraction and the offset in fixed point, arrays like x."""

    scale: Ratio
    offset: np.ndarray


def affine(scale: np.ndarray, offset: np.ndarray, shift: np.ndarray | float = 0.0) -> Affine:
    """The `Affine` of float64 arrays, which keeps the x that goes to 0; `shift` is as for `ratio`.

    A larger scale or offset never makes a smaller one.
    """
    by = ratio(scale, shift)
    rounded = np.ldexp(by.numerator.astype(np.float64), -by.bits)
    return Affine(by, fixed(offset / within(scale) * rounded, shift))


def affine_forward(x: np.ndarray, by: Affine, coder: Coder) -> np.ndarray:
    """z of x `[B, ...]`, int64 in fixed point.

    Raises:
        OutOfRange: a number of z does not fit.
    """
    scale = Ratio(*(np.broadcast_to(part, x.shape).reshape(-1) for part in by.scale))
    z = scale_forward(x.reshape(-1), scale, coder).reshape(x.shape)
    return in_range(z + by.offset)


def affine_inverse(z: np.ndarray, by: Affine, coder: Coder) -> np.ndarray:
    """The inverse of `affine_forward`."""
    scale = Ratio(*(np.broadcast_to(part, z.shape).reshape(-1) for part in by.scale))
    return scale_inverse((z - by.offset).reshape(-1), scale, coder).reshape(z.shape)
