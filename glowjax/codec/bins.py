"""Whole numbers as bins of finer ones: the place within a bin is popped from the stack."""

import numpy as np

from glowjax.codec.coder import Coder


def refine(index: np.ndarray, edges: np.ndarray, coder: Coder) -> np.ndarray:
    """Numbers uniform in their bins: `edges[i]` + pop(U[0, width of bin i)), int64 vectors.

    This is bits-back: popping costs minus log₂ of the width, which `coarsen` gives back.

    Args:
        index: `[N]`, the bin of each number.
        edges: increasing, where each bin starts, and the end of the last; widths up to 2²⁰.
        coder: what is popped from.
    """
    x = edges[index]
    widths = edges[index + 1] - x
    for row in coder.rows(len(x)):
        x[row] += coder.pop_uniform(len(x[row]), widths[row])
    return x


def coarsen(x: np.ndarray, edges: np.ndarray, coder: Coder) -> np.ndarray:
    """The inverse of `refine`: the bins of numbers, whose places within are pushed."""
    index = np.searchsorted(edges, x, side="right") - 1
    index = np.clip(index, 0, len(edges) - 2)  # nets that do not repeat lead elsewhere
    widths = edges[index + 1] - edges[index]
    for row in reversed(coder.rows(len(x))):
        coder.push_uniform(x[row] - edges[index[row]], widths[row])
    return index
