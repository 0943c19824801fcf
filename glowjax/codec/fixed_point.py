"""Numbers in fixed point: whole numbers of 2⁻¹⁴, in a range that is watched."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.codec.lanes import Stack

FRACTION = 14  # bits after the point
RANGE_BITS = 29  # numbers stay in -2²⁹ … 2²⁹, which is -32,768 … 32,768
RANGE = 2**RANGE_BITS


def fixed(x: Any, shift: jax.Array | float = 0.0) -> Any:
    """Floats as int64, the nearest in fixed point; what is not a number becomes 0.

    `shift`, of 0 … ½, moves the edges between two whole numbers down by as much. Arrays of NumPy
    become such.
    """
    xp = np if isinstance(x, np.ndarray) else jnp
    scaled = xp.clip(xp.nan_to_num(x.astype(xp.float64) * 2**FRACTION), -RANGE, RANGE)
    return xp.floor(scaled + (0.5 + shift)).astype(xp.int64)


def in_range(x: jax.Array, stack: Stack) -> Stack:
    """The stack, with the images as `bad` of which a number of x `[B, ...]` is not within ±2¹⁵."""
    return bad(jnp.abs(x) >= RANGE, stack)


def bad(wrong: jax.Array, stack: Stack) -> Stack:
    """The stack, with the images as `bad` that have something wrong, booleans `[B, ...]`."""
    return stack._replace(bad=stack.bad | any_of(wrong))


def any_of(true: jax.Array) -> jax.Array:
    """Whether any number of an image is true, `[B, ...] -> [B]`."""
    return true.reshape(len(true), -1).any(axis=1)


def two_to(exponents: jax.Array) -> jax.Array:
    """2^e in float64, exactly, of integers."""
    return lax.bitcast_convert_type((exponents.astype(jnp.int64) + 1023) << 52, jnp.float64)
