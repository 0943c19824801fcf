"""Images of whole numbers: dequantization, its inverse, and bits per dimension."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Float32, Shaped, UInt8

from glowjax.arrays import AnyArray, draw_flat, promote
from glowjax.checks import check_event_shape, check_integer


def dequantize(
    key: jax.Array, images: Shaped[ArrayLike, "B *event"], *, levels: int = 256
) -> Float32[Array, "B *event"]:
    """x = (v + u) / levels - ½, u uniform on (0, 1): whole numbers to floats in (-½, ½).

    The density of x then bounds the probability of v: docs/bits-per-dim.md. u is one of the 2¹³
    midpoints (i + ½) / 2¹³: float32 holds v + u exactly, and no rounding of `dequantize` or
    `quantize` takes x into the next bin.

    Args:
        key: a JAX key, or `[B]` keys, one an example.
        images: `[B, ...]` integers in 0 … levels - 1.
        levels: how many grey levels there are: 2^bits, or 17 for scikit-learn's digits.

    Returns:
        `[B, ...]` float32.

    Raises:
        ValueError: `images` are not integers, or exceed the grey levels (under `jit`: NaN instead).

    Examples:
        >>> images = jnp.array([[0, 100, 255]], jnp.uint8)
        >>> x = glowjax.dequantize(jax.random.key(0), images)
        >>> glowjax.quantize(x).tolist()
        [[0, 100, 255]]
    """
    check_images(images, levels)
    shape = jnp.shape(images)
    if one_key_each(key, shape[0]):
        u = jax.vmap(lambda k: _noise(k, shape[1:]))(key)
    else:
        u = _noise(key, shape)
    return place(images, u, levels)


def bin_centres(
    images: Shaped[ArrayLike, "*shape"], *, levels: int = 256
) -> Float32[Array, "*shape"]:
    """x = (v + ½) / levels - ½, without noise; arguments and errors as `dequantize`."""
    check_images(images, levels)
    return place(images, jnp.float32(0.5), levels)


def quantize(x: Float[AnyArray, "*shape"], *, levels: int = 256) -> UInt8[Array, "*shape"]:
    """v = ⌊(x + ½)·levels⌋, clipped to 0 … levels - 1: undoes `dequantize`.

    Args:
        x: `[...]` floats.
        levels: grey levels.

    Returns:
        v: `[...]` uint8.

    Raises:
        ValueError: `levels` is not a whole number in 2..256.
    """
    check_integer("levels", levels, 2, 256)
    v = jnp.floor((promote(x) + 0.5) * levels)
    return jnp.clip(v, 0, levels - 1).astype(jnp.uint8)


def to_uint8(images: Shaped[ArrayLike, "*shape"], *, levels: int = 256) -> UInt8[Array, "*shape"]:
    """⌊v·256 / levels⌋: images of any number of grey levels as 8-bit ones, to be looked at.

    Args:
        images: v, `[...]` integers in 0 … levels - 1.
        levels: their grey levels.

    Returns:
        `[...]` uint8.

    Raises:
        ValueError: `images` are not as above; `levels` is not a whole number in 2..256.
    """
    check_images(images, levels)
    return (jnp.asarray(images, jnp.int32) * 256 // levels).astype(jnp.uint8)


def from_uint8(images: Shaped[ArrayLike, "*shape"], *, levels: int = 256) -> UInt8[Array, "*shape"]:
    """min(⌈v·levels / 256⌉, levels - 1): undoes `to_uint8`.

    Args:
        images: v, `[...]` integers in 0 … 255.
        levels: grey levels of the result.

    Returns:
        `[...]` uint8.

    Raises:
        ValueError: `images` are not as above; `levels` is not a whole number in 2..256.
    """
    check_images(images, 256)
    check_integer("levels", levels, 2, 256)
    scaled = -(-jnp.asarray(images, jnp.int32) * levels // 256)
    return jnp.minimum(scaled, levels - 1).astype(jnp.uint8)


def bits_per_dim(
    log_prob: Float[ArrayLike, "*shape"], event_shape: Sequence[int], *, levels: int = 256
) -> Float[ArrayLike, "*shape"]:
    """bits = -(log p(x) - D·ln levels) / (D·ln 2), per dimension of the *discrete* image.

    docs/bits-per-dim.md explains it.

    Args:
        log_prob: log-density of the dequantized images, in nats, `[...]`.
        event_shape: of one image; D is its size.
        levels: grey levels.

    Raises:
        ValueError: `levels` is not a whole number in 2..256, or `event_shape` no tuple of sizes.

    Source: Theis et al. 2016, A note on the evaluation of generative models, section 3.1.

    Examples:
        >>> glowjax.bits_per_dim(0.0, event_shape=(2, 2, 1))
        8.0
    """
    check_integer("levels", levels, 2, 256)
    dims = math.prod(check_event_shape(event_shape))
    return (math.log(levels) - log_prob / dims) / math.log(2)


def check_images(images: Shaped[ArrayLike, "..."], levels: int) -> None:
    """Raises `ValueError` unless `images` are integers in 0 … levels - 1, as far as is known."""
    check_integer("levels", levels, 2, 256)
    if not jnp.issubdtype(jnp.result_type(images), jnp.integer):
        raise ValueError(
            f"images must be integers in 0..{levels - 1}, got {jnp.result_type(images)}"
        )
    if isinstance(images, Tracer) or np.size(images) == 0:
        return
    possible = jnp.iinfo(jnp.result_type(images))
    if possible.min >= 0 and possible.max < levels:
        return  # 8-bit images of 256 grey levels, at every step: nothing to look for
    known = np.asarray(images)  # under jit, jnp would trace it
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= levels:
        first = int(np.argwhere((known < 0) | (known >= levels))[0, 0])
        raise ValueError(
            f"images must be in 0..{levels - 1} for levels={levels}, got {low}..{high}, image"
            f" {first} being the first of them out of range"
        )


def place(
    images: Shaped[ArrayLike, "*shape"], u: Float[ArrayLike, "*#shape"], levels: int
) -> Float[Array, "*shape"]:
    """x = (v + u) / levels - ½, at the fraction `u` of each image's bin; NaN out of range."""
    x = (jnp.asarray(images, jnp.float32) + u) / levels - 0.5
    return jnp.where(_in_range(images, levels), x, jnp.nan)


def one_key_each(key: jax.Array, n: int) -> bool:
    """Whether `key` is n keys, one an example; if not, it is a single one.

    Raises:
        ValueError: there are several keys, but not n.
    """
    if jnp.ndim(jax.random.key_data(key)) != 2:
        return False
    given = jnp.shape(key)[0]
    if given != n:
        raise ValueError(f"key must be one key, or one for each of {n} images, got {given}")
    return True


def _in_range(images, levels):
    images = jnp.asarray(images)
    images = images.astype(jnp.promote_types(images.dtype, jnp.int32))  # uint8 has no 256
    return (images >= 0) & (images < levels)


def _noise(key, shape):
    return ((draw_flat(jax.random.bits, key, shape, jnp.uint16) >> 3) + jnp.float32(0.5)) / 2**13
