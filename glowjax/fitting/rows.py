"""The examples that `fit` trains on: checked, weighted, split and put in order."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.checks import described, finite_numbers, require
from glowjax.data.shuffle import stream


class Batch(NamedTuple):
    """What a loss sees of the data: examples `x: [b, ...]`, their context and weights `[b]`.

    Without data x is None, and there are contexts alone.
    """

    x: Any
    context: Any = None
    weights: jax.Array | None = None


@dataclass(frozen=True)
class Examples:
    """A batch of all examples of one part of the data.

    Attributes:
        name: of the argument that they come from.
        rows: their places in it, `[N]`.
    """

    name: str
    batch: Batch
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Any) -> "Examples":
        """Some of them."""
        return Examples(self.name, jax.tree.map(lambda a: a[index], self.batch), self.rows[index])


def split(
    data: Any, context: Any, weights: Any, validation: Any, seed: int
) -> tuple[Examples | None, Examples | None]:
    """The training and the held-out examples, from the arguments of `fit`."""
    return divided(whole_of(data, context, weights), validation, seed)


def whole_of(data: Any, context: Any, weights: Any) -> Examples | None:
    """All examples, from the arguments of `fit`; None without data and context."""
    if data is not None or context is not None:
        return examples("data", data, context, weights)
    require(weights is None, "weights", described(weights), "None without data and context")
    return None


def divided(
    whole: Examples | None, validation: Any, seed: int
) -> tuple[Examples | None, Examples | None]:
    """`split`, of examples that were checked before, or of none."""
    if whole is None or whole.batch.x is None:
        given = described(validation)
        fraction = isinstance(validation, float | int | None)
        require(fraction, "validation", given, "None without data: no likelihood can be found")
        return whole, None
    if not isinstance(validation, float | int | None):
        parts = validation if isinstance(validation, tuple) else (validation,)
        require(len(parts) <= 3, "validation", f"{len(parts)} parts", "x, context and weights")
        held_out = examples("validation", *parts)
        contexts = [jax.tree.structure(part.batch.context) for part in (whole, held_out)]
        wanted = "(x, context), with a context as that of data"
        require(contexts[0] == contexts[1], "validation", described(validation), wanted)
        return whole, held_out
    fraction = validation or 0
    require(0 <= fraction < 1, "validation", validation, "arrays, or a fraction in [0, 1)")
    n = len(whole)
    count = round(fraction * n)
    wanted = f"a fraction that holds out at least one of {n} examples, arrays, or 0"
    require(count or not fraction, "validation", validation, wanted)
    order = stream(n, seed, 0, n)
    return whole.take(order[count:]), whole.take(order[:count]) if count else None


def order(train: Examples | None, seed: int, start: int, stop: int, batch_size: int) -> np.ndarray:
    """Which examples each step sees: `[steps, batch_size]`, as the image experiments' order."""
    if train is None:
        return np.zeros((stop - start, 0), np.int32)
    visits = stream(len(train), seed, start * batch_size, (stop - start) * batch_size)
    return visits.reshape(stop - start, batch_size)


def examples(name: str, x: Any, context: Any = None, weights: Any = None) -> Examples:
    """All of an argument's examples, checked, in their order; weights get the mean 1.

    x is None where there are contexts alone.
    """
    x = None if x is None else _checked(name, x)
    context = jax.tree.map(lambda a: finite_numbers("context", a), context)
    first = jax.tree.leaves(context)[0] if x is None else x
    require(first.ndim > 0 and len(first), "context", first.shape, "one row for each example")
    count = len(first)
    for leaf in jax.tree.leaves(context):
        require(leaf.shape[:1] == (count,), "context", leaf.shape, f"one row for each of {count}")
    if weights is not None:
        weights = finite_numbers("weights", weights)
        require(weights.shape == (count,), "weights", weights.shape, f"of shape ({count},)")
        require(weights.min() >= 0 < weights.max(), "weights", weights.min(), "≥ 0, not all 0")
        weights = weights / weights.mean(dtype=float)  # so that losses and rates keep their size
    batch = Batch(*jax.tree.map(jnp.asarray, (x, context, weights)))
    return Examples(name, batch, np.arange(count))


def _checked(name: str, x: Any) -> np.ndarray:
    """Data as an array of finite numbers."""
    x = finite_numbers(name, x)
    require(x.ndim > 1, name, x.shape, "batched, of shape [N, ...]")
    require(len(x) > 0, name, x.shape, "of at least one example")
    _check_resolution(name, x)
    return x


def _check_resolution(name: str, x: np.ndarray) -> None:
    """Refuses columns whose spread drowns in the rounding of the dtype that they are cast to."""
    dtype = jnp.asarray(x[:1]).dtype
    if x.ndim != 2 or x.dtype.kind == "u" or not jnp.issubdtype(dtype, jnp.floating):
        return
    deviation = x.std(axis=0, dtype=float)
    spacing = np.spacing(np.abs(x).max(axis=0).astype(dtype))
    bad = np.flatnonzero((spacing > deviation / 4) & (deviation > 0) & (x.dtype != dtype))
    if len(bad):
        column = bad[0]
        raise ValueError(
            f"{name} must differ by more than the rounding of {dtype}: column {column} has values"
            f" near {x[0, column]:.10g} and a standard deviation of {deviation[column]:.3g}, and"
            f" {dtype} steps by {spacing[column]:.3g} there; subtract the column's mean in"
            " float64 first"
        )
