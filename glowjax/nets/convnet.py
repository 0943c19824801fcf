"""Glow's conditioner of images."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import promote, vary_as
from glowjax.checks import check_image_shape
from glowjax.nets.conv import (
    Taps,
    add_bias,
    matmul,
    patch_weight,
    patches,
    spread_to_taps,
    sum_of_taps,
)
from glowjax.nets.kernels import matmul_bias_relu, matmul_where_positive
from glowjax.nets.layers import Bias, ConvWeight, DataNorm, Dtype, Initializer, ZeroConv


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["first", "second", "bias", "last"],
    meta_fields=["channels"],
)
@dataclass(frozen=True)
class NetWeights:
    """What `conv_net` computes with; scales are multiplied into the weights."""

    channels: int  # of the input
    first: jax.Array  # [9·lanes, width], for `patches`, with the bias in it
    second: jax.Array  # [width, width]
    bias: jax.Array  # [width]
    last: Taps


def conv_net(x: jax.Array, weights: NetWeights, *, ring: bool) -> jax.Array:
    """3×3 conv, ReLU, 1×1 conv, ReLU, 3×3 conv: `[B, H, W, C] -> [B, H, W, F]`, float32 up.

    Raises:
        ValueError: x has not the channels that the weights are for.
    """
    if x.shape[-1] != weights.channels:
        raise ValueError(f"x must have {weights.channels} channels, got shape {x.shape}")
    weights = vary_as(weights, x)  # so that gradients are summed over devices
    layers = _layers_bfloat16 if x.dtype == jnp.bfloat16 else _layers
    return add_bias(layers(ring, x, weights), weights.last)


def _layers(ring, x, weights):
    h = _product(functools.partial(patches, ring=ring), x, weights.first)
    h = _product(jax.nn.relu, h, weights.second) + weights.bias
    y = _product(jax.nn.relu, h, weights.last.matrix)
    return sum_of_taps(y, weights.last.bias.shape[0])


@functools.partial(jax.checkpoint, static_argnums=0, prevent_cse=False)
def _product(f, x, weight):
    """f(x)·W. A loop keeps x for the gradient, and computes f, which is cheap, again."""
    return matmul(f(x), weight)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layers_bfloat16(ring, x, weights):
    """`_layers` with a result in float32; its gradient keeps no hidden activations.

    Wide activations take longer to read back than to compute again.
    """
    _, h = _hidden(_rows(patches(x, ring=ring)), weights)
    y = jnp.matmul(h, weights.last.matrix, preferred_element_type=jnp.float32)
    return sum_of_taps(y.reshape(*x.shape[:3], -1), weights.last.bias.shape[0])


def _save(ring, x, weights):
    return _layers_bfloat16(ring, x, weights), (x, weights)


def _pull(ring, saved, g):
    x, weights = saved
    last = weights.last
    gathered, pull_patches = jax.vjp(lambda x: _rows(patches(x, ring=ring)), x)
    h1, h2 = _hidden(gathered, weights)
    g = _rows(spread_to_taps(g, last.matrix.shape[1]).astype(x.dtype))
    g_matrix = jnp.matmul(h2.T, g)
    g, g_bias = matmul_where_positive(g, last.matrix.T, h2, sums=True)
    g_second = jnp.matmul(h1.T, g)
    g = matmul_where_positive(g, weights.second.T, h1)
    g_first = jnp.matmul(gathered.T, g)
    (g_x,) = pull_patches(jnp.matmul(g, weights.first.T))
    g_last = jax.tree.map(jnp.zeros_like, last)._replace(matrix=g_matrix)  # the rest is not used
    g_bias = g_bias.astype(weights.bias.dtype)
    return g_x, replace(weights, first=g_first, second=g_second, bias=g_bias, last=g_last)


_layers_bfloat16.defvjp(_save, _pull)


def _hidden(rows, weights):
    h = jax.nn.relu(jnp.matmul(rows, weights.first))
    return h, matmul_bias_relu(h, weights.second, weights.bias)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


class ConvNet(nn.Module):
    """Glow's conditioner: 3×3 conv, ReLU, 1×1 conv, ReLU, 3×3 zero conv; `[B, H, W, C]` images.

    Attributes:
        features: output channels.
        width: hidden channels.
        ring: gives every 3×3 convolution a channel that is 1 on the padding and 0 inside, which
            tells the net where the edges are.
        norm: normalises hidden activations by an ActNorm each; else they have a bias.
        output_init: of the last convolution's weight; with zeros a coupling starts as a constant.
        dtype: of the hidden arithmetic; default: the input's. Parameters and output are never below
            float32. `jnp.bfloat16` is several times faster, keeps no hidden activations for the
            gradient, and has derivatives of first order in reverse mode only.

    It takes no context: Glow conditions its top prior alone.

    Raises:
        ValueError: x is not `[B, H, W, C]`.

    Source: Kingma & Dhariwal 2018, appendix B, and the released code.
    """

    features: int
    width: int = 512
    ring: bool = True
    norm: bool = True
    output_init: Initializer = nn.initializers.zeros
    dtype: Dtype | None = None

    def __call__(self, x):
        check_image_shape("x", x)
        x = jnp.asarray(x, self.dtype or promote(x).dtype)
        prepared = self.get_variable("prepared", "weights")
        return conv_net(x, self._weights(x) if prepared is None else prepared, ring=self.ring)

    @nn.nowrap
    def prepare(self, params) -> dict[str, Any]:
        """The variables in the form the net computes with, see `Prepared`.

        The numbers of channels, `features` too, are those of `params`.
        """
        weight = params["conv1"]["weight"]
        x = jnp.zeros((1, 1, 1, weight.shape[2] - self.ring), self.dtype or weight.dtype)
        net = self.clone(features=params["out"]["bias"].shape[0])
        return {"prepared": {"weights": net.apply({"params": params}, x, method="_weights")}}

    @nn.compact
    def _weights(self, x):
        gathered = functools.cache(lambda: patches(x, ring=self.ring))  # for a first batch alone
        unbiased = jnp.zeros(self.width, promote(x).dtype)
        weight, bias = self._layer(
            "1",
            (3, 3, x.shape[-1] + self.ring, self.width),
            unbiased.dtype,
            lambda weight: matmul(gathered(), patch_weight(weight, unbiased)),
        )
        first = patch_weight(weight, bias).astype(x.dtype)
        weight, bias = self._layer(
            "2",
            (1, 1, self.width, self.width),
            unbiased.dtype,
            lambda weight: matmul(jax.nn.relu(matmul(gathered(), first)), weight[0, 0]),
        )
        last = ZeroConv(self.features, ring=self.ring, weight_init=self.output_init, name="out")
        return NetWeights(
            x.shape[-1],
            first,
            weight[0, 0].astype(x.dtype),
            bias.astype(x.dtype),
            last(self.width, x.dtype),
        )

    def _layer(self, number, shape, dtype, conv):
        """Weight and bias, with the scale of the ActNorm that follows, if any, multiplied in."""
        weight = ConvWeight(shape, name="conv" + number)(dtype)
        norm = DataNorm(name="norm" + number) if self.norm else Bias(name="norm" + number)
        return norm(weight, conv)
