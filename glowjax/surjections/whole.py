"""Whole numbers in floats, as tables have categories and counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.checks import check_array, is_known, require


def whole_numbers(name: str, v: Any, count: int) -> jax.Array:
    """`v`, `[B, D]` of whole numbers in 0 … count - 1, as int32; -1 for others, under `jit`.

    Raises:
        ValueError: v is of another shape; a number that is known is another one.
    """
    check_array(name, v)
    require(jnp.ndim(v) == 2 and jnp.size(v), name, jnp.shape(v), "of shape [B, D], not empty")
    v = jnp.asarray(v)
    valid = (v >= 0) & (v < count) & (v == jnp.floor(v))
    if is_known(v) and not np.all(valid):
        first = tuple(map(int, np.argwhere(~np.asarray(valid))[0]))
        wanted = f"whole numbers in 0..{count - 1}"
        at = f" in row {first[0]}" if v.shape[1] == 1 else f" at {list(first)}"
        at = "" if v.size == 1 else at
        raise ValueError(f"{name} must be {wanted}, got {np.asarray(v)[first]}{at}")
    return jnp.where(valid, v, -1).astype(jnp.int32)
