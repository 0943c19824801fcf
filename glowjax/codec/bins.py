"""Whole numbers as bins of finer ones: the place within a bin is popped from the stack."""

import jax
import jax.numpy as jnp

from glowjax.codec.lanes import Stack
from glowjax.codec.modular_scale import Ratio, pop_and_push, push_and_pop


def refine(index: jax.Array, edges: jax.Array, stack: Stack) -> tuple[jax.Array, Stack]:
    """Numbers uniform in their bins: `edges[i]` + pop(U[0, width of bin i)), int64 `[B, ...]`.

    This is bits-back: popping costs minus log₂ of the width, which `coarsen` gives back.

    Args:
        index: the bin of each number.
        edges: increasing, where each bin starts, and the end of the last; widths up to 2²⁰.
        stack: what is popped from.
    """
    start = edges[index]
    place, stack = pop_uniform(index.shape, edges[index + 1] - start, stack)
    return start + place, stack


def coarsen(x: jax.Array, edges: jax.Array, stack: Stack) -> tuple[jax.Array, Stack]:
    """The inverse of `refine`: the bins of numbers, whose places within are pushed."""
    index = jnp.searchsorted(edges, x, side="right") - 1
    index = jnp.clip(index, 0, len(edges) - 2)  # nets that do not repeat lead elsewhere
    start = edges[index]
    return index, push_uniform(x - start, edges[index + 1] - start, stack)


def pop_uniform(
    shape: tuple[int, ...], n: jax.Array | int, stack: Stack
) -> tuple[jax.Array, Stack]:
    """Pops symbols `[B, ...]`, each uniform on 0 … n - 1; n, one or each, is up to 2²⁰."""
    return pop_and_push(jnp.zeros(shape, jnp.int64), _whole(n), stack)


def push_uniform(symbols: jax.Array, n: jax.Array | int, stack: Stack) -> Stack:
    """Pushes what `pop_uniform` pops."""
    return push_and_pop(symbols, _whole(n), stack)[1]


def _whole(n):
    n = jnp.asarray(n, jnp.int64)
    return Ratio(n, jnp.zeros_like(n))
