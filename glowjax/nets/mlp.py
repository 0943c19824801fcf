"""The conditioner of vectors, and the hidden layers that it shares with others."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import HIGHEST, promote
from glowjax.checks import check_context, require
from glowjax.nets.activations import Activation, activation_function
from glowjax.nets.angles import angular, seen
from glowjax.nets.layers import Initializer, ZeroDense, small_uniform


class MLP(nn.Module):
    """Conditioner of vectors `[B, D]`: `depth` hidden layers, then a zero layer.

    Attributes:
        features: output features.
        width, depth: of the hidden layers.
        activation: after each of them, `"silu"`, `"relu"`, `"tanh"`, `"elu"`, `"gelu"`,
            `"gelu_tanh"`, `"sigmoid"`, `"softplus"`, or a function. What goes through pickle is a
            name, or a function that does, as JAX's own mostly do not.
        residual: makes each layer a residual block, see `hidden_layers`.
        angles: columns of the input that are angles in radians: the net sees their cosine and sine.
        kernel_init: of the hidden layers' matrices; default: U(-1/√n, 1/√n) for n inputs.

    A float `context` of `[B, F]` is appended to the input, which then is of that rank.

    Raises:
        ValueError: an attribute is not as above; the context, or x beside one, is of another shape.
    """

    features: int
    width: int = 64
    depth: int = 2
    activation: Activation = "relu"
    residual: bool = False
    angles: tuple[int, ...] = ()
    kernel_init: Initializer = small_uniform

    @nn.compact
    def __call__(self, x, context=None):
        if context is not None:
            check_context(context, x)
            require(x.ndim == 2, "x", x.shape, "of shape [B, D] where a context is given")
        x = seen(x, angular("angles", self.angles, x.shape[-1]))
        h = x if context is None else jnp.concatenate([x, context], axis=-1)

        def dense(h, name):
            layer = nn.Dense(
                self.width,
                kernel_init=self.kernel_init,
                param_dtype=promote(x).dtype,
                precision=HIGHEST,
                name=name,
            )
            return layer(h)

        h = hidden_layers(dense, h, self.depth, self.activation, residual=self.residual)
        return ZeroDense(self.features, name="out")(h)


def hidden_layers(
    dense: Callable[[jax.Array, str], jax.Array],
    x: jax.Array,
    depth: int,
    activation: Activation,
    *,
    residual: bool,
) -> jax.Array:
    """`depth` times h ← f(dense(h)), f the activation, or as many residual blocks, of x.

    The blocks are h ← h + dense(f(dense(f(h)))), after one linear layer of x.

    Args:
        dense: applies the linear layer of a name, to the hidden width.

    Source of the blocks: He et al. 2016, figure 4e, as the nets of Durkan et al. 2019 have them.
    """
    function = activation_function(activation)
    if not residual:
        for layer in range(1, depth + 1):
            x = function(dense(x, f"dense{layer}"))
        return x
    h = dense(x, "dense")
    for block in range(1, depth + 1):
        y = dense(function(h), f"block{block}_dense1")
        h = h + dense(function(y), f"block{block}_dense2")
    return h
