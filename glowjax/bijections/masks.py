"""Which part of an array conditions the other in a coupling: channel halves or a checkerboard."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray
from glowjax.checks import check_choice

Mask = Literal["channels", "checkerboard"]


class Partition(NamedTuple):
    """Two parts of an array: `a` conditions `b`.

    split(x) -> (a, b); merge(a, b) -> x; `features` channels describe `b`; restrict(h) sets h to 0
    where an array of the shape of `b` does not belong to it.
    """

    split: Callable[[Array], tuple[Array, Array]]
    merge: Callable[[Array, Array], Array]
    restrict: Callable[[Array], Array]
    features: int


def partition(mask: Mask, x: Float[AnyArray, "B *event C"], *, swap: bool = False) -> Partition:
    """The partition of `x: [B, ..., C]`, with the parts' roles exchanged if `swap`.

    `"channels"`: the first C // 2 channels condition the rest. `"checkerboard"`: the positions of
    even y + x condition the odd ones; parts keep the full shape, with zeros elsewhere (Dinh et al.
    2017, section 3.4).

    Raises:
        ValueError: one channel cannot be split; a checkerboard needs `[B, H, W, C]`.
    """
    check_choice("mask", mask, ("channels", "checkerboard"))
    return {"channels": _channels, "checkerboard": _checkerboard}[mask](x.shape, swap)


def _channels(shape, swap):
    channels = shape[-1]
    half = channels // 2
    if half == 0:
        raise ValueError(f"x must have at least 2 channels to be split, got shape {shape}")

    def split(x):
        first, second = x[..., :half], x[..., half:]
        return (second, first) if swap else (first, second)

    def merge(a, b):
        return jnp.concatenate([b, a] if swap else [a, b], axis=-1)

    return Partition(split, merge, lambda h: h, half if swap else channels - half)


def _checkerboard(shape, swap):
    if len(shape) != 4 or shape[1] * shape[2] < 2:
        raise ValueError(f"x must be images [B, H, W, C] of 2 or more pixels, got shape {shape}")
    odd = (jnp.arange(shape[1])[:, None] + jnp.arange(shape[2])) % 2 == 1
    changes = (~odd if swap else odd)[:, :, None]

    def split(x):
        return jnp.where(changes, 0, x), jnp.where(changes, x, 0)

    def merge(a, b):
        return jnp.where(changes, b, a)

    return Partition(split, merge, lambda h: jnp.where(changes, h, 0), shape[-1])
