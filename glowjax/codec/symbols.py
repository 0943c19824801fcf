"""Symbols on the stack, each an interval of slots that a table has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.codec.lanes import (
    LEAST,
    PRECISION,
    Stack,
    Table,
    least_for,
    popped,
    pushed,
    settled,
    slots,
)
from glowjax.codec.rows import by_rows


@jax.jit
def push_of(index: jax.Array, edges: jax.Array, stack: Stack) -> Stack:
    """Pushes symbols `[B, ...]`: number i is the slots edges[i] … edges[i + 1] - 1."""
    valid = stack.each(index.shape)
    start = jnp.where(valid, edges[index], 0)
    size = jnp.where(valid, edges[index + 1], 0) - start  # 0 for no symbol

    def step(row, numbers):
        start, size = numbers
        size = jnp.where(size == 0, 2**PRECISION, size)
        row, x = settled(row, row.lanes, least_for(size), 2)
        return row._replace(lanes=pushed(x, start, size)), ()

    return by_rows(step, stack, (start.reshape(-1), size.reshape(-1)))[1]


@functools.partial(jax.jit, static_argnames="shape")
def pop_of(shape: tuple[int, ...], edges: jax.Array, stack: Stack) -> tuple[jax.Array, Stack]:
    """Pops what `push_of` pushed, symbols of the shape `[B, ...]`."""

    def step(row, numbers, table):
        valid = numbers[0] > 0
        index = table.holding(slots(row.lanes))
        start = jnp.where(valid, table.at(index), 0)
        size = jnp.where(valid, table.at(index + 1) - start, 2**PRECISION)
        x = popped(row.lanes, start, size)
        row, x = settled(row, x, np.uint64(LEAST), 2)
        return row._replace(lanes=x), (jnp.where(valid, index, 0),)

    valid = stack.each(shape).reshape(-1).astype(jnp.int32)
    (index,), stack = by_rows(step, stack, (valid,), Table(jnp.asarray(edges)), reverse=True)
    return index.reshape(shape), stack
