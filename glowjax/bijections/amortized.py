"""Parameters of a bijection that a net makes from the context."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from glowjax.arrays import AnyArray, promote
from glowjax.checks import check_context, require
from glowjax.context import refuse_context

# Parameters of all examples at once, or of each its own.
Vector = Float[AnyArray, "D"] | Float[AnyArray, "B D"]
Scalar = Float[AnyArray, ""] | Float[AnyArray, "B"]


def amortized(
    net: Callable[..., nn.Module] | None, own: tuple[jax.Array, ...], x: jax.Array, context
) -> tuple[jax.Array, ...]:
    """A compact caller's `own` parameters, each plus what `net` gives for it from `context`.

    Then they are `[B, ...]`, their own for each example of `x`. Without a net: `own` as they are.

    Raises:
        ValueError: there is a net, and no context of one row an example; or the other way round.
    """
    if net is None:
        refuse_context(context)
        return own
    require(context is not None, "context", None, f"floats of shape ({x.shape[0]}, F)")
    check_context(context, x)
    sizes = [p.size for p in own]
    h = promote(net(features=sum(sizes), name="net")(context))
    parts = jnp.split(h, np.cumsum(sizes)[:-1], axis=-1)
    return tuple(p + part.reshape(x.shape[0], *p.shape) for p, part in zip(own, parts, strict=True))
