"""What every flow does to arrays: promote, sum over events, refuse what is not floats."""

from typing import Any

import jax
import jax.numpy as jnp

HIGHEST = jax.lax.Precision.HIGHEST  # float32 would run as TF32 on NVIDIA GPUs


def promote(x: jax.Array) -> jax.Array:
    """Returns `x` as a float array of at least float32, the dtype of all flow arithmetic."""
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def sum_event(x: jax.Array) -> jax.Array:
    """Sums `x: [B, ...]` over all but the batch axis -> `[B]`."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def per_example(log_det: jax.Array, x: jax.Array) -> jax.Array:
    """Repeats a log-determinant that is the same for every example -> `[B]`."""
    return jnp.broadcast_to(log_det, x.shape[:1])


def positions(x: jax.Array) -> int:
    """The number of positions in an event of `x: [B, ..., C]`: H·W for images, 1 for vectors."""
    count = 1
    for size in x.shape[1:-1]:
        count *= size
    return count


def check_floats(name: str, arrays: Any) -> None:
    """Raises `ValueError` unless every array of the tree is floating point and has a batch axis."""
    for leaf in jax.tree.leaves(arrays):
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


def check_positive(**sizes: int) -> None:
    """Raises `ValueError` unless every named size is a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {size!r}")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
