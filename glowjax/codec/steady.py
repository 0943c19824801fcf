"""Affine maps by what a net puts out, rounded alike by machines that differ in the last bits.

A number near the edge between two whole numbers may be rounded up here and down there. So all
numbers of an image are shifted, before they are rounded, by the first of eight shifts at which none
of them is near an edge. Which one it was goes onto the stack: mostly the first, which costs 0.005
bits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.codec.affine import Affine, affine, affine_forward, affine_inverse
from glowjax.codec.fixed_point import any_of, bad
from glowjax.codec.lanes import PRECISION, Stack
from glowjax.codec.symbols import pop_of, push_of

SHIFTS = 8
APART = 2.0**-36  # what machines may differ by, for numbers of about 1
RARE = 2 ** (PRECISION - 11)  # slots of each shift but the first
EDGES = np.array([0, *(2**PRECISION - RARE * np.arange(SHIFTS)[::-1])])  # of each shift's slots


def steady_forward(
    x: jax.Array, scale: jax.Array, offset: jax.Array, stack: Stack
) -> tuple[jax.Array, Stack]:
    """z = x·scale + offset of int64 numbers `[B, ...]` in fixed point, by float64 like them.

    An image becomes `bad` of which a number of z does not fit, or a scale or an offset is not
    finite.
    """
    by, shift, stack = _steady(scale, offset, stack)
    z, stack = affine_forward(x, by, stack)
    return z, push_of(shift, EDGES, stack)


def steady_inverse(
    z: jax.Array, scale: jax.Array, offset: jax.Array, stack: Stack
) -> tuple[jax.Array, Stack]:
    """The inverse of `steady_forward`."""
    shift, stack = pop_of((len(z),), EDGES, stack)
    return affine_inverse(z, _shifted(scale, offset, shift), stack)


def _steady(scale: jax.Array, offset: jax.Array, stack: Stack) -> tuple[Affine, jax.Array, Stack]:
    """The map, and the first shift of each image at which no number is near an edge, `[B]`.

    Images without one, or of numbers that are not finite, become `bad`.
    """
    wrong = any_of(~jnp.isfinite(scale)) | any_of(~jnp.isfinite(offset))

    def near(shift):
        # All that another machine may have is between these two, since rounding is monotone.
        errors = jnp.array([-APART, APART]).reshape(2, *[1] * scale.ndim)
        by = _shifted(scale, offset, shift, errors)
        differ = (by.scale.numerator[0] != by.scale.numerator[1]) | (by.offset[0] != by.offset[1])
        return any_of(differ) & stack.valid & ~wrong

    def on(state):
        shift, is_near = state
        return jnp.any(is_near & (shift < SHIFTS - 1))

    def further(state):
        shift, is_near = state
        shift = jnp.minimum(shift + is_near, SHIFTS - 1)
        return shift, near(shift)

    start = jnp.full(len(scale), -1), jnp.ones(len(scale), bool)
    shift, is_near = lax.while_loop(on, further, start)
    return _shifted(scale, offset, shift), shift, bad(wrong | is_near, stack)


def _shifted(scale, offset, shift, error=0.0):
    """The map of numbers that are off by an error."""
    places = shift.reshape(-1, *[1] * (scale.ndim - 1)) / (2 * SHIFTS)
    scale, offset = scale * (1 + error), offset + 2 * error * jnp.maximum(1, jnp.abs(offset))
    return affine(scale, offset, places)
