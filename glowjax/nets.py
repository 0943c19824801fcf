"""Conditioner nets: what couplings and priors compute their parameters with. No flow logic."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.actnorm import actnorm_statistics
from glowjax.arrays import HIGHEST, promote

Dtype = jax.typing.DTypeLike
Initializer = Callable[..., jax.Array]
LOG_SCALE_FACTOR = 3.0  # of every log_scale in the released Glow


class ConvNet(nn.Module):
    """Glow's conditioner: 3×3 conv, ReLU, 1×1 conv, ReLU, 3×3 zero conv; `[B, H, W, C]` images.

    Attributes:
        features: output channels.
        width: hidden channels.
        ring: gives every 3×3 convolution a channel that is 1 on the padding and 0 inside, which
            tells the net where the edges are.
        norm: normalises hidden activations by an ActNorm each; else they have a bias.
        output_init: of the last convolution's weight; with zeros a coupling starts as a constant.
        dtype: of the hidden arithmetic, `jnp.bfloat16` for speed; default: the input's. Parameters
            and output are never below float32.

    `context` is accepted and not used: Glow conditions its top prior alone.
    Source: Kingma & Dhariwal 2018, appendix B, and the released code.
    """

    features: int
    width: int = 512
    ring: bool = True
    norm: bool = True
    output_init: Initializer = nn.initializers.zeros
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x, context=None):
        h = jnp.asarray(x, self.dtype or promote(x).dtype)
        h = nn.relu(self._layer(h, "1", size=3, ring=self.ring))
        h = nn.relu(self._layer(h, "2", size=1, ring=False))
        return ZeroConv(self.features, ring=self.ring, weight_init=self.output_init, name="out")(h)

    def _layer(self, h, number, size, ring):
        """Convolution, then ActNorm (its scale goes into the weight, a pass less) or bias."""
        weight = ConvWeight(self.width, size=size, ring=ring, name="conv" + number)(h)
        norm = DataNorm(name="norm" + number) if self.norm else Bias(name="norm" + number)
        scale, bias = norm(h, weight)
        return conv(h, weight * scale).astype(h.dtype) + bias.astype(h.dtype)


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
        if context is not None and jnp.shape(context)[:-1] != x.shape[:-1]:
            due = f"features of shape {(*x.shape[:-1], 'F')}"
            raise ValueError(f"context must be {due}, got shape {jnp.shape(context)}")
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


class ConvWeight(nn.Module):
    """The weight of a size×size convolution, from N(0, 0.05²), with a ring channel if asked."""

    features: int
    size: int
    ring: bool

    @nn.compact
    def __call__(self, x):
        shape = (self.size, self.size, x.shape[-1] + self.ring, self.features)
        return self.param("weight", nn.initializers.normal(0.05), shape, promote(x).dtype)


class ZeroConv(nn.Module):
    """(conv3x3(x) + bias)·exp(3·log_scale), all zero at first; float32 at least."""

    features: int
    ring: bool = True
    weight_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x):
        shape = (3, 3, x.shape[-1] + self.ring, self.features)
        y = conv(x, self.param("weight", self.weight_init, shape, promote(x).dtype))
        return scaled_bias(self, promote(y))


class ZeroDense(nn.Module):
    """(x·W + bias)·exp(3·log_scale), all zero at first; float32 at least."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = promote(x)
        shape = (x.shape[-1], self.features)
        weight = self.param("weight", nn.initializers.zeros, shape, x.dtype)
        return scaled_bias(self, _matmul(x, weight))


class DataNorm(nn.Module):
    """Scale and bias that normalise what `conv(x, weight)` is on the first batch: an ActNorm.

    conv(x, weight·scale) + bias is (conv(x, weight) + b)·exp(3·log_scale).
    """

    @nn.compact
    def __call__(self, x, weight):
        def statistics():  # at initialisation alone
            return actnorm_statistics(conv(x, weight))

        log_scale = self.param("log_scale", lambda _: statistics()[0] / LOG_SCALE_FACTOR)
        bias = self.param("bias", lambda _: statistics()[1])
        scale = jnp.exp(LOG_SCALE_FACTOR * log_scale)
        return scale, bias * scale


