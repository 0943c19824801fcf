"""Block neural autoregressive flow: one masked net with positive blocks (De Cao et al. 2019)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST, AnyArray, draw_flat, promote, sum_event, vary_as
from glowjax.bijections.planar import tanh_slope
from glowjax.bijections.roots import increasing_root
from glowjax.checks import check_context, check_integer, check_positive, require
from glowjax.nets.layers import small_normal

SPREAD = 0.3  # of the first weights
LOG_SCALE = -math.log(2)  # at first, so that each half of z is near x where tanh is near its line


class BlockLayer(NamedTuple):
    """A linear layer from the units of all numbers to those of all numbers.

    Attributes:
        weight: `[D, N, D, M]`, from N units of each number to M. The blocks from a number to
            itself are logarithms, and those to numbers before it are not used.
        bias: `[D, M]`, or `[B, D, M]`: its own for each example.
    """

    weight: Float[AnyArray, "D N D M"]
    bias: Float[AnyArray, "*#B D M"]


def block_autoregressive_forward(
    x: Float[AnyArray, "B D"], layers: Sequence[BlockLayer], log_scale: Float[AnyArray, "D"]
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """z = exp(log_scale)·x + net(x), in which net(x)_i depends on x_1 … x_i, and grows with x_i.

    The net is linear layers with tanh between them, and has some units for each number. Those of
    x_i see the units of x_1 … x_i before them, and their weights for the units of x_i itself are
    positive. So ∂z/∂x is triangular, and no term of its diagonal is negative:

        ∂z_i/∂x_i = exp(log_scale_i) + V_L·diag(tanh'(a_{L-1}))·V_{L-1} ⋯ diag(tanh'(a_1))·V_1

    with V_l the positive block of layer l for x_i, and a_l what tanh is applied to.

    Args:
        x: `[B, D]`.
        layers: two at least, from 1 unit for each number, x_i, to 1.
        log_scale: `[D]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ ln ∂z_i/∂x_i, in nats.

    Raises:
        ValueError: there are fewer layers.
    """
    check_integer("number of layers", len(layers), 2)
    x, scale = promote(x), jnp.exp(promote(log_scale))
    h, slope = x[..., None], jnp.ones_like(x)[..., None]
    for number, layer in enumerate(layers, 1):
        before, own = _blocks(layer)
        h = _sum("bin,injm->bjm", h, before) + _sum("bin,inm->bim", h, own) + promote(layer.bias)
        slope = _sum("bin,inm->bim", slope, own)
        if number < len(layers):
            h, slope = jnp.tanh(h), slope * tanh_slope(h)
    return scale * x + h[..., 0], sum_event(jnp.log(scale + slope[..., 0]))


def block_autoregressive_inverse(
    z: Float[AnyArray, "B D"], layers: Sequence[BlockLayer], log_scale: Float[AnyArray, "D"]
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """x_i with exp(log_scale_i)·x_i + net(x)_i = z_i, one after the other; exact to rounding.

    A root is sought by bisection through the units of its own number alone, since those before are
    known: in all that takes one pass, and for each number some sixty passes of its units in
    float32, and 120 in float64. tanh is within ±1, which gives the bracket.

    Returns `(x, log_det)`, with arguments and errors as `block_autoregressive_forward`.
    """
    check_integer("number of layers", len(layers), 2)
    z, scale = promote(z), jnp.exp(promote(log_scale))
    size = z.shape[1]
    blocks = [_blocks(layer) for layer in layers]
    before = [jnp.moveaxis(before, 2, 0) for before, _ in blocks]
    own = [own for _, own in blocks]
    bias = [jnp.moveaxis(promote(bias), -2, 0) for _, bias in layers]

    def number(units, row):
        """Solves for one number, from the units of those before it; the others' are 0."""
        i, z, scale, before, own, bias = row
        known = [
            _sum("bin,inm->bm", *pair) + b for *pair, b in zip(units, before, bias, strict=True)
        ]
        middle, reach = z - known[-1][:, 0], jnp.sum(own[-1])
        x = increasing_root(
            lambda x: _units(x, known, own)[1] + scale * x - z,
            (middle - reach) / scale,
            (middle + reach) / scale,
        )
        new, _ = _units(x, known, own)
        return [h.at[:, i].set(a) for h, a in zip(units, new, strict=True)], x

    dtype = jnp.result_type(z, *own)
    units = [jnp.zeros((*z.shape, block.shape[1]), dtype) for block in own]
    rows = jnp.arange(size), z.T, scale, before, own, bias
    _, x = lax.scan(number, vary_as(units, z), rows)
    return x.T, -block_autoregressive_forward(x.T, layers, log_scale)[1]


def _blocks(layer: BlockLayer):
    """The weights from numbers to those after them, `[D, N, D, M]`, and to themselves, positive."""
    weight = promote(layer.weight)
    size = len(weight)
    before = np.arange(size)[:, None] < np.arange(size)
    own = jnp.exp(jnp.moveaxis(jnp.diagonal(weight, axis1=0, axis2=2), -1, 0))
    return weight * before[:, None, :, None], own


def _units(x, known, own):
    """What each layer sees of one number, and net(x)_i: known is what comes from those before."""
    units, h = [], x[:, None]
    for others, block in zip(known, own, strict=True):
        units.append(h)
        a = others + _sum("bn,nm->bm", h, block)
        h = jnp.tanh(a)
    return units, a[:, 0]


def _sum(subscripts, *arrays):
    return jnp.einsum(subscripts, *arrays, precision=HIGHEST)


class BlockAutoregressive(nn.Module):
    """z = exp(log_scale)·x + net(x), one masked net that grows with its own number: `[B, D]`.

    See `block_autoregressive_forward`. The paper's residual connection with a gate is here one with
    a scale: it makes the map onto, so that every z has an x. A float `context` of `[B, F]` is added
    to the first layer, linearly. `Reverse` between several turns the order about.

    Attributes:
        width: hidden units for each number.
        depth: hidden layers.

    Raises:
        ValueError: an attribute is not as above; x or context are of another rank or batch.

    Source: De Cao et al. 2019, "Block neural autoregressive flow", section 3.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.BlockAutoregressive(width=4)), jnp.ones((5, 3))
        >>> params = jax.jit(flow.init)(jax.random.key(0), x)
        >>> z, log_det = flow.forward(params, x)
        >>> bool(jnp.allclose(flow.inverse(params, z)[0], x, atol=1e-5)), log_det.shape
        (True, (5,))
    """

    width: int = 16
    depth: int = 1

    def forward(self, x, context=None) -> tuple[Array, Array]:
        return self._apply(block_autoregressive_forward, x, context)

    def inverse(self, z, context=None) -> tuple[Array, Array]:
        return self._apply(block_autoregressive_inverse, z, context)

    @nn.compact
    def _apply(self, apply, x, context):
        check_positive(width=self.width, depth=self.depth)
        x = promote(x)
        require(x.ndim == 2, "x", x.shape, "of shape [B, D]")
        check_context(context, x)
        size, normal = x.shape[1], nn.initializers.normal(1.0)
        layers, inputs = [], 1
        for number, outputs in enumerate([self.width] * self.depth + [1], 1):
            shape = (size, inputs, size, outputs)
            weight = self.param(f"weight{number}", _draw_weight, shape, x.dtype)
            bias = self.param(f"bias{number}", normal, (size, outputs), x.dtype)
            layers.append(BlockLayer(weight, bias))
            inputs = outputs
        if context is not None:
            shape = (context.shape[1], size, self.width)
            weight = self.param("context_weight", small_normal, shape, x.dtype)
            bias = layers[0].bias + _sum("bf,fim->bim", promote(context), weight)
            layers[0] = layers[0]._replace(bias=bias)
        log_scale = self.param("log_scale", nn.initializers.constant(LOG_SCALE), (size,), x.dtype)
        return apply(x, layers, log_scale)


def _draw_weight(key, shape, dtype):
    """Small ones, and logarithms of positive ones whose sum over N units is about 1."""
    size, inputs, *_ = shape
    own = jnp.eye(size, dtype=dtype)[:, None, :, None]
    return draw_flat(jax.random.normal, key, shape, dtype) * SPREAD - own * math.log(inputs)
