"""The logit of pixels: from an interval to the whole line."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote, sum_event
from glowjax.checks import Interval, check_in


def logit_forward(
    x: Float[AnyArray, "B *event"], alpha: float = 0.0
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """z = ln(y / (1 - y)), y = α + (1 - 2α)·(x + ½).

    Args:
        x: `[B, ...]`, in (-½, ½), or with α as far beyond as y stays in (0, 1); elsewhere z is NaN,
            and infinite where y is 0 or 1.
        alpha: α, in [0, ½).

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ ln(1 - 2α) - ln y - ln(1 - y), in nats.
    """
    x = promote(x)
    # x ± ½ of dequantized images is exact, so that digits are kept at both ends.
    log_y, log_rest = (jnp.log(alpha + (1 - 2 * alpha) * (0.5 + side)) for side in (x, -x))
    return log_y - log_rest, sum_event(math.log1p(-2 * alpha) - log_y - log_rest)


def logit_inverse(
    z: Float[AnyArray, "B *event"], alpha: float = 0.0
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """x = tanh(z / 2) / (2 - 4α); returns `(x, log_det)` as `logit_forward`."""
    z = promote(z)
    log_slope = jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z) - math.log1p(-2 * alpha)
    return jnp.tanh(z / 2) / (2 - 4 * alpha), sum_event(log_slope)


class Logit(nn.Module):
    """z = ln(y / (1 - y)), y = α + (1 - 2α)·(x + ½), of images in [-½, ½].

    No density can be lost beyond black and white then. See `logit_forward`.

    Attributes:
        alpha: α, in [0, ½): the more, the less the ends of the interval are stretched.

    Raises:
        ValueError: α is not as above.

    Source: Dinh et al. 2017, section 4.1; Papamakarios et al. 2017 (MAF), appendix D.
    """

    alpha: float = 0.0

    fixed_units = True

    def __post_init__(self):
        check_in(Interval(0, 0.5, "low"), alpha=self.alpha)
        super().__post_init__()

    def forward(self, x) -> tuple[Array, Array]:
        return logit_forward(x, self.alpha)

    def inverse(self, z) -> tuple[Array, Array]:
        return logit_inverse(z, self.alpha)
