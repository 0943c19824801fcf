"""Increasing maps of single numbers, whose parameters a net gives or are learned as they are."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.checks import check_in
from glowjax.expression import expressed, recorded


@expressed
class Elementwise(NamedTuple):
    """An increasing map z = f(x; raw) of every number of an array, as pure functions.

        forward(x, raw) -> (z, log_slope)
        inverse(z, raw) -> (x, log_slope)

    `x` and `z` are `[...]`; `raw: [..., size]` holds the parameters of each number, unconstrained
    floats such as a net puts out; `log_slope: [...]` is ln of the derivative of the map just
    applied. At raw = 0 the map is a fixed one near the identity, and no two of its parameters play
    the same part, so that a net whose last layer starts at zero can learn.
    """

    size: int
    forward: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    inverse: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@recorded
def affine(*, bound: float | None = None) -> Elementwise:
    """z = (x + shift)·exp(log_scale), with raw = (shift, raw scale).

    Args:
        bound: log_scale = bound·tanh(raw scale / bound); None: the raw scale itself.

    Raises:
        ValueError: a bound that is not positive.
    """
    check_in("(0, inf)", optional=True, bound=bound)

    def parameters(raw):
        shift, log_scale = promote(raw[..., 0]), promote(raw[..., 1])
        return shift, log_scale if bound is None else bound * jnp.tanh(log_scale / bound)

    def forward(x, raw):
        shift, log_scale = parameters(raw)
        return (promote(x) + shift) * jnp.exp(log_scale), log_scale

    def inverse(z, raw):
        shift, log_scale = parameters(raw)
        return promote(z) * jnp.exp(-log_scale) - shift, -log_scale

    return Elementwise(2, forward, inverse)


class ElementwiseFlow(nn.Module):
    """z_i = f(x_i; raw_i), with parameters of its own for every number of an event `[B, ...]`.

    Attributes:
        transform: the map of one number.
    """

    transform: Elementwise

    def forward(self, x):
        return self._apply(self.transform.forward, x)

    def inverse(self, z):
        return self._apply(self.transform.inverse, z)

    @nn.compact
    def _apply(self, apply, x):
        x = promote(x)
        shape = (*x.shape[1:], self.transform.size)
        raw = self.param("raw", nn.initializers.zeros, shape, x.dtype)
        y, log_slope = apply(x, jnp.broadcast_to(raw, (*x.shape, self.transform.size)))
        return y, sum_event(log_slope)
