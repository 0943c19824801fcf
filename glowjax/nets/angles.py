"""What a net sees of angles: cosines and sines, in which a turn has no end."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote
from glowjax.checks import check_integer, require


def angular(name: str, columns: tuple[int, ...], size: int) -> np.ndarray:
    """Which of `size` columns are angles, booleans `[size]`.

    Raises:
        ValueError: `columns` are not different ones of them.
    """
    for column in columns:
        check_integer(name, column, 0, size - 1)
    require(len(set(columns)) == len(columns), name, columns, "different columns")
    return np.isin(np.arange(size), columns)


def cosine_and_sine(x: jax.Array, angle: Any) -> jax.Array:
    """`[..., 2]` of `x: [...]`: (cos x, sin x) where `angle` is true, and else (x, 0)."""
    x = promote(x)
    return jnp.stack([jnp.where(angle, jnp.cos(x), x), jnp.where(angle, jnp.sin(x), 0)], axis=-1)


def kept(angles: np.ndarray) -> np.ndarray:
    """Where, of all that `cosine_and_sine` gives of columns, there is not always 0."""
    return np.flatnonzero(np.stack([np.ones_like(angles), angles], axis=-1))


def seen(x: jax.Array, angles: np.ndarray) -> jax.Array:
    """`x: [B, D]` with two columns, the cosine and the sine, in place of each angle's."""
    if not np.any(angles):
        return x
    both = cosine_and_sine(x, angles)
    return both.reshape(x.shape[0], -1)[:, kept(angles)]
