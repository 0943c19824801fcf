"""What every flow does to arrays: promote, sum over events, refuse what is not floats."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer, Shaped

from glowjax.checks import check_key, is_array

TINY = 1e-6  # added to the standard deviation, as in the released Glow
AnyArray = Array | np.ndarray
HIGHEST = jax.lax.Precision.HIGHEST  # float32 would run as TF32 on NVIDIA GPUs


def promote(x: ArrayLike) -> jax.Array:
    """Returns `x` as a float array of at least float32, the dtype of all flow arithmetic."""
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def floats_as(tree: Any, like: Any) -> Any:
    """`tree`, its floats in the dtype of flow arithmetic on `like`, which loops must keep."""
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(like))

    def cast(leaf):
        floats = is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype) if floats else leaf

    return jax.tree.map(cast, tree)


def taken(x: jax.Array, indices: np.ndarray, axis: int) -> jax.Array:
    """`x` at known indices along an axis.

    By a slice, or a reversed one, where it is one: XLA fuses it, and a gather it does not.
    """
    steps = np.diff(indices)
    if len(indices) and (np.all(steps == 1) or np.all(steps == -1)):
        part = jax.lax.slice_in_dim(x, indices.min(), indices.max() + 1, axis=axis)
        return part if np.all(steps == 1) else jnp.flip(part, axis)
    # int32 with and without x64, since `jax.checkpoint` remembers what it traced under either.
    return jnp.take(x, indices.astype(np.int32), axis=axis, mode="clip")


def sum_event(x: Float[AnyArray, "B *event"]) -> Float[Array, "B"]:
    """Sums `x: [B, ...]` over all but the batch axis -> `[B]`."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def draw_flat(draw: Any, key: jax.Array, shape: Sequence[int], *args: Any) -> jax.Array:
    """`draw(key, shape, *args)`, drawn as one row: XLA compiles bits of more axes far slower."""
    return draw(key, (math.prod(shape),), *args).reshape(shape)


def per_example(log_det: Float[AnyArray, ""], x: Shaped[AnyArray, "B ..."]) -> Float[Array, "B"]:
    """Repeats a log-determinant that is the same for every example -> `[B]`."""
    return jnp.broadcast_to(log_det, x.shape[:1])


def positions(x: AnyArray) -> int:
    """The number of positions in an event of `x: [B, ..., C]`: H·W for images, 1 for vectors."""
    count = 1
    for size in x.shape[1:-1]:
        count *= size
    return count


def channel_moments(
    x: Float[AnyArray, "B *event C"],
) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """Mean and standard deviation of each channel, in two passes: means may be far from 0."""
    x = promote(x)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    mean = mean + jnp.mean(x - mean, axes)
    return mean, jnp.sqrt(jnp.mean(jnp.square(x - mean), axes))


def actnorm_statistics(
    x: Float[AnyArray, "B *event C"],
) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """`(log_scale, bias)`, `[C]` each, which give `x: [B, ..., C]` mean 0 and standard deviation 1.

    A channel without variance gets scale 1, so that it becomes 0 and never NaN or huge.
    """
    mean, deviation = channel_moments(x)
    varies = deviation > TINY * (1 + jnp.abs(mean))
    return jnp.where(varies, -jnp.log(deviation + TINY), 0.0), -mean


def space_to_depth(
    x: Float[Array, "B H W C"], factor: int
) -> Float[Array, "B H//{factor} W//{factor} C*{factor}**2"]:
    """z[b, i, j, f²·c + f·dy + dx] = x[b, f·i + dy, f·j + dx, c] of `[B, f·H, f·W, C]`."""
    b, h, w, c = x.shape
    z = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return z.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // factor, w // factor, c * factor**2)


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


def split_key(key: jax.Array, n: int = 2) -> jax.Array:
    """`jax.random.split`, of what is a key."""
    check_key("key", key)
    return jax.random.split(key, n)


def one_hot(
    labels: Integer[AnyArray, "B"], num_classes: int, dtype: Any
) -> Float[Array, "B {num_classes}"]:
    """`[B]` integer labels -> `[B, num_classes]` of 0 and 1; NaN where one is out of range."""
    valid = (labels >= 0) & (labels < num_classes)
    return jnp.where(valid[:, None], jax.nn.one_hot(labels, num_classes, dtype=dtype), jnp.nan)
