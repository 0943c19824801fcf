"""The modular scale transform: an exact bijection of integers that scales (Li et al. 2021)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.codec.fixed_point import two_to
from glowjax.codec.lanes import (
    LEAST,
    PRECISION,
    Stack,
    least_for,
    popped,
    pushed,
    settled,
    slots,
    uniform,
)
from glowjax.codec.rows import by_rows

MANTISSA = 15  # bits of a scale's numerator
MOST = 28  # bits of its denominator


class Ratio(NamedTuple):
    """Scales numerator / 2^bits, int64 arrays: numerators from 2¹⁴ to 2¹⁵."""

    numerator: jax.Array
    bits: jax.Array


def ratio(scale: jax.Array, shift: jax.Array | float = 0.0) -> Ratio:
    """Scales above 0 as fractions, to 15 bits of their own size; 1 is exact.

    A scale beyond 2⁻¹⁴ … 2¹⁵ becomes the nearest within: another bijection than the model's, which
    costs bits, and is as exact. So does one that is not a number: it becomes 1. `shift`, of 0 … ½,
    moves the edges between two numerators down by as much.
    """
    scale = within(scale)
    bits = MANTISSA - jnp.frexp(scale)[1].astype(jnp.int64)  # scale < 2^exponent
    numerator = jnp.floor(scale * two_to(bits) + (0.5 + shift)).astype(jnp.int64)
    full = (numerator == 2**MANTISSA) & (bits > 0)  # the same as a half with a bit less
    return Ratio(numerator >> full, bits - full)


def within(scale: jax.Array) -> jax.Array:
    """Scales in float64, the nearest that `ratio` can have."""
    scale = jnp.where(jnp.isnan(scale), 1.0, scale.astype(jnp.float64))
    return jnp.clip(scale, 2.0 ** (MANTISSA - 1 - MOST), 2.0**MANTISSA - 1)


def scale_forward(x: jax.Array, by: Ratio, stack: Stack) -> tuple[jax.Array, Stack]:
    """z ≈ x·R / S, S = 2^bits, of int64 `[B, ...]`: q = x·R + pop(U[0, R)); z, e = divmod(q, S);
    push(e, U[0, S)). The stack grows by log₂ S - log₂ R bits a number: minus the log-determinant.
    Of images that are not `valid`, all numbers become 0.

    Source: Li et al. 2021, iFlow, section 3.2 (modular scale transform).
    """
    return pop_and_push(x, by, stack, moves=1)


def scale_inverse(z: jax.Array, by: Ratio, stack: Stack) -> tuple[jax.Array, Stack]:
    """The inverse of `scale_forward` for valid images; it leaves the stack as it was before."""
    return push_and_pop(z, by, stack, moves=1)


@functools.partial(jax.jit, static_argnames="moves")
def pop_and_push(x: jax.Array, by: Ratio, stack: Stack, moves: int = 2) -> tuple[jax.Array, Stack]:
    """`scale_forward` by any numerators from 1 to 2²⁰, of which `moves` words may be needed.

    With x = 0 and S = 1 it pops numbers of U[0, R). With R = 1 it pushes the lower bits of x and
    returns the higher.
    """

    def step(row, numbers):
        x, n, bits = numbers
        n = n + 1
        u = (slots(row.lanes) * n) >> PRECISION
        q, least = x * n + u, np.uint64(LEAST) >> bits.astype(jnp.uint64)
        row, y = settled(row, popped(row.lanes, *uniform(u, n)), least, moves)
        rest = (q & ((1 << bits) - 1)).astype(jnp.uint64)
        return row._replace(lanes=(y << bits.astype(jnp.uint64)) | rest), (q >> bits,)

    (z,), stack = by_rows(step, stack, _numbers(x, by, stack))
    return z.reshape(x.shape), stack


@functools.partial(jax.jit, static_argnames="moves")
def push_and_pop(z: jax.Array, by: Ratio, stack: Stack, moves: int = 2) -> tuple[jax.Array, Stack]:
    """The inverse of `pop_and_push`."""

    def step(row, numbers):
        z, n, bits = numbers
        n = n + 1
        rest = row.lanes & ((np.uint64(1) << bits.astype(jnp.uint64)) - 1)
        q = (z << bits) + rest.astype(jnp.int64)
        x = jnp.floor(q.astype(jnp.float64) / n).astype(jnp.int64)  # exact: see `uniform`
        start, size = uniform(q - x * n, n)
        y = row.lanes >> bits.astype(jnp.uint64)
        row, y = settled(row, y, least_for(size), moves)
        return row._replace(lanes=pushed(y, start, size)), (x,)

    (x,), stack = by_rows(step, stack, _numbers(z, by, stack), reverse=True)
    return x.reshape(z.shape), stack


def _numbers(x, by, stack):
    """Numbers and their scales, [N] each; R - 1 in place of R, so that zeros stand for 1.

    All are 0 for images that are not valid: what a flow makes of them may grow beyond 2⁵³.
    """
    valid = stack.each(x.shape)
    return tuple(jnp.where(valid, a, 0).reshape(-1) for a in (x, by.numerator - 1, by.bits))
