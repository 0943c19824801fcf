"""Convolutions of images as one product of the pixels around each pixel with a matrix."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray
from glowjax.bijections.linear.linalg import product
from glowjax.checks import check_image_shape, check_integer, require

Beyond = Literal["constant", "wrap"]  # the edge: zeros, or the other side of the image


def check_kernel(kernel: int) -> None:
    """Raises `ValueError` unless `kernel` is an odd whole number of at least 3."""
    check_integer("kernel", kernel, 3)
    require(kernel % 2, "kernel", kernel, "odd")


def check_weight(x: AnyArray, weight: AnyArray) -> None:
    """Raises `ValueError` unless x is `[B, H, W, C]` and the weight is `[K, K, C, C]`, K odd."""
    check_image_shape("x", x)
    sizes, channels = weight.shape[:2], x.shape[-1]
    ok = weight.ndim == 4 and sizes[0] == sizes[1] and sizes[0] % 2
    ok = ok and weight.shape[2:] == (channels, channels)
    require(ok, "weight", weight.shape, f"of shape [K, K, {channels}, {channels}], K odd")


def offsets(kernel: int) -> np.ndarray:
    """`[K², 2]`: how far down and to the right the pixels of a kernel are, row by row."""
    return np.indices((kernel, kernel)).reshape(2, -1).T - kernel // 2


def convolve(
    x: Float[Array, "B H W C"], weight: Float[AnyArray, "K K C C"], *, beyond: Beyond = "constant"
) -> Float[Array, "B H W C"]:
    """Σ_{i,j} x[b, h + i - r, w + j - r]·W[i, j], with r = K // 2.

    Nets call this a convolution. It is a product of matrices, which XLA computes far faster on CPUs
    than its own convolution.
    """
    kernel = weight.shape[0]
    return weighted_sum(x, weight.reshape(kernel**2, *weight.shape[2:]), offsets(kernel), beyond)


def weighted_sum(
    x: Float[Array, "B H W C"],
    weights: Float[AnyArray, "N C C"],
    offsets: np.ndarray,
    beyond: Beyond = "constant",
) -> Float[Array, "B H W C"]:
    """Σ_n of the pixel at `offsets[n]` from each pixel, times `weights[n]`; offsets `[N, 2]`."""
    (_, height, width, channels), reach = x.shape, int(np.abs(offsets).max())
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode=beyond)
    around = [
        padded[:, reach + down : reach + down + height, reach + right : reach + right + width]
        for down, right in offsets.tolist()
    ]
    rows = jnp.concatenate(around, axis=-1).reshape(-1, len(offsets) * channels)
    return product(rows, jnp.reshape(weights, (-1, channels))).reshape(x.shape)
