"""Layers that are zero or normalised at first, and the first weights of Glow's nets."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import actnorm_statistics, draw_flat, promote
from glowjax.nets.conv import matmul, taps

Dtype = jax.typing.DTypeLike


Initializer = Callable[..., jax.Array]


LOG_SCALE_FACTOR = 3.0  # of every log_scale in the released Glow


def small_normal(key: jax.Array, shape: tuple[int, ...], dtype: Dtype) -> jax.Array:
    """Weights from N(0, 0.05²), as in the released Glow."""
    return 0.05 * draw_flat(jax.random.normal, key, shape, dtype)


small_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Weights from U(-1/√n, 1/√n), n the inputs: nets that start larger overfit small tables."""


def lecun_normal(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
    """Weights of variance 1/n, n the inputs; unlike Flax's own, it goes through pickle."""
    return nn.initializers.lecun_normal()(key, shape, dtype)


def masked(weight: jax.Array, mask: np.ndarray) -> jax.Array:
    """The weights that a mask of booleans lets through, and 0 elsewhere."""
    return weight * jnp.asarray(mask, weight.dtype)


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
        weight = weight if mask is None else masked(weight, mask)
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


def layer_norm(h: jax.Array, name: str) -> nn.LayerNorm:
    """Flax's, in the dtype of h; a layer of the compact method that calls it."""
    return nn.LayerNorm(
        dtype=h.dtype, param_dtype=promote(h).dtype, use_fast_variance=False, name=name
    )
