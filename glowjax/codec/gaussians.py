"""Latents of N(0, 1) in fixed point: high bits by a table of the Gaussian, low bits as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from glowjax.codec.fixed_point import FRACTION, RANGE_BITS
from glowjax.codec.lanes import PRECISION, Stack
from glowjax.codec.modular_scale import Ratio, pop_and_push, push_and_pop
from glowjax.codec.symbols import pop_of, push_of

LOW = FRACTION - 8  # bits below a bin: bins are 2⁻⁸ wide
END = 8 * 2**8  # bins on either side of 0, up to ±8; beyond that, the outermost ones stand for all
BEYOND = RANGE_BITS + 1 - LOW  # bits of a bin of any number in range


def _table() -> np.ndarray:
    """Where the slots of each bin start, and the end of the last: at least one slot each."""
    edges = np.arange(-END, END + 1) / 2**8
    below = scipy.special.ndtr(edges)
    below[[0, -1]] = 0, 1
    spare = 2**PRECISION - 2 * END
    return np.rint(below * spare).astype(np.int64) + np.arange(2 * END + 1)


STARTS = _table()


def push_normal(z: jax.Array, stack: Stack) -> Stack:
    """Pushes int64 numbers `[B, ...]` in fixed point, as N(0, 1) has them: -log₂ of its density on
    2⁻¹⁴.

    A bin beyond ±8 is pushed in full, and then as the outermost bin on its side.
    """
    high, stack = pop_and_push(z, _bits(LOW), stack)
    index = jnp.clip(high + END, 0, 2 * END - 1)
    _, stack = pop_and_push(high + 2 ** (BEYOND - 1), _beyond(index), stack)
    return push_of(index, jnp.asarray(STARTS), stack)


def pop_normal(shape: tuple[int, ...], stack: Stack) -> tuple[jax.Array, Stack]:
    """Pops what `push_normal` pushed, numbers of the shape `[B, ...]`."""
    index, stack = pop_of(shape, jnp.asarray(STARTS), stack)
    by = _beyond(index)
    rest = jnp.where(by.bits > 0, 0, index - END + 2 ** (BEYOND - 1))
    high, stack = push_and_pop(rest, by, stack)
    return push_and_pop(high - 2 ** (BEYOND - 1), _bits(LOW), stack)


def _beyond(index):
    return _bits(jnp.where((index == 0) | (index == 2 * END - 1), BEYOND, 0))


def _bits(bits):
    bits = jnp.asarray(bits, jnp.int64)
    return Ratio(jnp.ones_like(bits), bits)
