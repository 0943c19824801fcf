"""Haar transform: an image of half the size, and the details that it leaves out (Haar 1910)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.bijections.linear.linalg import product
from glowjax.bijections.squeeze import squeeze_forward, squeeze_inverse
from glowjax.checks import check_image_shape, require

# Rows are the pixels of a block, row by row. It is symmetric and orthogonal, so its own inverse.
BLOCK = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


def haar_forward(
    x: Float[AnyArray, "B H W C"],
) -> tuple[Float[Array, "B H//2 W//2 C*4"], Float[Array, "B"]]:
    """The orthonormal Haar transform of the blocks of 2×2 pixels, in each channel.

    Of the block [[a, b], [c, d]] come

        low         (a + b + c + d) / 2    twice the mean: the image at half the size
        horizontal  (a - b + c - d) / 2    what changes from left to right
        vertical    (a + b - c - d) / 2    what changes from top to bottom
        diagonal    (a - b - c + d) / 2

    Args:
        x: `[B, H, W, C]`, H and W even.

    Returns:
        `(z, log_det)`: z `[B, H/2, W/2, 4·C]`, first the C channels of low, then those of
        horizontal, vertical and diagonal; log_det `[B]` = 0. The sum of squares stays the same.

    Raises:
        ValueError: `x` is not of rank 4, or its height or width is odd.

    Source: Haar 1910, Zur Theorie der orthogonalen Funktionensysteme.

    Examples:
        >>> z, _ = glowjax.haar_forward(jnp.array([[[[1.0], [2.0]], [[3.0], [6.0]]]]))
        >>> z.tolist()
        [[[[6.0, -2.0, -3.0, 1.0]]]]
    """
    z, log_det = squeeze_forward(x)
    b, h, w, c = z.shape
    z = _transformed(z.reshape(b, h, w, c // 4, 4))
    return z.swapaxes(3, 4).reshape(b, h, w, c), log_det


def haar_inverse(
    z: Float[AnyArray, "B h w c"],
) -> tuple[Float[Array, "B h*2 w*2 c//4"], Float[Array, "B"]]:
    """The inverse of `haar_forward`: z `[B, H/2, W/2, 4·C]` becomes x `[B, H, W, C]`.

    Returns:
        `(x, log_det)`: log_det `[B]` = 0.

    Raises:
        ValueError: `z` is not of rank 4, or its channels are not divisible by 4.
    """
    check_image_shape("z", z)
    b, h, w, c = z.shape
    require(c % 4 == 0, "z", z.shape, "of channels divisible by 4")
    x = _transformed(promote(z).reshape(b, h, w, 4, c // 4).swapaxes(3, 4))
    return squeeze_inverse(x.reshape(b, h, w, c))


def _transformed(blocks):
    return product(blocks, jnp.asarray(BLOCK, blocks.dtype))


class Haar(nn.Module):
    """z = `haar_forward(x)`: images `[B, H, W, C]` at half the size, and details. No parameters.

    Errors as for `haar_forward`.
    """

    def forward(self, x) -> tuple[jax.Array, jax.Array]:
        return haar_forward(x)

    def inverse(self, z) -> tuple[jax.Array, jax.Array]:
        return haar_inverse(z)
