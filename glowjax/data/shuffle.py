"""The order of examples, and their random draws, from a seed."""

from __future__ import annotations

import functools

import numpy as np


def stream(n: int, seed: int, start: int, count: int) -> np.ndarray:
    """Examples at positions start, ..., start + count - 1 of the training stream."""
    position = np.arange(start, start + count)
    epochs = range(start // n, (start + count - 1) // n + 1)
    return np.concatenate([_order(n, seed, e)[position[position // n == e] % n] for e in epochs])


@functools.lru_cache(maxsize=4)
def _order(n, seed, epoch):
    """Permutation of n for one epoch."""
    bits = np.random.Philox(key=np.array([seed, epoch + 1], np.uint64)).random_raw(n)
    return np.argsort(bits, kind="stable")


def draws(seed, start, count) -> np.ndarray:
    """Random uint32 [count, 8]: one Philox block an example, counted by its stream position."""
    # Key 0 is no epoch's; 4 words of 64 bits make a block.
    philox = np.random.Philox(key=np.array([seed, 0], np.uint64), counter=[start, 0, 0, 0])
    return philox.random_raw(4 * count).view(np.uint32).reshape(count, 8)


def below(bits, bound) -> np.ndarray:
    """Uniform integers in [0, bound) from uint32 bits."""
    return ((bits.astype(np.uint64) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)
