"""`by_rows` as one kernel of a GPU, where a loop of XLA starts kernels of its own for each row."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from glowjax.codec.lanes import LEAST, Row, Stack, Table, Words

BLOCK = 32  # lanes of a program: one warp, a thread each


def by_kernel(
    step: Callable,
    stack: Stack,
    arrays: tuple,
    *tables: Table,
    reverse: bool = False,
    interpret: bool = False,
) -> tuple[tuple[jax.Array, ...], Stack]:
    """What `by_rows` is; `interpret` runs it on any device, slowly."""
    width, count = len(stack.lanes), len(arrays[0])
    state = (stack.lanes, stack.top, stack.low, stack.peak)
    numbers = [jax.ShapeDtypeStruct((width,), array.dtype) for array in arrays]
    _, results = jax.eval_shape(step, _row(state, Words(stack.words)), numbers, *tables)
    outputs = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (*state, stack.words)]
    outputs += [jax.ShapeDtypeStruct((count,), result.dtype) for result in results]
    kernel = pl.pallas_call(
        functools.partial(_kernel, step, width, count, len(arrays), len(tables), reverse),
        out_shape=outputs,
        grid=(pl.cdiv(width, BLOCK),),
        input_output_aliases={4: 4},  # the words stay where they are
        compiler_params=triton.CompilerParams(num_warps=1),
        interpret=interpret,
    )
    found = kernel(*state, stack.words, *arrays, *[table.array for table in tables])
    lanes, top, low, peak, words, *results = found
    stack = stack._replace(lanes=lanes, top=top, low=low, peak=peak, words=words)
    return tuple(results), stack


@dataclass(frozen=True)
class _Words:
    """`Words` in the GPU's memory, of a program's lanes `[BLOCK]`, some of which may not exist."""

    ref: Any
    lane: jax.Array
    exists: jax.Array

    def written(self, at, x):
        here = self.exists & (at >= 0) & (at < self.ref.shape[0])
        place = self.ref.at[jnp.where(here, at, 0), self.lane]
        triton.store(place, x.astype(jnp.uint16), mask=here)
        return self

    def read(self, at):
        place = self.ref.at[jnp.clip(at, 0, self.ref.shape[0] - 1), self.lane]
        return triton.load(place, mask=self.exists, other=0)


@dataclass(frozen=True)
class _Table:
    """`Table` in the GPU's memory."""

    ref: Any

    def at(self, index):
        return triton.load(self.ref.at[index])

    def holding(self, slots):
        first = jnp.zeros(slots.shape, jnp.int32)
        last = jnp.full_like(first, self.ref.shape[0] - 1)
        for _ in range(self.ref.shape[0].bit_length()):
            middle = (first + last + 1) >> 1
            after = self.at(middle) <= slots
            first, last = jnp.where(after, middle, first), jnp.where(after, last, middle - 1)
        return first


def _kernel(step, width, count, arrays, tables, reverse, *refs):
    """A program's lanes, through all rows."""
    first, rest = refs[:4], refs[5:]
    given, rest = rest[:arrays], rest[arrays:]
    known, last = [_Table(ref) for ref in rest[:tables]], rest[tables:]
    lane = pl.program_id(0) * BLOCK + lax.iota(jnp.int32, BLOCK)
    exists = lane < width
    words, results = _Words(last[4], lane, exists), last[5:]
    rows = pl.cdiv(count, width)

    def turn(i, state):
        place = (rows - 1 - i if reverse else i) * width + lane
        valid = exists & (place < count)
        numbers = tuple(triton.load(ref.at[place], mask=valid, other=0) for ref in given)
        row, found = step(_row(state, words), numbers, *known)
        for ref, result in zip(results, found, strict=True):
            triton.store(ref.at[place], result, mask=valid)
        return row.lanes, row.top, row.low, row.peak

    state = tuple(
        triton.load(ref.at[lane], mask=exists, other=other)
        for ref, other in zip(first, (LEAST, 0, 0, 0), strict=True)
    )
    state = lax.fori_loop(0, rows, turn, state)
    for ref, value in zip(last[:4], state, strict=True):
        triton.store(ref.at[lane], value, mask=exists)


def _row(state, words):
    lanes, top, low, peak = state
    return Row(lanes, words, top, low, peak)
