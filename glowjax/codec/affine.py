"""z = x·scale + offset of every number, as an exact bijection of integers."""

from typing import NamedTuple

import jax

from glowjax.codec.fixed_point import fixed, in_range, two_to
from glowjax.codec.lanes import Stack
from glowjax.codec.modular_scale import Ratio, ratio, scale_forward, scale_inverse, within


class Affine(NamedTuple):
    """z = x·scale + offset, the scale a fraction and the offset in fixed point."""

    scale: Ratio
    offset: jax.Array


def affine(scale: jax.Array, offset: jax.Array, shift: jax.Array | float = 0.0) -> Affine:
    """The `Affine` of float64 arrays, which keeps the x that goes to 0; `shift` is as for `ratio`.

    A larger scale or offset never makes a smaller one.
    """
    by = ratio(scale, shift)
    rounded = by.numerator * two_to(-by.bits)
    return Affine(by, fixed(offset / within(scale) * rounded, shift))


def affine_forward(x: jax.Array, by: Affine, stack: Stack) -> tuple[jax.Array, Stack]:
    """z of x `[B, ...]`, int64 in fixed point; an image of which z does not fit becomes `bad`."""
    z, stack = scale_forward(x, by.scale, stack)
    z += by.offset
    return z, in_range(z, stack)


def affine_inverse(z: jax.Array, by: Affine, stack: Stack) -> tuple[jax.Array, Stack]:
    """The inverse of `affine_forward`."""
    return scale_inverse(z - by.offset, by.scale, stack)
