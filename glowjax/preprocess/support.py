"""What maps from a support share: flows without parameters, and −inf outside of the support."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.flow import Flow, as_flow


class Fixed(nn.Module):
    """A bijection without parameters, of two pure functions.

    Attributes:
        forward_of: `x -> (z, log_det)`.
        inverse_of: `z -> (x, log_det)`.
    """

    forward_of: Callable[[Any], tuple[jax.Array, jax.Array]]
    inverse_of: Callable[[Any], tuple[jax.Array, jax.Array]]

    fixed_units = True

    def forward(self, x) -> tuple[jax.Array, jax.Array]:
        return self.forward_of(x)

    def inverse(self, z) -> tuple[jax.Array, jax.Array]:
        return self.inverse_of(z)


def fixed(
    forward: Callable[[Any], tuple[jax.Array, jax.Array]],
    inverse: Callable[[Any], tuple[jax.Array, jax.Array]],
) -> Flow:
    """A flow of two pure functions of arrays; its params are `{}`."""
    return as_flow(Fixed(forward, inverse))


def supported(log_det: jax.Array, inside: jax.Array, x: jax.Array) -> jax.Array:
    """`log_det: [B]` of examples in the support; else −inf, or NaN where a number of x is NaN.

    The maps put such examples elsewhere before they compute anything, so that z is finite and no
    gradient is NaN.

    Args:
        inside: `[B, ...]`, whether each number, or each event, is in the support.
        x: `[B, ...]`, as it was given.
    """
    outside, unknown = (
        jnp.any(flags, axis=tuple(range(1, flags.ndim))) for flags in (~inside, jnp.isnan(x))
    )
    return jnp.where(unknown, jnp.nan, jnp.where(outside, -jnp.inf, log_det))


def bounded_exp(a: jax.Array) -> jax.Array:
    """e^a, neither 0 nor infinite: a is kept where the dtype has normal numbers for e^a."""
    limits = jnp.finfo(a.dtype)
    low, high = math.log(float(limits.tiny)), math.log(float(limits.max))
    high *= 1 - 4 * float(limits.eps)  # rounded up it would give infinity, and gradients NaN
    return jnp.maximum(jnp.exp(jnp.clip(a, low, high)), limits.tiny)


def just_inside(end: float, other: float, dtype: Any) -> Any:
    """The number next to `end` on the way to `other`, which is not subnormal: those count as 0."""
    number = np.nextafter(np.asarray(end, dtype), np.asarray(other, dtype))
    tiny = np.asarray(jnp.finfo(dtype).tiny, dtype)
    return number if abs(number) >= tiny else np.copysign(tiny, np.asarray(other - end, dtype))
