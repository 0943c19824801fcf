"""Latents of N(0, 1) in fixed point: high bits by a table of the Gaussian, low bits as they are."""

import numpy as np
import scipy.special

from glowjax.codec.coder import PRECISION, Coder
from glowjax.codec.fixed_point import FRACTION, RANGE_BITS

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


def push_normal(z: np.ndarray, coder: Coder) -> None:
    """Pushes int64 numbers `[N]` in fixed point, as N(0, 1) has them: -log₂ of its density on 2⁻¹⁴.

    A bin beyond ±8 is pushed in full, and then as the outermost bin on its side.
    """
    for row in coder.rows(len(z)):
        high = z[row] >> LOW
        coder.push_bits(z[row] - (high << LOW), LOW)
        index = np.clip(high + END, 0, 2 * END - 1)
        coder.push_bits(high[_outermost(index)] + 2 ** (BEYOND - 1), BEYOND)
        coder.push(STARTS[index], STARTS[index + 1] - STARTS[index])


def pop_normal(count: int, coder: Coder) -> np.ndarray:
    """Pops what `push_normal` pushed, `count` numbers."""
    z = np.empty(count, np.int64)
    for row in reversed(coder.rows(count)):
        index = np.searchsorted(STARTS, coder.slots(row.stop - row.start), side="right") - 1
        coder.drop(STARTS[index], STARTS[index + 1] - STARTS[index])
        high = index - END
        outermost = _outermost(index)
        beyond = coder.pop_bits(int(np.count_nonzero(outermost)), BEYOND)
        high[outermost] = beyond - 2 ** (BEYOND - 1)
        z[row] = (high << LOW) + coder.pop_bits(len(index), LOW)
    return z


def _outermost(index: np.ndarray) -> np.ndarray:
    return (index == 0) | (index == 2 * END - 1)
