"""Refusals in words: what came, and what was wanted."""

import math
import operator
from numbers import Real
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_array(x: Any) -> bool:
    """Whether JAX takes `x` for an array: lists and dicts are none."""
    try:
        jax.typeof(x)
    except TypeError:
        return False
    return True


def described(x: Any) -> str:
    """What came, in words: an array by its dtype and shape, a tuple by those of its arrays."""
    if x is None or isinstance(x, bool | int | float | str):
        return repr(x)
    if is_array(x):
        return f"{jnp.result_type(x)} of shape {jnp.shape(x)}"
    if type(x) is tuple:
        return f"({', '.join(map(described, x))})"
    return f"a {type(x).__name__}" + (f" of {x.dtype}" if hasattr(x, "dtype") else "")


def check_floats(name: str, arrays: Any) -> None:
    """Raises `ValueError` unless all arrays of the tree are floats, batched and not empty."""
    for leaf in jax.tree.leaves(arrays, is_leaf=lambda tree: not isinstance(tree, tuple)):
        check_array(name, leaf)
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"{name} must be floating point, got {dtype}"
                " (integer images go through glowjax.dequantize first; of a table, x.astype(float))"
            )
        if jnp.ndim(leaf) < 2:
            raise ValueError(
                f"{name} must be batched, [B, ...] with at least one event axis,"
                f" got shape {jnp.shape(leaf)}"
            )
        if 0 in jnp.shape(leaf):
            raise ValueError(f"{name} must hold at least one number, got shape {jnp.shape(leaf)}")


def check_array(name: str, x: Any) -> None:
    """Raises `ValueError` unless `x` is one array, of JAX or NumPy."""
    if not is_array(x):
        raise ValueError(f"{name} must be an array, as jnp.asarray makes, got {described(x)}")


def check_key(name: str, key: Any) -> None:
    """Raises `ValueError` unless `key` is one JAX key, of the new kind or the old."""
    kind: Any = jax.typeof(key) if is_array(key) else None
    new = kind and jnp.issubdtype(kind.dtype, jax.dtypes.prng_key) and kind.shape == ()
    old = kind and kind.dtype == jnp.uint32 and len(kind.shape) == 1
    if not (new or old):
        wanted = "a JAX key, such as jax.random.key(0)"
        raise ValueError(f"{name} must be {wanted}, got {described(key)}")


def check_image_shape(name: str, x: Any) -> None:
    """Raises `ValueError` unless `x` is one array of the shape `[B, H, W, C]`, not empty."""
    shape = jax.tree.map(jnp.shape, x)
    if jax.tree.structure(x) != jax.tree.structure(0) or len(shape) != 4 or 0 in shape:
        raise ValueError(f"{name} must be images [B, H, W, C], not empty, got shape {shape}")


def require(ok: Any, name: str, given: Any, wanted: str) -> None:
    """Raises `ValueError` "name must be wanted, got given" unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {wanted}, got {given!r}")


class Interval(NamedTuple):
    """Numbers between two ends, which belong to it where they are `closed`."""

    low: float
    high: float
    closed: Literal["neither", "low", "both"] = "neither"

    def __contains__(self, value: Any) -> bool:
        above = value > self.low or (self.closed != "neither" and value == self.low)
        below = value < self.high or (self.closed == "both" and value == self.high)
        return bool(above and below)

    def __str__(self) -> str:
        opening = "(" if self.closed == "neither" else "["
        closing = "]" if self.closed == "both" else ")"
        return f"{opening}{self.low:.6g}, {self.high:.6g}{closing}"


POSITIVE = Interval(0, math.inf)
NON_NEGATIVE = Interval(0, math.inf, "low")
BELOW_ONE = Interval(0, 1, "low")


def check_in(interval: Interval, *, optional: bool = False, **numbers: Any) -> None:
    """Raises `ValueError` unless every named number is in an interval; `optional`: or is None."""
    for name, value in numbers.items():
        try:
            ok = value in interval and not isinstance(value, bool)
        except (TypeError, ValueError):  # no number, or several
            ok = optional and value is None
        require(ok, name, value, f"{'None or ' * optional}in {interval}")


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raises `ValueError` unless `value` is a whole number, of Python or NumPy, in low..high."""
    bounds = f"of at least {low}" if high is None else f"in {low}..{high}"
    try:
        ok = operator.index(value) >= low and (high is None or value <= high)
    except TypeError:
        ok = False
    require(ok and not isinstance(value, bool), name, value, f"a whole number {bounds}")


