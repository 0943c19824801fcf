"""Transformers over the positions of an image: what `ViT` and `CausalViT` share. No flow logic."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from glowjax.arrays import HIGHEST, promote
from glowjax.checks import check_context, check_image_shape, check_positive
from glowjax.nets.attention import Place, check_heads, dot_product_attention, split_heads
from glowjax.nets.layers import Dtype, Initializer, layer_norm, lecun_normal, small_normal

EXPANSION = 4  # of a block's MLP, as in every ViT


class Transformer(nn.Module):
    """The attributes of a transformer, their checks, and outputs from tokens.

    Those of a class: how the weights of all layers but the last start, and whether the last has a
    LayerNorm before it.
    """

    weights: ClassVar[Initializer] = staticmethod(lecun_normal)
    last_norm: ClassVar[bool] = True

    features: int
    width: int = 256
    blocks: int = 2
    heads: int = 4
    dtype: Dtype | None = None

    @nn.compact
    def of_tokens(
        self, tokens, size, features, context, place: Place = None, past=None
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        """Outputs `[B, S, features]` of tokens `[B, S, C]`, and `past` with these tokens in it.

        Args:
            tokens: all H·W of them; where there is `past`, only those from `place` on.
            size: (H, W).
            features: of a token.
            context: `[B, F]` or None.
            place: of the first of the tokens; each sees those up to itself. None: each sees all.
            past: keys and values of the tokens before `place`, `[blocks, B, H·W, heads, d]` each,
                with anything at the others' places.
        """
        h = jnp.asarray(tokens, self.dtype or promote(tokens).dtype)
        position = self.param("position", small_normal, (*size, self.width), promote(h).dtype)
        position = position.reshape(-1, self.width).astype(h.dtype)
        if place is not None:
            position = lax.dynamic_slice_in_dim(position, place, h.shape[1])
        h = dense(h, self.width, "embed", self.weights) + position
        if context is not None:
            h = h + dense(context.astype(h.dtype), self.width, "context", self.weights)[:, None]
        blocks = nn.scan(
            nn.remat(_Block, prevent_cse=False),  # a gradient keeps each block's input alone
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=self.blocks,
        )
        h, past = blocks(self.heads, self.weights, name="blocks")(h, past, place)
        h = layer_norm(h, "norm")(h) if self.last_norm else h
        return dense(promote(h), features, "out", nn.initializers.zeros), past

    @nn.nowrap
    def _check(self, x, context):
        check_image_shape("x", x)
        check_positive(features=self.features, blocks=self.blocks)
        check_heads(self.width, self.heads)
        check_context(context, x)


class _Block(nn.Module):
    heads: int
    weights: Initializer

    @nn.compact
    def __call__(self, h, past, place):
        channels = h.shape[-1]
        qkv = dense(layer_norm(h, "norm1")(h), 3 * channels, "qkv", self.weights)
        q, k, v = split_heads(qkv, self.heads)
        if past is not None:
            past = k, v = tuple(
                lax.dynamic_update_slice_in_dim(old, new, place, 1)
                for old, new in zip(past, (k, v), strict=True)
            )
        seen = dot_product_attention(q, k, v, place=place)
        h = h + dense(seen.reshape(h.shape), channels, "attended", self.weights)
        y = nn.gelu(dense(layer_norm(h, "norm2")(h), EXPANSION * channels, "hidden", self.weights))
        return h + dense(y, channels, "mlp", self.weights), past


def dense(h: jax.Array, features: int, name: str, kernel_init: Initializer) -> jax.Array:
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
