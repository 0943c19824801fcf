"""A vision transformer over the positions of an image: the conditioner of Jet. No flow logic."""

import jax.numpy as jnp

from glowjax.nets.transformer import Transformer


class ViT(Transformer):
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

    def __call__(self, x, context=None):
        self._check(x, context)
        batch, height, width, channels = x.shape
        tokens = jnp.reshape(x, (batch, height * width, channels))
        out, _ = self.of_tokens(tokens, (height, width), self.features, context)
        return out.reshape(batch, height, width, self.features)