def check_positive(**sizes: Any) -> None:
    """Raises `ValueError` unless every named size is a whole number of at least 1."""
    for name, size in sizes.items():
        check_integer(name, size, 1)


def check_event_shape(event_shape: Any) -> tuple[int, ...]:
    """`event_shape` as a tuple, or `ValueError` unless it is one of sizes of at least 1."""
    require(isinstance(event_shape, tuple | list), "event_shape", event_shape, "a tuple of sizes")
    for size in event_shape:
        check_positive(event_shape=size)
    return tuple(event_shape)


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    require(value in choices, name, value, f"one of {', '.join(map(repr, choices))}")


def check_context(context: Any, x: jax.Array) -> None:
    """Raises `ValueError` unless context is None or floats `[B, F]`, one row for each of x."""
    if context is None:
        return
    shape = jnp.shape(context) if is_array(context) else ()
    fits = len(shape) == 2 and shape[0] == x.shape[0] and shape[1] > 0
    if not (fits and jnp.issubdtype(jnp.result_type(context), jnp.floating)):
        wanted = f"floats of shape ({x.shape[0]}, F)"
        raise ValueError(f"context must be {wanted}, got {described(context)}")


def check_labels(labels: Any, num_classes: int, batch: int) -> None:
    """Raises `ValueError` unless `labels`, a context, are integers of shape `(batch,)` in range.

    Their values are seen outside of `jit` only.
    """
    wanted = f"integer labels of shape ({batch},) in 0..{num_classes - 1}"
    shape = jnp.shape(labels) if is_array(labels) else None
    if shape != (batch,) or not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise ValueError(f"context must be {wanted}, got {described(labels)}")
    if is_known(labels):
        wrong = np.flatnonzero((np.asarray(labels) < 0) | (np.asarray(labels) >= num_classes))
        if len(wrong):
            raise ValueError(
                f"context must be {wanted}, got {np.asarray(labels)[wrong[0]]} at {wrong[0]}"
            )


def finite_numbers(name: str, values: Any) -> np.ndarray:
    """`values`, arrays or a table of pandas, polars or arrow, as a NumPy array of finite numbers.

    Raises:
        ValueError: one is not a number, or not finite in the dtype that JAX gives it; it is named
            with its place, and of a table with its column.
    """
    masked = np.ma.isMA(values) and np.any(np.ma.getmaskarray(values))
    require(not masked, name, "masked numbers", "an array without masked numbers")
    array = np.asarray(values)
    if array.dtype == object:  # of columns of several dtypes
        array = _numbers_of_objects(name, values, array)
    require(array.dtype.kind in "fiub" or array.dtype == jnp.bfloat16, name, array.dtype, "numbers")
    cast = np.asarray(jnp.asarray(array))
    bad = np.argwhere(~np.isfinite(cast))
    if len(bad):
        at = tuple(map(int, bad[0]))
        raise ValueError(
            f"{name} must be finite {cast.dtype} numbers, got {array[at]} at {_place(values, at)}"
            f" ({len(bad)} of {array.size} are not finite)"
        )
    return array


def _numbers_of_objects(name: str, values: Any, array: np.ndarray) -> np.ndarray:
    for at, value in np.ndenumerate(array):
        if not isinstance(value, Real | np.bool_):
            raise ValueError(
                f"{name} must be numbers, got {value!r} at {_place(values, at)}: leave columns of"
                " text and dates out or code them as numbers, and fill in what is missing"
            )
    return array.astype(float)


def _place(values: Any, at: tuple[int, ...]) -> str:
    """Where a number is, in a table with the name of its column."""
    names = getattr(values, "column_names", getattr(values, "columns", None))
    known = names is not None and len(at) == 2
    return f"{list(at)}" + (f", column {names[at[1]]!r}" if known else "")


def is_known(x: Any) -> bool:
    """Whether the values of an array can be looked at: not under `jit`, nor of another host."""
    return not isinstance(x, Tracer) and getattr(x, "is_fully_addressable", True)
