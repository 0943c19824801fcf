"""Elementwise maps by nets of sigmoids with positive weights (Huang et al. 2018)."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from glowjax.arrays import promote
from glowjax.bijections.roots import increasing_root
from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.checks import check_integer
from glowjax.expression import recorded

LOG_SLOPE_BOUND = 7.0
OWN = 2.0  # of the logits of a unit's weight for the unit of the same number, before it


@recorded
def deep_sigmoidal(width: int = 8, *, layers: int = 2) -> Elementwise:
    """A net of one number, each of whose layers is increasing: z = h_L, h_0 = x, and

        h_l = logit(W_l·σ(a_l∘(U_l·h_{l-1}) + b_l))

    with K units in σ, and h_l of K numbers but for the last, of one. The rows of W and U are
    softmaxes, a is positive, and U_1 is 1. Tails and slopes are sums of logarithms of positive
    numbers, so that nothing cancels; far outside z is a line. One layer alone would be
    `mixture_cdf`.

    raw holds, for each number, a and b of all layers, then the logits of U and of W. What is added
    to b_l is spread evenly in (-1, 1), and to the logits of unit k for itself 2, so that units
    differ at raw = 0, where the map is near the identity. ln a is clipped to [-7, 7], so that a
    net's wild output cannot make a step without an inverse. The inverse is exact to rounding, by
    some sixty evaluations in float32, and 120 in float64, from a bracket that W and U leave.

    Args:
        width: K, of at least 2. The size of raw grows as K².
        layers: L, of at least 2.

    An infinite x has log_slope NaN, and an infinite z has x NaN.

    Raises:
        ValueError: an argument is not as above.

    Source: Huang et al. 2018, "Neural autoregressive flows", section 3.2: deep dense sigmoidal
    flow.

    Examples:
        >>> transform = glowjax.deep_sigmoidal(width=4)
        >>> z, log_slope = transform.forward(jnp.ones((5, 3)), jnp.zeros((5, 3, transform.size)))
        >>> transform.size, z.shape, log_slope.shape
        (52, (5, 3), (5, 3))
    """
    check_integer("width", width, 2)
    check_integer("layers", layers, 2)
    shapes = _shapes(width, layers)
    sizes = [math.prod(shape) for shape in shapes]

    def layers_of(raw):
        chex.assert_axis_dimension(raw, -1, sum(sizes))
        parts = jnp.split(promote(raw), np.cumsum(sizes)[:-1], axis=-1)
        return _layers(*(p.reshape(*p.shape[:-1], *s) for p, s in zip(parts, shapes, strict=True)))

    def forward(x, raw):
        return _net(promote(x), layers_of(raw))

    def inverse(z, raw):
        z, layers = promote(z), layers_of(raw)
        low = high = z
        for layer in reversed(layers):  # whose outputs lie between those of its units
            slope = jnp.exp(layer.log_slope)
            low = jnp.min((low[..., None] - layer.shift) / slope, axis=-1)
            high = jnp.max((high[..., None] - layer.shift) / slope, axis=-1)
        x = increasing_root(lambda x: _net(x, layers)[0] - z, low, high)
        return x, -_net(x, layers)[1]

    return Elementwise(sum(sizes), forward, inverse)


class Layer(NamedTuple):
    """Of K units: ln a and b `[..., K]`, ln U `[..., K, inputs]`, ln W `[..., outputs, K]`."""

    log_slope: jax.Array
    shift: jax.Array
    log_inner: jax.Array
    log_outer: jax.Array


def _shapes(width: int, layers: int) -> list[tuple[int, ...]]:
    """Of the parts of raw: ln a and b of all layers, U but for the first, W but for the last, W."""
    square = (layers - 1, width, width)
    return [(layers, width), (layers, width), square, square, (width,)]


def _layers(log_slope, shift, inner, outer, last) -> list[Layer]:
    count, width = shift.shape[-2:]
    spread = (2 * np.arange(width) + 1) / width - 1
    own = (OWN * np.eye(width)).astype(shift.dtype)
    log_slope = jnp.clip(log_slope, -LOG_SLOPE_BOUND, LOG_SLOPE_BOUND)
    shift = shift + spread.astype(shift.dtype)
    inner, outer = jax.nn.log_softmax(inner + own), jax.nn.log_softmax(outer + own)
    inners = [jnp.zeros((width, 1), shift.dtype), *jnp.moveaxis(inner, -3, 0)]
    outers = [*jnp.moveaxis(outer, -3, 0), jax.nn.log_softmax(last)[..., None, :]]
    return [
        Layer(log_slope[..., i, :], shift[..., i, :], inners[i], outers[i]) for i in range(count)
    ]


def _net(x, layers: list[Layer]):
    """z, and ln dz/dx as logarithms of means, in which nothing cancels or underflows."""
    h, log_slope = x[..., None], jnp.zeros_like(x)[..., None]
    for layer in layers:
        mean = jnp.sum(jnp.exp(layer.log_inner) * h[..., None, :], axis=-1)
        unit = jnp.exp(layer.log_slope) * mean + layer.shift
        log_mean_slope = logsumexp(layer.log_inner + log_slope[..., None, :], axis=-1)
        log_p, log_q = (jax.nn.log_sigmoid(u)[..., None, :] for u in (unit, -unit))
        below, above = layer.log_outer + log_p, layer.log_outer + log_q
        # ∂h/∂unit: σ(-unit) by its share of what is below, and σ(unit) by that of what is above.
        of_below, of_above = jax.nn.log_softmax(below), jax.nn.log_softmax(above)
        shares = jnp.logaddexp(of_below + log_q, of_above + log_p)
        log_slope = logsumexp(shares + (layer.log_slope + log_mean_slope)[..., None, :], axis=-1)
        h = logsumexp(below, axis=-1) - logsumexp(above, axis=-1)
    return h[..., 0], log_slope[..., 0]
