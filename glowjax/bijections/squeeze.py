"""Squeeze: trades height and width for channels (Dinh et al. 2017, section 3.6)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote, space_to_depth
from glowjax.checks import check_image_shape, check_positive


def squeeze_forward(
    x: Float[AnyArray, "B H W C"], *, factor: int = 2
) -> tuple[Float[Array, "B H//{factor} W//{factor} C*{factor}**2"], Float[Array, "B"]]:
    """z[b, i, j, f²·c + f·dy + dx] = x[b, f·i + dy, f·j + dx, c], f = factor.

    Args:
        x: `[B, H, W, C]`.
        factor: divides H and W.

    Returns:
        `(z, log_det)`: z `[B, H/f, W/f, f²·C]`, log_det `[B]` = 0.

    Raises:
        ValueError: `x` is not of rank 4, or `factor` does not divide its height and width.

    Examples:
        >>> z, log_det = glowjax.squeeze_forward(jnp.zeros((1, 4, 4, 3)))
        >>> z.shape
        (1, 2, 2, 12)
    """
    check_positive(factor=factor)
    check_image_shape("x", x)
    b, h, w, _ = x.shape
    if h % factor or w % factor:
        raise ValueError(f"x must have height and width divisible by {factor}, got {h}×{w}")
    z = space_to_depth(promote(x), factor)
    return z, jnp.zeros(b, z.dtype)


def squeeze_inverse(
    z: Float[AnyArray, "B h w c"], *, factor: int = 2
) -> tuple[Float[Array, "B h*{factor} w*{factor} c//{factor}**2"], Float[Array, "B"]]:
    """The inverse of `squeeze_forward`: z `[B, H/f, W/f, f²·C]` becomes x `[B, H, W, C]`.

    Returns:
        `(x, log_det)`: log_det `[B]` = 0.

    Raises:
        ValueError: `z` is not of rank 4, or `factor`² does not divide its channels.
    """
    check_positive(factor=factor)
    check_image_shape("z", z)
    b, h, w, c = z.shape
    if c % factor**2:
        raise ValueError(f"z must have channels divisible by {factor**2}, got {c}")
    x = promote(z).reshape(b, h, w, c // factor**2, factor, factor)
    x = x.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * factor, w * factor, c // factor**2)
    return x, jnp.zeros(b, x.dtype)


class Squeeze(nn.Module):
    """z = `squeeze_forward(x)`, which trades height and width for channels. No parameters.

    Attributes:
        factor: divides height and width.

    Errors as for `squeeze_forward`.
    """

    factor: int = 2

    def forward(self, x) -> tuple[Array, Array]:
        return squeeze_forward(x, factor=self.factor)

    def inverse(self, z) -> tuple[Array, Array]:
        return squeeze_inverse(z, factor=self.factor)
