"""Emerging convolution: two masked convolutions in opposite orders (Hoogeboom et al. 2019)."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote, vary_as
from glowjax.bijections.linear.conv1x1 import (
    InvertibleConv1x1,
    conv1x1_lu_forward,
    conv1x1_lu_inverse,
)
from glowjax.bijections.linear.linalg import product
from glowjax.bijections.linear.neighbours import check_kernel, offsets, weighted_sum
from glowjax.checks import check_image_shape, require


def emerging_conv_forward(
    x: Float[AnyArray, "B H W C"],
    packed: Float[AnyArray, "C C"],
    after: Float[AnyArray, "N C C"],
    before: Float[AnyArray, "N C C"],
) -> tuple[Float[Array, "B H W C"], Float[Array, "B"]]:
    """z = (I + B)·(L·U)·(I + A)·x: A sees the pixels after each pixel, and B those before it.

    A and B are convolutions whose kernels of K × K have weights at N = (K² - 1)/2 places alone: A
    at those after the centre, row by row, and B at those before it. Beyond the edge pixels are 0.
    L·U mixes the channels, as in `conv1x1_lu_forward`. Both (I + A) and (I + B) are triangles with
    1 on the diagonal, each in its order of the pixels, so that log_det is that of L·U.

    Any two masked convolutions in opposite orders, whose centres are invertible matrices of the
    channels, are such a product: the centres can be drawn together into one.

    Args:
        x: `[B, H, W, C]`.
        packed: L and U, `[C, C]`.
        after, before: `[N, C, C]` each, in the order of the rows of a kernel: the first of `after`
            is next to the centre, on its right, and the last of `before` is on its left.

    Returns:
        `(z, log_det)`: log_det `[B]` = H·W·tr(packed), in nats.

    Raises:
        ValueError: x, after or before are of another shape.

    Source: Hoogeboom et al. 2019, Emerging convolutions for generative normalizing flows, section
    3.2.
    """
    return _forward(x, functools.partial(conv1x1_lu_forward, packed=packed), after, before)


def emerging_conv_inverse(
    z: Float[AnyArray, "B H W C"],
    packed: Float[AnyArray, "C C"],
    after: Float[AnyArray, "N C C"],
    before: Float[AnyArray, "N C C"],
) -> tuple[Float[Array, "B H W C"], Float[Array, "B"]]:
    """x = (I + A)⁻¹·(L·U)⁻¹·(I + B)⁻¹·z; returns `(x, log_det)` as `emerging_conv_forward`.

    A pixel waits for those to its left, and for K // 2 more in the row above. So the rows go on
    side by side, and the inverse takes 2·(W + (H - 1)·(K // 2 + 1)) steps.
    """
    return _inverse(z, functools.partial(conv1x1_lu_inverse, packed=packed), after, before)


def _forward(x, mix, after, before):
    places = _places(x, after, before)
    x = promote(x)
    x = x + weighted_sum(x, promote(after), -places[::-1])
    x, log_det = mix(x)
    return x + weighted_sum(x, promote(before), places), log_det


def _inverse(z, unmix, after, before):
    places = _places(z, after, before)
    x = _solved(promote(z), promote(before), places)
    x, log_det = unmix(x)
    # From the last pixel to the first, places after are before.
    turned = _solved(jnp.flip(x, (1, 2)), promote(after)[::-1], places)
    return jnp.flip(turned, (1, 2)), log_det


def _places(x, after, before):
    """`[N, 2]`: where the pixels before are, row by row."""
    check_image_shape("x", x)
    channels = x.shape[-1]
    for name, weight in {"after": after, "before": before}.items():
        count = len(weight) if weight.ndim else 0
        kernel = math.isqrt(2 * count + 1)
        ok = weight.shape == (count, channels, channels) and count and kernel**2 == 2 * count + 1
        wanted = f"of shape [N, {channels}, {channels}] with N = (K² - 1)/2 of an odd K"
        require(ok, name, weight.shape, wanted)
    require(after.shape == before.shape, "after", after.shape, f"of the shape {before.shape}")
    return offsets(math.isqrt(2 * len(before) + 1))[: len(before)]


def _solved(y, weights, places):
    """x from y = x + Σ_n of the pixel at `places[n]`, before each pixel, times `weights[n]`.

    At a time t, row h is at its column t - (r + 1)·h. What a pixel needs was found before, also in
    the rows above: at place (-i, j) it was found (r + 1)·i - j times ago.
    """
    y = y.astype(jnp.result_type(y, weights))  # so that a step keeps the dtype
    (_, height, width, channels), reach = y.shape, int(np.abs(places).max())
    behind = (reach + 1) * np.arange(height)
    times = np.arange(width + behind[-1])
    ago = -(reach + 1) * places[:, 0] - places[:, 1]
    columns = times[:, None] - behind
    inside = (columns >= 0) & (columns < width)
    skewed = jnp.moveaxis(y[:, np.arange(height), np.clip(columns, 0, width - 1)], 1, 0)
    matrix = jnp.reshape(weights, (-1, channels))

    def step(past, now):
        y, inside = now
        needed = [
            jnp.pad(past[n - 1], ((0, 0), (up, 0), (0, 0)))[:, :height]
            for n, up in zip(ago.tolist(), (-places[:, 0]).tolist(), strict=True)
        ]
        x = y - product(jnp.concatenate(needed, axis=-1), matrix)
        x = jnp.where(inside[:, None], x, 0)
        return jnp.concatenate([x[None], past[:-1]]), x

    past = vary_as(jnp.zeros((ago.max(), *skewed.shape[1:]), y.dtype), y)
    _, x = lax.scan(step, vary_as(past, weights), (skewed, inside))
    rows, across = np.arange(height)[:, None], np.arange(width)
    return jnp.moveaxis(x, 0, 1)[:, across + behind[:, None], rows]


class EmergingConv(nn.Module):
    """z = (I + B)·(L·U)·(I + A)·x of images `[B, H, W, C]`: `emerging_conv_forward`, learned.

    It is an `InvertibleConv1x1("lu")` that sees the pixels around each pixel as well, by as many
    parameters as a convolution of K × K has. At first it is that 1×1 convolution, a random rotation
    of the channels. The inverse goes from pixel to pixel, and its errors may grow on the way. If
    the absolute weights of `after` and of `before` add up to less than 1 for each output, they do
    not: in float32 it is then exact to some 1e-6. Much larger weights make the inverse explode.

    Attributes:
        kernel: K, odd and at least 3.

    Raises:
        ValueError: `kernel` is not as above; x is of another rank, or not of as many channels as at
            initialisation.

    Source: Hoogeboom et al. 2019, Emerging convolutions for generative normalizing flows, section
    3.2.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.EmergingConv()), jnp.ones((2, 5, 4, 3))
        >>> params = flow.init(jax.random.key(0), x)
        >>> z, log_det = flow.forward(params, x)
        >>> params["after"].shape, params["centre"]["lu"].shape, z.shape, log_det.shape
        ((4, 3, 3), (3, 3), (2, 5, 4, 3), (2,))
    """

    kernel: int = 3

    def forward(self, x) -> tuple[jax.Array, jax.Array]:
        centre, after, before = self._parts(x)
        return _forward(x, centre.forward, after, before)

    def inverse(self, z) -> tuple[jax.Array, jax.Array]:
        centre, after, before = self._parts(z)
        return _inverse(z, centre.inverse, after, before)

    @nn.nowrap
    def prepare(self, params) -> dict[str, Any]:
        centre = InvertibleConv1x1("lu").prepare(params["centre"])["prepared"]
        others = {name: params[name] for name in ("after", "before")}
        return {"prepared": {"centre": centre}, "params": others}

    @nn.compact
    def _parts(self, x):
        check_kernel(self.kernel)
        check_image_shape("x", x)
        channels, dtype = x.shape[-1], promote(x).dtype
        shape = (self.kernel**2 // 2, channels, channels)
        after = self.param("after", nn.initializers.zeros, shape, dtype)
        before = self.param("before", nn.initializers.zeros, shape, dtype)
        return InvertibleConv1x1("lu", name="centre"), after, before
