"""A transformer over the positions of an image: the conditioner of Jet. No flow logic."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import HIGHEST, promote
from glowjax.checks import check_context, check_image_shape, check_positive
from glowjax.nets.attention import check_heads, self_attention
from glowjax.nets.layers import Dtype, Initializer, layer_norm, lecun_normal, small_normal

EXPANSION = 4  # of a block's MLP, as in every ViT


class ViT(nn.Module):
    """A vision transformer of images `[B, H, W, C] -> [B, H, W, features]`, a token each position.

        h = dense(x) + position
        `blocks` times
            h ← h + dense(attention(dense(LayerNorm(h))))
            h ← h + dense(GELU(dense(LayerNorm(h))))
        result = dense(LayerNorm(h))

    Attention is multi-head scaled dot-product self-attention, and `position` is learned, so that a
    net is for images of one size. The result starts at zero. A gradient keeps each block's input
    alone and computes the rest again.

    Attributes:
        features: output channels.
        width: hidden channels, a multiple of `heads`; a block's MLP has 4 times as many.
        blocks: compiled once, as a scan.
        heads: of the attention.
        dtype: of the hidden arithmetic; default: the input's. Parameters, the last layer and the
            output are never below float32.

    A float `context` of `[B, F]`, such as one-hot labels, is added to every token by a linear map.

    Raises:
        ValueError: an attribute, x or context is not as above.

    Source: Dosovitskiy et al. 2021 (ViT), section 3.1.

    Examples:
        >>> net, x = glowjax.ViT(features=5, width=8, blocks=2), jnp.ones((2, 4, 4, 3))
        >>> y, params = net.init_with_output(jax.random.key(0), x)
        >>> y.shape, params["params"]["position"].shape
        ((2, 4, 4, 5), (4, 4, 8))
    """

    features: int
    width: int = 256
    blocks: int = 2
    heads: int = 4
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x, context=None):
        self._check(x, context)
        x = jnp.asarray(x, self.dtype or promote(x).dtype)
        shape = (*x.shape[1:3], self.width)
        position = self.param("position", small_normal, shape, promote(x).dtype)
        h = dense(x, self.width, "embed") + position.astype(x.dtype)
        if context is not None:
            h = h + dense(context.astype(x.dtype), self.width, "context")[:, None, None]
        blocks = nn.scan(
            nn.remat(_Block, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.blocks,
        )
        h, _ = blocks(self.heads, name="blocks")(h, None)
        h = promote(layer_norm(h, "norm")(h))
        return dense(h, self.features, "out", nn.initializers.zeros)

    @nn.nowrap
    def _check(self, x, context):
        check_image_shape("x", x)
        check_positive(features=self.features, blocks=self.blocks)
        check_heads(self.width, self.heads)
        check_context(context, x)


class _Block(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, h, _):
        channels = h.shape[-1]
        qkv = dense(layer_norm(h, "norm1")(h), 3 * channels, "qkv")
        h = h + dense(self_attention(qkv, self.heads), channels, "attended")
        y = nn.gelu(dense(layer_norm(h, "norm2")(h), EXPANSION * channels, "hidden"))
        return h + dense(y, channels, "mlp"), None


def dense(
    h: jax.Array, features: int, name: str, kernel_init: Initializer = lecun_normal
) -> jax.Array:
    """A linear map and bias in the dtype of h; as `layer_norm`, of the compact method's module."""
    full = promote(h).dtype
    layer = nn.Dense(
        features,
        dtype=h.dtype,
        param_dtype=full,
        precision=HIGHEST if h.dtype == full else None,
        kernel_init=kernel_init,
        name=name,
    )
    return layer(h)
