"""Data sets of vectors on which small flows are compared: seven of the plane, four tables."""

from typing import NamedTuple

import jax
import numpy as np
from sklearn import datasets

from glowjax import toy

TABLES = {
    "diabetes": lambda: datasets.load_diabetes(scaled=False).data,
    "wine": lambda: datasets.load_wine().data,
    "breast cancer": lambda: datasets.load_breast_cancer().data,
    "digits": lambda: datasets.load_digits().data,
}
NAMES = (*toy.TOY, *TABLES)
PLANE = 10_000, 2_500, 20_000  # points to train on, to validate on, to test on


class Parts(NamedTuple):
    """Rows `[N, D]`, float32, standardized by those to train on."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def parts(name: str, seed: int) -> Parts:
    """A data set, drawn or split by a seed."""
    if name in toy.TOY:
        points = np.asarray(toy.TOY[name](jax.random.key(seed), sum(PLANE)))
        split = np.split(points, np.cumsum(PLANE[:2]))
    else:
        rng = np.random.default_rng(seed)
        rows = rng.permutation(_without_steps(TABLES[name](), rng))
        split = np.split(rows, [round(0.65 * len(rows)), round(0.8 * len(rows))])
    mean, deviation = split[0].mean(0), split[0].std(0)
    return Parts(*(((rows - mean) / deviation).astype(np.float32) for rows in split))


def _without_steps(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The columns with at least 5 values, with uniform noise as wide as their numbers are rounded.

    Else a density could grow without end on the few values that there are.
    """
    columns = [column for column in table.T if len(np.unique(column)) >= 5]
    steps = np.array([np.diff(np.unique(column)).min() for column in columns])
    return np.transpose(columns) + steps * rng.uniform(size=(len(table), len(columns)))
