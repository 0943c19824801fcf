"""Elementwise maps by a curve on an interval, and by its tangents beyond."""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import promote, vary_as
from glowjax.bijections.roots import increasing_root
from glowjax.bijections.scalar.elementwise import Elementwise

Curve = Callable[
    [Float[Array, "*shape"]],
    tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
]


def linear_tails(
    size: int, bound: float, curve_of: Callable[[Float[Array, "*shape size"]], Curve]
) -> Elementwise:
    """An increasing curve on [-bound, bound], continued by its tangents at ±bound.

        z = f(c) + (x - c)·f'(c),   c = x clipped to [-bound, bound]

    So dz/dx is continuous, and both directions keep their digits far outside, where they are lines.
    Within, the inverse is found by bisection, exact to rounding.

    Args:
        size: of the parameters of each number.
        bound: where the curve ends, in units of x.
        curve_of: makes of raw `[..., size]` the curve, from x `[...]` within to `(f, ln f')`.
    """

    def prepared(value, raw):
        chex.assert_axis_dimension(raw, -1, size)
        return promote(value), curve_of(promote(raw))

    def forward(x, raw):
        x, curve = prepared(x, raw)
        within = jnp.clip(x, -bound, bound)
        z, log_slope = curve(within)
        return z + (x - within) * jnp.exp(log_slope), log_slope

    def inverse(z, raw):
        z, curve = prepared(z, raw)
        low, high = (jnp.full_like(z, end) for end in (-bound, bound))
        lowest, highest = curve(low)[0], curve(high)[0]
        within = jnp.clip(z, lowest, highest)
        root = increasing_root(lambda x: curve(x)[0] - within, *vary_as((low, high), within))
        # Beside an end, f may be flat but for rounding, and its slope another one.
        x = jnp.where(z <= lowest, low, jnp.where(z >= highest, high, root))
        log_slope = curve(x)[1]
        return x + (z - within) * jnp.exp(-log_slope), -log_slope

    return Elementwise(size, forward, inverse)


def positive(raw: Float[Array, "*shape"], least: float) -> Float[Array, "*shape"]:
    """A slope above `least`, by a softplus; 1 where raw is 0."""
    return least + jax.nn.softplus(raw + math.log(math.expm1(1 - least)))
