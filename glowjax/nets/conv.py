"""Convolutions of Glow's nets as matrix products, which beat XLA's own at its narrow shapes.

A 3×3 convolution of few channels is one product of gathered patches; one to few channels is one
product whose nine taps are added shifted, and so is one whose patches would be more numbers. In
bfloat16, products accumulate in float32.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from glowjax.arrays import HIGHEST, promote
from glowjax.nets.tiles import DEPTH

LANES = 8  # columns come in multiples of this: tensor cores want rows of whole 16 bytes


def patches(x: jax.Array, *, ring: bool) -> jax.Array:
    """Gathers what a 3×3 convolution with zero padding sees, for a product with `patch_weight`.

    Args:
        x: `[B, H, W, C]`.
        ring: adds a channel that is 1 on the padding and 0 inside.

    Returns:
        `[B, H, W, 9·lanes]`: for each tap the channels, the ring, ones (for a bias), and zeros up
        to whole lanes.
    """
    # Ones and ring are made of x: of a constant array XLA would do as told at `ring_conv`.
    padded = _pad(jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1))
    channels, inside = padded[..., :-1], lax.stop_gradient(padded[..., -1:])
    extra = [1 - inside, inside] if ring else [inside]
    padded = _whole_lanes(jnp.concatenate([channels, *extra], axis=-1))
    return lax.platform_dependent(padded, cpu=_windows_added, default=_windows_stacked)


def patch_weight(weight: jax.Array, bias: jax.Array) -> jax.Array:
    """`weight [3, 3, C, F]` (with the ring's channel if any) and `bias [F]` for `patches`."""
    centre = jnp.pad(bias.reshape(1, 1, 1, -1), ((1, 1), (1, 1), (0, 0), (0, 0)))
    rows = _whole_lanes(jnp.concatenate([weight, centre], axis=2), axis=2)
    return rows.reshape(-1, weight.shape[-1])


class Taps(NamedTuple):
    """A 3×3 convolution, as `conv_by_taps` wants it."""

    matrix: jax.Array  # [C, 9·F and zeros to whole lanes]
    ring: jax.Array | None  # [3, 3, 1, F], of a channel that is 1 on the padding and 0 inside
    bias: jax.Array  # [F]


def taps(weight: jax.Array, bias: jax.Array, *, ring: bool, dtype) -> Taps:
    """`weight [3, 3, C, F]`, or with a ring `[3, 3, C + 1, F]`, and `bias [F]` as `Taps`."""
    channels, features = weight.shape[2] - ring, weight.shape[3]
    inside, edge = weight[:, :, :channels], weight[:, :, channels:]
    matrix = inside.transpose(2, 0, 1, 3).reshape(channels, 9 * features).astype(dtype)
    lanes = DEPTH if dtype == jnp.bfloat16 else LANES  # the gradient's product runs over them
    return Taps(_whole_lanes(matrix, lanes=lanes), edge if ring else None, bias)


def conv_by_taps(x: jax.Array, weight: Taps) -> jax.Array:
    """3×3 convolution with zero padding, and bias: `[B, H, W, C] -> [B, H, W, F]`."""
    features = weight.bias.shape[0]
    return add_bias(sum_of_taps(matmul(x, weight.matrix), features), weight)


def sum_of_taps(y: jax.Array, features: int) -> jax.Array:
    """Adds the taps of `y = x·matrix`, each shifted to its place: `-> [B, H, W, F]`."""
    y = _pad(y)
    return sum(_window(y, t, slice(t * features, (t + 1) * features)) for t in range(9))


def spread_to_taps(g: jax.Array, lanes: int) -> jax.Array:
    """The transpose of `sum_of_taps`: `[B, H, W, F] -> [B, H, W, lanes]`, zeros after 9·F."""
    return _side_by_side(_pad(g), lanes, range(8, -1, -1))


def add_bias(y: jax.Array, weight: Taps) -> jax.Array:
    """Adds to the sum of taps what does not depend on the input: the bias and the ring's part."""
    y += weight.bias
    if weight.ring is not None:
        y += ring_conv(y.shape[1], y.shape[2], weight.ring)
    # Else XLA computes all of this again in every fusion that reads it.
    return lax.optimization_barrier(y)


def ring_conv(height: int, width: int, weight: jax.Array) -> jax.Array:
    """Convolution of an image that is 0, padded by 1: `weight [3, 3, 1, F] -> [1, H, W, F]`.

    All taps less those inside. A constant array of the ring would do too; but XLA moves it out of
    a scan, and then no longer sees that rebuilt gradients evaluate the same net twice.
    """
    features = weight.shape[-1]
    inside = jnp.broadcast_to(weight.reshape(-1), (1, height, width, 9 * features))
    return jnp.sum(weight, axis=(0, 1, 2)) - sum_of_taps(inside, features)


def matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x·W in the dtype of `x`, with full precision unless that is bfloat16.

    On NVIDIA GPUs the default for float32 is TF32, whose rounding the inverse would not repeat.
    """
    precision = HIGHEST if promote(x).dtype == x.dtype else None
    y = lax.dot(x.reshape(-1, x.shape[-1]), weight.astype(x.dtype), precision=precision)
    return y.reshape(*x.shape[:-1], -1)


def _windows_stacked(padded):
    """The windows of all taps side by side, `[B, H, W, 9·C]`."""
    windows = jnp.stack([_window(padded, tap) for tap in range(9)], axis=3)
    return windows.reshape(*windows.shape[:3], -1)


def _windows_added(padded):
    """The same in a form that compiles to fewer kernels on CPUs, and is slower on GPUs."""
    return _side_by_side(padded, 9 * padded.shape[-1], range(9))


def _side_by_side(padded, lanes, taps):
    """The windows of all taps, `[B, H, W, F]` each, and zeros up to `lanes`.

    Of gradients, on GPUs, adding what does not overlap is faster than stacking.
    """
    features, zero = padded.shape[-1], jnp.zeros((), padded.dtype)

    def place(i, tap):
        columns = (i * features, lanes - (i + 1) * features, 0)
        return lax.pad(_window(padded, tap), zero, [(0, 0, 0)] * 3 + [columns])

    return sum(place(i, tap) for i, tap in enumerate(taps))


def _whole_lanes(x, axis=-1, lanes=LANES):
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, -x.shape[axis] % lanes)
    return jnp.pad(x, pad)


def _window(padded, tap, columns=slice(None)):
    (dy, dx), (height, width) = divmod(tap, 3), (padded.shape[1] - 2, padded.shape[2] - 2)
    return padded[:, dy : dy + height, dx : dx + width, columns]


def _pad(x):
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
