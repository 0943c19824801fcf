"""What every flow does to arrays: promote, sum over events, refuse what is not floats."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

HIGHEST = jax.lax.Precision.HIGHEST  # float32 would run as TF32 on NVIDIA GPUs


def promote(x: jax.Array) -> jax.Array:
    """Returns `x` as a float array of at least float32, the dtype of all flow arithmetic."""
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def floats_as(tree: Any, like: Any) -> Any:
    """`tree`, its floats in the dtype of flow arithmetic on `like`, which loops must keep."""
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(like))

    def cast(leaf):
        floats = is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype) if floats else leaf

    return jax.tree.map(cast, tree)


def sum_event(x: jax.Array) -> jax.Array:
    """Sums `x: [B, ...]` over all but the batch axis -> `[B]`."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def draw_in_rows(draw: Any, key: jax.Array, shape: Sequence[int], *args: Any) -> jax.Array:
    """`draw(key, shape, *args)`, drawn as rows: XLA compiles bits of 4 axes ten times slower."""
    rows = (shape[0], math.prod(shape[1:])) if len(shape) > 2 else shape
    return draw(key, rows, *args).reshape(shape)


def per_example(log_det: jax.Array, x: jax.Array) -> jax.Array:
    """Repeats a log-determinant that is the same for every example -> `[B]`."""
    return jnp.broadcast_to(log_det, x.shape[:1])


def positions(x: jax.Array) -> int:
    """The number of positions in an event of `x: [B, ..., C]`: H·W for images, 1 for vectors."""
    count = 1
    for size in x.shape[1:-1]:
        count *= size
    return count


def varying_axes(x: Any) -> frozenset[str]:
    """The mesh axes over which `x` differs, inside a `jax.shard_map` that keeps count of them."""
    kind: Any = jax.typeof(x)
    if hasattr(kind, "manual_axis_type"):  # jax 0.11 up
        return frozenset(kind.manual_axis_type.varying)
    return frozenset(kind.vma)


def vary_as(tree: Any, x: Any) -> Any:
    """`tree`, whose leaves `jax.shard_map` counts as differing over axes as `x` does."""

    def vary(leaf):
        axes = tuple(varying_axes(x) - varying_axes(leaf))
        return jax.lax.pcast(leaf, axes, to="varying") if axes else leaf

    return jax.tree.map(vary, tree)


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
                " (integer images go through glowjax.dequantize first)"
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
        due = "a JAX key, such as jax.random.key(0)"
        raise ValueError(f"{name} must be {due}, got {described(key)}")


def split_key(key: jax.Array, n: int = 2) -> jax.Array:
    """`jax.random.split`, of what is a key."""
    check_key("key", key)
    return jax.random.split(key, n)


def check_image_shape(name: str, x: Any) -> None:
    """Raises `ValueError` unless `x` is one array of the shape `[B, H, W, C]`, not empty."""
    shape = jax.tree.map(jnp.shape, x)
    if jax.tree.structure(x) != jax.tree.structure(0) or len(shape) != 4 or 0 in shape:
        raise ValueError(f"{name} must be images [B, H, W, C], not empty, got shape {shape}")


def require(ok: Any, name: str, given: Any, wanted: str) -> None:
    """Raises `ValueError` "name must be wanted, got given" unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {wanted}, got {given!r}")


def check_in(interval: str, *, optional: bool = False, **numbers: Any) -> None:
    """Raises `ValueError` unless every named number is in an interval as "[0, 1)" or "(0, inf)".

    With `optional` None will do too.
    """
    low, high = map(float, interval[1:-1].split(","))
    for name, value in numbers.items():
        try:
            above = value >= low if interval[0] == "[" else value > low
            below = value <= high if interval[-1] == "]" else value < high
            ok = bool(above and below) and not isinstance(value, bool)
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
        due = f"floats of shape ({x.shape[0]}, F)"
        raise ValueError(f"context must be {due}, got {described(context)}")


def check_labels(labels: Any, num_classes: int, batch: int) -> None:
    """Raises `ValueError` unless `labels`, a context, are integers of shape `(batch,)` in range.

    Their values are seen outside of `jit` only.
    """
    due = f"integer labels of shape ({batch},) in 0..{num_classes - 1}"
    shape = jnp.shape(labels) if is_array(labels) else None
    if shape != (batch,) or not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise ValueError(f"context must be {due}, got {described(labels)}")
    if is_known(labels):
        wrong = np.flatnonzero((np.asarray(labels) < 0) | (np.asarray(labels) >= num_classes))
        if len(wrong):
            raise ValueError(
                f"context must be {due}, got {np.asarray(labels)[wrong[0]]} at {wrong[0]}"
            )


def is_known(x: Any) -> bool:
    """Whether the values of an array can be looked at: not under `jit`, nor of another host."""
    return not isinstance(x, Tracer) and getattr(x, "is_fully_addressable", True)


def one_hot(labels: jax.Array, num_classes: int, dtype: Any) -> jax.Array:
    """`[B]` integer labels -> `[B, num_classes]` of 0 and 1; NaN where one is out of range."""
    valid = (labels >= 0) & (labels < num_classes)
    return jnp.where(valid[:, None], jax.nn.one_hot(labels, num_classes, dtype=dtype), jnp.nan)
