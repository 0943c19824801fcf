"""Conditioner nets: what couplings and priors compute their parameters with. No flow logic."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.actnorm import actnorm_statistics
from glowjax.arrays import (
    HIGHEST,
    check_context,
    check_image_shape,
    draw_in_rows,
    promote,
    require,
    vary_as,
)
from glowjax.context import refuse_context
from glowjax.conv import (
    Taps,
    add_bias,
    matmul,
    patch_weight,
    patches,
    spread_to_taps,
    sum_of_taps,
    taps,
)
from glowjax.kernels import matmul_bias_relu, matmul_where_positive

Dtype = jax.typing.DTypeLike
Initializer = Callable[..., jax.Array]
LOG_SCALE_FACTOR = 3.0  # of every log_scale in the released Glow


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
    h = jax.nn.relu(matmul(patches(x, ring=ring), weights.first))
    h = jax.nn.relu(matmul(h, weights.second) + weights.bias)
    return sum_of_taps(matmul(h, weights.last.matrix), weights.last.bias.shape[0])


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
        prepared = self.get_variable("params", "weights")
        return conv_net(x, self._weights(x) if prepared is None else prepared, ring=self.ring)

    @nn.nowrap
    def prepare(self, params):
        """Raw `params` in the form the net computes with; `__call__` takes either.

        The numbers of channels, `features` too, are those of `params`.
        """
        weight = params["conv1"]["weight"]
        x = jnp.zeros((1, 1, 1, weight.shape[2] - self.ring), self.dtype or weight.dtype)
        net = self.clone(features=params["out"]["bias"].shape[0])
        return {"weights": net.apply({"params": params}, x, method="_weights")}

    @nn.compact
    def _weights(self, x):
        gathered = patches(x, ring=self.ring)
        unbiased = jnp.zeros(self.width, promote(x).dtype)
        weight, bias = self._layer(
            "1",
            (3, 3, x.shape[-1] + self.ring, self.width),
            unbiased.dtype,
            lambda weight: matmul(gathered, patch_weight(weight, unbiased)),
        )
        first = patch_weight(weight, bias).astype(x.dtype)
        weight, bias = self._layer(
            "2",
            (1, 1, self.width, self.width),
            unbiased.dtype,
            lambda weight: matmul(jax.nn.relu(matmul(gathered, first)), weight[0, 0]),
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


class MLP(nn.Module):
    """Conditioner of vectors `[B, D]`: `depth` hidden layers with SiLU, then a zero layer.

    Attributes:
        features: output features.
        width, depth: of the hidden layers.

    A float `context` of `[B, F]` is appended to the input.
    """

    features: int
    width: int = 64
    depth: int = 2

    @nn.compact
    def __call__(self, x, context=None):
        if context is not None:
            check_context(context, x)
        h = x if context is None else jnp.concatenate([x, context], axis=-1)
        for layer in range(self.depth):
            dense = nn.Dense(
                self.width,
                param_dtype=promote(x).dtype,
                precision=HIGHEST,
                name=f"dense{layer + 1}",
            )
            h = nn.silu(dense(h))
        return ZeroDense(self.features, name="out")(h)


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
    require(context is not None, "context", None, f"floats of shape ({len(x)}, F)")
    check_context(context, x)
    sizes = [p.size for p in own]
    h = promote(net(features=sum(sizes), name="net")(context))
    parts = jnp.split(h, np.cumsum(sizes)[:-1], axis=-1)
    return tuple(p + part.reshape(len(x), *p.shape) for p, part in zip(own, parts, strict=True))


def small_normal(key: jax.Array, shape: tuple[int, ...], dtype: Dtype) -> jax.Array:
    """Weights from N(0, 0.05²), as in the released Glow."""
    return 0.05 * draw_in_rows(jax.random.normal, key, shape, dtype)


class ConvWeight(nn.Module):
    """The weight of a convolution, from N(0, 0.05²)."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self, dtype):
        return self.param("weight", small_normal, self.shape, dtype)


class ZeroConv(nn.Module):
    """Weights of (conv3x3(x) + bias)·exp(3·log_scale), all zero at first: `Taps`."""

    features: int
    ring: bool = True
    weight_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, channels, dtype):
        shape = (3, 3, channels + self.ring, self.features)
        weight = self.param(
            "weight", self.weight_init, shape, jnp.promote_types(dtype, jnp.float32)
        )
        bias, scale = bias_and_scale(self, self.features, weight.dtype)
        return taps(weight * scale, bias * scale, ring=self.ring, dtype=dtype)


class ZeroDense(nn.Module):
    """(x·W + bias)·exp(3·log_scale), all zero at first; float32 at least.

    A mask, `[inputs, features]`, is multiplied into W.
    """

    features: int

    @nn.compact
    def __call__(self, x, mask=None):
        x = promote(x)
        shape = (x.shape[-1], self.features)
        weight = self.param("weight", nn.initializers.zeros, shape, x.dtype)
        weight = weight if mask is None else weight * mask
        return scaled_bias(self, matmul(x, weight))


class DataNorm(nn.Module):
    """The ActNorm after a convolution, multiplied into its weight and bias: that is a pass less.

    Its parameters normalise `conv(weight)` on the first batch; later `conv` is not called.
    """

    @nn.compact
    def __call__(self, weight, conv):
        statistics = functools.cache(lambda: actnorm_statistics(conv(weight)))
        log_scale = self.param("log_scale", lambda _: statistics()[0] / LOG_SCALE_FACTOR)
        bias = self.param("bias", lambda _: statistics()[1])
        scale = jnp.exp(LOG_SCALE_FACTOR * log_scale)
        return weight * scale, bias * scale


class Bias(nn.Module):
    """A learned bias, 0 at first: what takes the place of `DataNorm`."""

    @nn.compact
    def __call__(self, weight, conv):
        shape = weight.shape[-1:]
        return weight, self.param("bias", nn.initializers.zeros, shape, weight.dtype)


def scaled_bias(module: nn.Module, x: jax.Array) -> jax.Array:
    """(x + bias)·exp(3·log_scale) with parameters of `module`, a compact caller, 0 at first."""
    bias, scale = bias_and_scale(module, x.shape[-1], x.dtype)
    return (x + bias) * scale


def bias_and_scale(module: nn.Module, features: int, dtype: Dtype) -> tuple[jax.Array, jax.Array]:
    """The bias and exp(3·log_scale) of `scaled_bias`."""
    bias = module.param("bias", nn.initializers.zeros, (features,), dtype)
    log_scale = module.param("log_scale", nn.initializers.zeros, (features,), dtype)
    return bias, jnp.exp(LOG_SCALE_FACTOR * log_scale)
