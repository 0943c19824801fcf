"""Flow++'s conditioner: gated convolutions and self-attention over all pixels. No flow logic."""

import flax.linen as nn
import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.checks import BELOW_ONE, check_image_shape, check_in, check_positive
from glowjax.nets.attention import check_heads, self_attention
from glowjax.nets.layers import Dtype, layer_norm, small_normal
from glowjax.nets.resnet import WeightNormConv, first_layer


class GatedAttention(nn.Module):
    """Flow++'s conditioner of images `[B, H, W, C]`: convolutions and attention, both gated.

    With f(h) = (elu(h), elu(-h)), which has twice the channels, and gate(h) = a·σ(b), where a and b
    are the halves of a 1×1 convolution of h:

        h = conv3×3(x)
        `blocks` times
            h ← LayerNorm(h + gate(f(conv3×3(f(h)))))
            h ← LayerNorm(h + gate(attention(conv1×1(h + position))))
        result = conv1×1(f(h))

    Attention is multi-head scaled dot-product self-attention, each pixel one token, and `position`
    is learned in each block, so that a net is for images of one size. Convolutions are
    weight-normalised. The result starts at zero. In the paper, the last convolution is a 3×3 one.

    Attributes:
        features: output channels.
        width: hidden channels, a multiple of `heads`.
        blocks: compiled once, as a scan.
        heads: of the attention.
        dropout: the share of numbers before a convolution's gate that are 0 in training, in [0, 1);
            it is applied where the flow is given a `key`, and only there.
        dtype: of the hidden arithmetic; default: the input's. Parameters, the last layer and the
            output are never below float32.

    A `context` is as for `ResNet`.

    Raises:
        ValueError: an attribute or a context is not as above.

    Sources: Ho et al. 2019 (Flow++), section 3.3; Salimans & Kingma 2016 (weight normalization).

    Examples:
        >>> net, x = glowjax.GatedAttention(features=5, width=8, blocks=2), jnp.ones((2, 4, 4, 3))
        >>> y, params = net.init_with_output(jax.random.key(0), x)
        >>> y.shape, params["params"]["blocks"]["position"].shape
        ((2, 4, 4, 5), (2, 4, 4, 8))
    """

    features: int
    width: int = 96
    blocks: int = 10
    heads: int = 4
    dropout: float = 0.0
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x, context=None):
        self._check(x)
        h = first_layer(jnp.asarray(x, self.dtype or promote(x).dtype), context, self.width)
        blocks = nn.scan(
            nn.remat(_Block, prevent_cse=False),  # a gradient keeps each block's input alone
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.blocks,
        )
        h, _ = blocks(self.heads, self.dropout, name="blocks")(h, None)
        out = WeightNormConv(self.features, 1, scale_init=nn.initializers.zeros, name="out")
        return out(promote(_concatenated_elu(h)))

    @nn.nowrap
    def _check(self, x):
        check_image_shape("x", x)
        check_positive(features=self.features, blocks=self.blocks)
        check_heads(self.width, self.heads)
        check_in(BELOW_ONE, dropout=self.dropout)


class _Block(nn.Module):
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, h, _):
        y = WeightNormConv(h.shape[-1], name="conv")(_concatenated_elu(h))
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        h = layer_norm(h, "norm1")(h + _gate(drop(_concatenated_elu(y)), h.shape[-1], "gate1"))
        y = self._attention(h)
        return layer_norm(h, "norm2")(h + _gate(y, h.shape[-1], "gate2")), None

    def _attention(self, h):
        position = self.param("position", small_normal, h.shape[1:], promote(h).dtype)
        qkv = WeightNormConv(3 * h.shape[-1], 1, name="qkv")(h + position.astype(h.dtype))
        return self_attention(qkv, self.heads)


def _gate(h, channels, name):
    """a·σ(b); as `layer_norm`, a layer of the compact method that calls it."""
    small = nn.initializers.constant(0.1)
    y = WeightNormConv(2 * channels, 1, scale_init=small, name=name)(h)
    a, b = jnp.split(y, 2, axis=-1)
    return a * nn.sigmoid(b)


def _concatenated_elu(h):
    return jnp.concatenate([nn.elu(h), nn.elu(-h)], axis=-1)
