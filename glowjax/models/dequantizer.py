"""The flow of Flow++ that makes noise for dequantization."""

import functools

from glowjax.checks import check_positive
from glowjax.compose import chain
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.loops import Backprop, repeat
from glowjax.models.realnvp import realnvp_step
from glowjax.nets.layers import Dtype
from glowjax.nets.resnet import ResNet


@recorded
def dequantization_flow(
    *,
    steps: int = 4,
    width: int = 32,
    blocks: int = 2,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """A flow of images given an image, for `variational_dequantizer`: `[B, H, W, C]` to the same.

    K × two `realnvp_step`s, checkerboard couplings one of either colour, whose `ResNet`s see the
    context, an image of the same height and width.

    Args:
        steps: K.
        width, blocks, dtype: of the nets, see `ResNet`.
        backprop, unroll: see `repeat`.

    Raises:
        ValueError: an argument is not as above; x is no image, or has one pixel.
    """
    check_positive(steps=steps, width=width, blocks=blocks)
    net = functools.partial(ResNet, width=width, blocks=blocks, dtype=dtype)
    even, odd = (realnvp_step(net=net, mask="checkerboard", swap=swap) for swap in (False, True))
    return repeat(chain(even=even, odd=odd), steps, backprop=backprop, unroll=unroll)
