"""The stack of bits on a device: many lanes, each a number and words of its own.

It is asymmetric numeral systems (Duda 2014, section 3), in the form of pure functions. A lane is a
number x of 64 bits, in 2⁴⁸ … 2⁶⁴ - 1 between two symbols. A symbol is an interval of 2³⁰ slots, as
long as its probability says. To push [start, start + size) is

    x <- ⌊x / size⌋·2³⁰ + start + x mod size

before which words of 16 bits go from the lane to its words, or back, until the new x is within its
bounds. A step that pops a symbol and pushes another moves words once, in between: mostly none.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

PRECISION = 30  # bits of the slots
WORD = 16  # bits that a lane moves at once
LEAST = 2**48  # of a lane between two symbols, which is below LEAST·2¹⁶


class Stack(NamedTuple):
    """A stack beside a batch of images. What is below zero or beyond the words was never there.

    Attributes:
        lanes: `[L]`, uint64.
        words: `[depth, L]`, uint16.
        top: `[L]`, how many words each lane has.
        low, peak: `[L]`, how few and how many it had.
        bad: `[B]`, images that left the range of fixed point.
        valid: `[B]`, images that count; the numbers of others push and pop nothing.
    """

    lanes: jax.Array
    words: jax.Array
    top: jax.Array
    low: jax.Array
    peak: jax.Array
    bad: jax.Array
    valid: jax.Array

    def fits(self) -> bool:
        """Whether no lane had fewer words than none, or more than there is room for."""
        return bool(jnp.all((self.low >= 0) & (self.peak <= len(self.words))))

    def each(self, shape: tuple[int, ...]) -> jax.Array:
        """`valid` for each number of an array of the shape `[B, ...]`."""
        return jnp.broadcast_to(self.valid.reshape(-1, *[1] * (len(shape) - 1)), shape)


class Words(NamedTuple):
    """Words `[depth, L]`, of which each lane `[L]` reaches one at a time."""

    array: jax.Array

    def written(self, at: jax.Array, x: jax.Array) -> "Words":
        """The words with the lower bits of x there; nothing is written beyond them."""
        lane = jnp.arange(len(at))
        return Words(self.array.at[at, lane].set(x.astype(jnp.uint16), mode="drop"))

    def read(self, at: jax.Array) -> jax.Array:
        """Those there, or the nearest."""
        return self.array.at[at, jnp.arange(len(at))].get(mode="clip")


class Table(NamedTuple):
    """Whole numbers `[N]`, which never fall: where the slots of symbols start, and their end."""

    array: jax.Array

    def at(self, index: jax.Array) -> jax.Array:
        """The numbers at indices."""
        return self.array[index]

    def holding(self, slots: jax.Array) -> jax.Array:
        """The symbols that hold slots."""
        return jnp.searchsorted(self.array, slots, side="right") - 1


class Row(NamedTuple):
    """What each lane is when it meets a row of numbers; see `Stack`."""

    lanes: jax.Array
    words: Any  # `Words`, or what reads and writes like them
    top: jax.Array
    low: jax.Array
    peak: jax.Array


def settled(row: Row, x: jax.Array, least: ArrayLike, moves: int) -> tuple[Row, jax.Array]:
    """Moves up to `moves` words until x `[L]` is in least … least·2¹⁶ - 1."""
    for _ in range(moves):
        over, under = (x >> WORD) >= least, x < least
        # Above the top is nothing, so it may always be written; to write first saves a copy.
        words = row.words.written(row.top, x)
        below = words.read(row.top - 1).astype(jnp.uint64)
        x = jnp.where(over, x >> WORD, jnp.where(under, (x << WORD) | below, x))
        top = row.top + over.astype(jnp.int32) - under.astype(jnp.int32)
        low, peak = jnp.minimum(row.low, top), jnp.maximum(row.peak, top)
        row = Row(row.lanes, words, top, low, peak)
    return row, x


def slots(lanes: jax.Array) -> jax.Array:
    """The slots that lanes are at."""
    return (lanes & (2**PRECISION - 1)).astype(jnp.int64)


def popped(lanes: jax.Array, start: jax.Array, size: jax.Array) -> jax.Array:
    """Lanes without the intervals that hold their slots, before words are moved."""
    inside = (slots(lanes) - start).astype(jnp.uint64)
    return size.astype(jnp.uint64) * (lanes >> PRECISION) + inside


def least_for(size: jax.Array) -> jax.Array:
    """The least number onto which an interval is pushed; the largest is below 2¹⁶ times that."""
    return size.astype(jnp.uint64) << (48 - PRECISION)


def pushed(x: jax.Array, start: jax.Array, size: jax.Array) -> jax.Array:
    """Lanes with intervals on top of numbers, which words were moved for."""
    # float64 has the quotient, below 2³⁴, but for one; it is faster than a division of integers.
    quotient = jnp.floor(x.astype(jnp.float64) / size).astype(jnp.int64)
    rest = x.astype(jnp.int64) - quotient * size
    off = (rest >= size).astype(jnp.int64) - (rest < 0)
    quotient, rest = quotient + off, rest - off * size
    return ((quotient << PRECISION) + start + rest).astype(jnp.uint64)


def uniform(symbols: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Start and size of the intervals of symbols, each uniform on 0 … n - 1, n up to 2²⁰.

    ⌈2³⁰·symbol / n⌉ is where one starts. A quotient in float64 is exact enough: it is below 2³⁰,
    and differs from whole numbers by nothing or by 1 / n at least.
    """
    n = n.astype(jnp.float64)
    start, end = (
        jnp.ceil((part << PRECISION).astype(jnp.float64) / n).astype(jnp.int64)
        for part in (symbols, symbols + 1)
    )
    return start, end - start
