"""The checkerboard's two colours as channels, so that couplings work on arrays of half the size."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.checks import check_image_shape


def checkerboard_forward(
    x: Float[AnyArray, "B H W C"],
) -> tuple[Float[Array, "B H W//2 C*2"], Float[Array, "B"]]:
    """z[b, i, j, c] = x[b, i, 2j + i%2, c],   z[b, i, j, C + c] = x[b, i, 2j + 1 - i%2, c].

    So the positions of even i + j are the first half of the channels, the odd ones the second.

    Args:
        x: `[B, H, W, C]`, W even.

    Returns:
        `(z, log_det)`: z `[B, H, W/2, 2·C]`, log_det `[B]` = 0.

    Raises:
        ValueError: x is not of rank 4, or of an odd width.

    Examples:
        >>> z, _ = glowjax.checkerboard_forward(jnp.arange(8.0).reshape(1, 2, 4, 1))
        >>> z[0].tolist()
        [[[0.0, 1.0], [2.0, 3.0]], [[5.0, 4.0], [7.0, 6.0]]]
    """
    check_image_shape("x", x)
    batch, height, width, channels = x.shape
    if width % 2:
        raise ValueError(f"x must have an even width, got {height}×{width}")
    pairs = promote(x).reshape(batch, height, width // 2, 2, channels)
    z = _odd_rows_flipped(pairs).reshape(batch, height, width // 2, 2 * channels)
    return z, jnp.zeros(batch, z.dtype)


def checkerboard_inverse(
    z: Float[AnyArray, "B H w c"],
) -> tuple[Float[Array, "B H w*2 c//2"], Float[Array, "B"]]:
    """The inverse of `checkerboard_forward`: z `[B, H, W/2, 2·C]` becomes x `[B, H, W, C]`.

    Returns:
        `(x, log_det)`: log_det `[B]` = 0.

    Raises:
        ValueError: z is not of rank 4, or has an odd number of channels.
    """
    check_image_shape("z", z)
    batch, height, width, channels = z.shape
    if channels % 2:
        raise ValueError(f"z must have an even number of channels, got {channels}")
    pairs = promote(z).reshape(batch, height, width, 2, channels // 2)
    x = _odd_rows_flipped(pairs).reshape(batch, height, 2 * width, channels // 2)
    return x, jnp.zeros(batch, x.dtype)


def _odd_rows_flipped(pairs):
    """`[B, H, W/2, 2, C]` with the two of a pair exchanged in every other row."""
    odd = (jnp.arange(pairs.shape[1]) % 2 == 1)[:, None, None, None]
    return jnp.where(odd, jnp.flip(pairs, axis=3), pairs)


class CheckerboardSqueeze(nn.Module):
    """z = `checkerboard_forward(x)`, which trades half of the width for channels. No parameters.

    A coupling of the channels' halves then is one of the two colours of a checkerboard, as
    `Coupling(mask="checkerboard")` is. Its net sees an array of half the width, and takes half of
    the time.

    Errors as for `checkerboard_forward`.

    Source: Ho et al. 2019 (Flow++), section 4 and the released code.
    """

    def forward(self, x) -> tuple[Array, Array]:
        return checkerboard_forward(x)

    def inverse(self, z) -> tuple[Array, Array]:
        return checkerboard_inverse(z)
