"""RealNVP's conditioner: a residual network of weight-normalised convolutions. No flow logic."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import HIGHEST, promote, space_to_depth
from glowjax.checks import check_image_shape, described, is_array
from glowjax.nets.conv import conv_by_taps, matmul, taps
from glowjax.nets.layers import Dtype, Initializer, small_normal


def weight_norm(direction: jax.Array, scale: jax.Array) -> jax.Array:
    """w = scale·v / ‖v‖, with the norm of each output channel of v taken by itself.

    Args:
        direction: v, `[..., F]`.
        scale: `[F]`.

    Source: Salimans & Kingma 2016, section 2.
    """
    norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=tuple(range(direction.ndim - 1))))
    return direction * (scale / norm)


class ResNet(nn.Module):
    """RealNVP's conditioner of images `[B, H, W, C]`, weight-normalised throughout.

    h = conv3×3(x); `blocks` times h ← h + conv3×3(ReLU(conv3×3(ReLU(h)))); the result is a 1×1
    convolution of ReLU(s), where s sums a 1×1 convolution of every h. It starts at zero, so that a
    coupling with `scale="tanh"` starts as the identity. The paper's nets have batch normalization
    too, with which a density depends on the rest of its batch; here an `ActNorm` before each
    coupling takes its place.

    Attributes:
        features: output channels.
        width: hidden channels.
        blocks: residual blocks; compiled once, as a scan.
        dtype: of the hidden arithmetic; default: the input's. Parameters, the last layer and the
            output are never below float32.

    A float `context` is either features `[B, F]`, of which a linear map is added after the first
    convolution; or an image `[B, f·H, f·W, C']`, squeezed by the whole number f to the size of x
    and appended to it.

    Raises:
        ValueError: the context is neither.

    Sources: Dinh et al. 2017, sections 3.4 and 4.1; Salimans & Kingma 2016.
    """

    features: int
    width: int = 128
    blocks: int = 8
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x, context=None):
        check_image_shape("x", x)
        h = first_layer(jnp.asarray(x, self.dtype or promote(x).dtype), context, self.width)
        blocks = nn.scan(
            _Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.blocks
        )
        start = (h, WeightNormConv(self.width, 1, name="skip")(h))
        (_, skips), _ = blocks(name="blocks")(start, None)
        out = WeightNormConv(self.features, 1, scale_init=nn.initializers.zeros, name="out")
        return out(nn.relu(promote(skips)))


def first_layer(x: jax.Array, context: Any, width: int) -> jax.Array:
    """A 3×3 convolution of x and its context, in the dtype of x; called in a compact method.

    Its layers are the caller's `conv` and, for features, `context`. Errors as for `ResNet`.
    """
    image, features = _image_and_features(x, context)
    if image is not None:
        x = jnp.concatenate([x, image.astype(x.dtype)], axis=-1)
    h = WeightNormConv(width, name="conv")(x)
    if features is None:
        return h
    dense = nn.Dense(
        width, use_bias=False, param_dtype=promote(x).dtype, precision=HIGHEST, name="context"
    )
    return h + dense(features)[:, None, None, :].astype(h.dtype)


class _Block(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        h, skips = carry
        width = h.shape[-1]
        y = WeightNormConv(width, name="conv1")(nn.relu(h))
        h = h + WeightNormConv(width, name="conv2")(nn.relu(y))
        return (h, skips + WeightNormConv(width, 1, name="skip")(h)), None


class WeightNormConv(nn.Module):
    """Weight-normalised convolution with zero padding, and bias, in the dtype of its input.

    Attributes:
        features: output channels.
        size: of the kernel, 1 or 3.
        scale_init: of the norms of the output channels' kernels.
    """

    features: int
    size: int = 3
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x):
        dtype = promote(x).dtype
        shape = (self.size, self.size, x.shape[-1], self.features)
        direction = self.param("direction", small_normal, shape, dtype)
        scale = self.param("scale", self.scale_init, (self.features,), dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), dtype)
        weight = weight_norm(direction, scale).astype(x.dtype)
        if self.size == 1:
            return matmul(x, weight[0, 0]) + bias.astype(x.dtype)
        # In the gradient of Flow++'s blocks, cuDNN's convolution took 80 times as long.
        return conv_by_taps(x, taps(weight, bias.astype(x.dtype), ring=False, dtype=x.dtype))


def _image_and_features(x, context):
    """The context as whichever of the two it is, an image squeezed to the size of x; or None."""
    if context is None:
        return None, None
    shape = jnp.shape(context) if is_array(context) else ()
    batch, height, width, _ = x.shape
    factor = shape[1] // height if len(shape) == 4 else 0
    image = shape[:3] == (batch, factor * height, factor * width)
    features = len(shape) == 2 and shape[0] == batch
    wanted = f"floats of shape ({batch}, F) or ({batch}, f·{height}, f·{width}, C)"
    fits = (image or features) and 0 not in shape
    if not (fits and jnp.issubdtype(jnp.result_type(context), jnp.floating)):
        raise ValueError(f"context must be {wanted}, got {described(context)}")
    return (space_to_depth(promote(context), factor), None) if image else (None, context)
