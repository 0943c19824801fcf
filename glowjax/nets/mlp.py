"""The conditioner of vectors."""

import flax.linen as nn
import jax.numpy as jnp

from glowjax.arrays import HIGHEST, promote
from glowjax.checks import check_context
from glowjax.nets.zero import ZeroDense


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