class Bias(nn.Module):
    """Scale 1 and a learned bias, 0 at first: what takes the place of `DataNorm`."""

    @nn.compact
    def __call__(self, x, weight):
        shape = weight.shape[-1:]
        return 1, self.param("bias", nn.initializers.zeros, shape, weight.dtype)


def scaled_bias(module: nn.Module, x: jax.Array) -> jax.Array:
    """(x + bias)·exp(3·log_scale) with parameters of `module`, a compact caller, 0 at first."""
    bias = module.param("bias", nn.initializers.zeros, x.shape[-1:], x.dtype)
    log_scale = module.param("log_scale", nn.initializers.zeros, x.shape[-1:], x.dtype)
    return (x + bias) * jnp.exp(LOG_SCALE_FACTOR * log_scale)


def conv(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Convolution of stride 1 with zero padding, as one matrix product, in the dtype of `x`.

    Narrow inputs are gathered into patches first; narrow outputs are computed tap by tap and added
    shifted. Both beat XLA's convolutions at Glow's shapes, most of all in a scan on CPU.

    Args:
        x: `[B, H, W, C]`.
        weight: `[k, k, C, F]`, k odd; or `[k, k, C + 1, F]`, whose last input channel sees 1 on
            the padding ring and 0 inside.

    Returns:
        `[B, H, W, F]`; float32 at least where F < C, for that is a net's output.
    """
    size, _, inputs, features = weight.shape
    channels = x.shape[-1]
    weight, ring = weight.astype(x.dtype)[:, :, :channels], weight[:, :, channels:]
    if channels <= features:
        y = _matmul(_patches(_pad(x, size), size), weight.reshape(-1, features))
    else:
        y = _sum_of_taps(x, weight)
    if inputs > channels:
        y += ring_conv(x.shape[1], x.shape[2], ring).astype(y.dtype)
    return y


def ring_conv(height: int, width: int, weight: jax.Array) -> jax.Array:
    """Convolution of an image that is 0, padded by 1: `weight [k, k, 1, F] -> [1, H, W, F]`.

    All taps less those inside. A constant array of the ring would do too; but XLA moves it out of
    a scan, and then no longer sees that rebuilt gradients evaluate the same net twice.
    """
    inside = _sum_of_taps(jnp.ones((1, height, width, 1), weight.dtype), weight)
    return jnp.sum(weight, axis=(0, 1, 2)) - inside


def _sum_of_taps(x, weight):
    size, _, channels, _ = weight.shape
    taps = _matmul(x, weight.transpose(2, 0, 1, 3).reshape(channels, -1), promote(x).dtype)
    taps = _pad(taps, size)
    blocks = jnp.split(taps, size**2, axis=-1)
    windows = [_window(block, *divmod(tap, size), size) for tap, block in enumerate(blocks)]
    return sum(windows)


def _patches(padded, size):
    windows = [_window(padded, dy, dx, size) for dy in range(size) for dx in range(size)]
    return jnp.concatenate(windows, axis=-1)


def _window(padded, dy, dx, size):
    height, width = padded.shape[1] - size + 1, padded.shape[2] - size + 1
    return padded[:, dy : dy + height, dx : dx + width]


def _pad(x, size):
    edge = (size // 2, size // 2)
    return jnp.pad(x, ((0, 0), edge, edge, (0, 0)))


def _matmul(x, weight, dtype=None):
    # Full float32 unless bfloat16 was asked for: on NVIDIA GPUs the default is TF32, whose
    # rounding the inverse would not repeat.
    precision = HIGHEST if promote(x).dtype == x.dtype else None
    return jnp.matmul(x, weight, precision=precision, preferred_element_type=dtype)
