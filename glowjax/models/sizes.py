"""Models that refuse images of sizes that they cannot take."""

import jax.numpy as jnp

from glowjax.checks import check_image_shape
from glowjax.expression import recorded
from glowjax.flow import Flow, Init, initialised


@recorded
def checking_sizes(flow: Flow, *, height: int, width: int, option: str) -> Flow:
    """`flow`, which refuses what is not images of a height and a width divisible by these.

    Args:
        flow: of images.
        height, width: the divisors.
        option: of the model, and its value, that asks for them: what a message says.
    """

    def check(x):
        check_image_shape("x", x)
        _, h, w, _ = jnp.shape(x)
        if h % height or w % width:
            wanted = f"height divisible by {height} and a width divisible by {width}"
            wanted = f"a {wanted}" if height != width else f"height and width divisible by {width}"
            raise ValueError(f"x must have {wanted} for {option}, got {h}×{w}")

    def init(key, x, context=None):
        check(x)
        return initialised(flow, key, x, context)

    def forward(params, x, context=None, key=None):
        check(x)
        return flow.forward(params, x, context, key)

    return flow._replace(init=Init(init), forward=forward)
