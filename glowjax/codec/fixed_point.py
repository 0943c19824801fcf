"""Numbers in fixed point: whole numbers of 2⁻¹⁴, in a range that is watched."""

import numpy as np

FRACTION = 14  # bits after the point
RANGE_BITS = 29  # numbers stay in -2²⁹ … 2²⁹, which is -32,768 … 32,768
RANGE = 2**RANGE_BITS


class OutOfRange(ValueError):
    """Some images do not fit into fixed point on their way through the model.

    Attributes:
        rows: which of the batch.
    """

    def __init__(self, rows: np.ndarray):
        super().__init__(f"images {rows} of the batch leave -2^15 … 2^15")
        self.rows = rows


def fixed(x: np.ndarray, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """Floats as int64, the nearest in fixed point; what is not a number becomes 0.

    `shift`, of 0 … ½, moves the edges between two whole numbers down by as much.
    """
    scaled: np.ndarray = np.clip(np.nan_to_num(x.astype(np.float64) * 2**FRACTION), -RANGE, RANGE)
    return np.floor(scaled + (0.5 + shift)).astype(np.int64)


def in_range(x: np.ndarray) -> np.ndarray:
    """Numbers `[B, ...]` in fixed point as they are.

    Raises:
        OutOfRange: one is not within ±2¹⁵.
    """
    if x.size and max(x.max(), -x.min()) >= RANGE:
        rows = np.abs(x).reshape(len(x), -1).max(axis=1) >= RANGE
        raise OutOfRange(np.flatnonzero(rows))
    return x
