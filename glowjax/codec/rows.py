"""Numbers to the lanes of a stack, row by row: by a loop, and on GPUs by a kernel."""

import functools
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.codec import rows_kernel
from glowjax.codec.lanes import LEAST, Row, Stack, Table, Words, popped, settled, slots

Found = tuple[tuple[jax.Array, ...], Stack]


def by_rows(
    step: Callable, stack: Stack, arrays: tuple, *tables: Table, reverse: bool = False
) -> Found:
    """Applies a step to arrays `[N]`, a number a lane and row by row.

    `step(row, numbers, *tables) -> (row, results)`, with a tuple of numbers and one of results.
    Zeros fill the last row: for them it must push and pop nothing. A step uses no other arrays.

    Returns:
        `(results [N], stack)`.
    """
    loop = functools.partial(by_loop, step, reverse=reverse)
    if not _kernel_works():
        return loop(stack, arrays, *tables)
    kernel = functools.partial(rows_kernel.by_kernel, step, reverse=reverse)
    return lax.platform_dependent(stack, arrays, *tables, cuda=kernel, default=loop)


def by_loop(
    step: Callable, stack: Stack, arrays: tuple, *tables: Table, reverse: bool = False
) -> Found:
    """`by_rows` wherever JAX runs."""
    width, count = len(stack.lanes), len(arrays[0])
    rows = -(-count // width)

    def cut(array):
        return jnp.pad(array, (0, rows * width - count)).reshape(rows, width)

    row = Row(stack.lanes, Words(stack.words), stack.top, stack.low, stack.peak)
    row, results = lax.scan(
        lambda row, numbers: step(row, numbers, *tables),
        row,
        jax.tree.map(cut, arrays),
        reverse=reverse,
    )
    stack = stack._replace(**row._replace(words=row.words.array)._asdict())
    return jax.tree.map(lambda array: array.reshape(-1)[:count], results), stack


@functools.cache
def _kernel_works() -> bool:
    """Whether there is a GPU on which the kernel makes what the loop makes."""
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    if not gpus:
        return False
    try:
        with ThreadPoolExecutor(1) as threads:  # JAX may be tracing in this one
            threads.submit(_check_kernel, gpus[0]).result()
    except Exception as error:  # an old GPU, or one for which Pallas has no compiler
        warnings.warn(f"the codec is slow on this GPU: its kernel fails: {error}", stacklevel=2)
        return False
    return True


def _check_kernel(device: jax.Device) -> None:
    with jax.enable_x64(True), jax.default_device(device):
        ways = (functools.partial(by, _pop_some) for by in (by_loop, rows_kernel.by_kernel))
        found = [jax.tree.leaves(jax.jit(way)(*_trial())) for way in ways]
    jax.tree.map(np.testing.assert_array_equal, *found)


def _pop_some(row, numbers):
    (size,) = numbers
    found = slots(row.lanes)
    row, x = settled(row, popped(row.lanes, 0 * size, size + 1), np.uint64(LEAST), 2)
    return row._replace(lanes=x), (found,)


def _trial() -> tuple[Stack, tuple[np.ndarray]]:
    """A stack of 37 lanes, and 100 numbers."""
    rng, top = np.random.default_rng(0), np.full(37, 50, np.int32)
    lanes = rng.integers(LEAST, 2**64, 37, np.uint64)
    words = rng.integers(0, 2**16, (100, 37), np.uint16)
    arrays = lanes, words, top, top, top, np.zeros(1, bool), np.ones(1, bool)
    return Stack(*map(jnp.asarray, arrays)), (rng.integers(0, 2**30, 100),)
