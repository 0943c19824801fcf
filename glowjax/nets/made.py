"""MADE: a masked net of vectors, each of whose outputs sees the inputs before it alone."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, taken
from glowjax.checks import check_context, check_integer, check_positive, require
from glowjax.nets.activations import Activation
from glowjax.nets.angles import angular, seen
from glowjax.nets.conv import matmul
from glowjax.nets.in_turn import Number, solve_in_turn
from glowjax.nets.layers import (
    LOG_SCALE_FACTOR,
    Initializer,
    ZeroDense,
    masked,
    scaled_bias,
    small_uniform,
)
from glowjax.nets.mlp import hidden_layers

Order = Literal["natural", "reversed"] | int


class MADE(nn.Module):
    """Conditioner of vectors, `[B, D] -> [B, D, features]`: output i sees the inputs before i.

    Every unit has a degree, how many inputs it may know, and reads units of no higher degree:
    input number k of the order has degree k, its outputs k - 1, a context 0, and the hidden units'
    are spread evenly. `depth` masked layers; then a masked zero layer of hidden units and
    inputs together (the paper's direct connections), so that every output depends on all it may
    see, however small `width` is. With D = 1 the outputs depend on the context alone.

    Attributes:
        features: outputs per input.
        width, depth: of the hidden layers.
        order: `"natural"`, `"reversed"`, or the seed of a fixed random order.
        activation, residual, kernel_init: of the hidden layers, see `MLP`.
        angles: inputs that are angles in radians: the net sees their cosine and sine.

    A float `context` of `[B, F]` is seen by every output.

    Raises:
        ValueError: an attribute is not as above; x or context are of another rank or batch.

    Source: Germain et al. 2015, section 4.
    """

    features: int
    width: int = 64
    depth: int = 2
    order: Order = "natural"
    activation: Activation = "relu"
    residual: bool = False
    angles: tuple[int, ...] = ()
    kernel_init: Initializer = small_uniform

    @nn.nowrap
    def ordering(self, event_shape: tuple[int, ...]) -> np.ndarray:
        """`[D]`: the inputs in the order in which each depends on those before it."""
        require(len(event_shape) == 1, "x", event_shape, "of shape [B, D], its events of (D,)")
        (size,) = event_shape
        if self.order in ("natural", "reversed"):
            return np.arange(size)[:: 1 if self.order == "natural" else -1]
        wanted = "'natural', 'reversed' or a seed of at least 0"
        require(is_seed(self.order), "order", self.order, wanted)
        # RandomState: its stream is frozen, so weights trained today fit tomorrow's NumPy.
        return np.random.RandomState(self.order).permutation(size)

    @nn.nowrap
    def in_turn(self, params: Any, number: Number, zeros: jax.Array, context=None) -> jax.Array:
        """x `[B, D]` of x_i = number(net(x)_i, i), for about one evaluation of the net.

        Args:
            params: of the net.
            number: from outputs `[B, features]` and i to `[B]`.
            zeros: `[B, D]`, in the dtype of x.
            context: as for the net.
        """
        order = self.ordering(zeros.shape[1:])
        if len(order) == 1:
            raw = jnp.asarray(self.apply({"params": params}, zeros, context))
            return number(raw[:, 0], jnp.array(0))[:, None]
        inputs, degrees = self._inputs(zeros, order, context)
        hidden = self._hidden(degrees, len(order))
        names = [name for name in params if name != "out"]
        names.sort(key=lambda name: name not in ("dense", "dense1"))  # that of the inputs first
        layers = {
            name: (masked(params[name]["weight"], mask(known, hidden)), params[name]["bias"])
            for name, known in zip(names, [degrees, *[hidden] * len(names)], strict=False)
        }
        x = solve_in_turn(
            lambda raw, k: number(raw, jnp.asarray(order)[k]),
            inputs,
            layers,
            self._outputs(params["out"], hidden, degrees),
            self._hidden_layers if self.depth else None,
            hidden,
            self._angles(order),
        )
        return taken(x.T, np.argsort(order), axis=1)

    @nn.compact
    def __call__(self, x, context=None):
        check_positive(features=self.features, width=self.width)
        check_integer("depth", self.depth, 0)
        check_context(context, x)
        order = self.ordering(x.shape[1:])
        x = promote(x)
        inputs, degrees = self._inputs(x, order, context)
        outputs = np.repeat(np.arange(len(order)), self.features)
        if len(degrees) == 0:
            h = scaled_bias(self, jnp.zeros((x.shape[0], len(outputs)), x.dtype))
        else:
            h = self._layers(inputs, degrees, outputs)
        return taken(h.reshape(*x.shape, self.features), np.argsort(order), axis=1)

    @nn.nowrap
    def _inputs(self, x, order, context):
        """What the net sees, and its degrees."""
        # In the stated order; the last input, which no output may see, is left out.
        angles = self._angles(order)
        inputs = seen(taken(x, order[:-1], axis=1), angles)
        degrees = np.repeat(np.arange(1, len(order)), 1 + angles)
        if context is None:
            return inputs, degrees
        inputs = jnp.concatenate([inputs, context], axis=-1)
        return inputs, np.append(degrees, np.zeros(jnp.shape(context)[-1], int))

    @nn.nowrap
    def _angles(self, order):
        """Which of the inputs that outputs may see are angles, in the stated order."""
        return angular("angles", self.angles, len(order))[order[:-1]]

    @nn.nowrap
    def _hidden(self, degrees, size):
        """The degrees of the hidden units."""
        return degrees.min() + spread(self.width, size - degrees.min())

    @nn.nowrap
    def _outputs(self, out, hidden, degrees):
        """What `solve_in_turn` wants of the last layer."""
        known = np.append(hidden, degrees) if self.depth else degrees
        weight = out["weight"].reshape(len(known), -1, self.features)
        weight = masked(weight, mask(known, np.arange(weight.shape[1]))[..., None])
        of_hidden, of_inputs = jnp.split(weight, [len(known) - len(degrees)])
        scale = jnp.exp(LOG_SCALE_FACTOR * out["log_scale"])
        return of_hidden, of_inputs, jnp.stack([out["bias"], scale]).reshape(2, *weight.shape[1:])

    @nn.nowrap
    def _hidden_layers(self, dense, x: Any = None):
        return hidden_layers(dense, x, self.depth, self.activation, residual=self.residual)

    def _layers(self, inputs, degrees, outputs):
        hidden = self._hidden(degrees, outputs.max() + 1)

        def dense(h, name):
            known = degrees if h is inputs else hidden
            return MaskedDense(self.kernel_init, name=name)(h, mask(known, hidden))

        h, known = inputs, degrees
        if self.depth:
            h = self._hidden_layers(dense, h)
            h, known = jnp.concatenate([h, inputs], axis=-1), np.append(hidden, degrees)
        return ZeroDense(len(outputs), name="out")(h, mask(known, outputs))


class MaskedDense(nn.Module):
    """x·(W∘mask) + bias, `[..., N] -> [..., M]` for a mask `[N, M]`."""

    kernel_init: Initializer = small_uniform

    @nn.compact
    def __call__(self, x, mask):
        weight = self.param("weight", self.kernel_init, mask.shape, promote(x).dtype)
        bias = self.param("bias", nn.initializers.zeros, mask.shape[1:], weight.dtype)
        return matmul(x, masked(weight, mask)) + bias


def is_seed(value: Any) -> bool:
    """Whether `value` is a whole number of at least 0."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0


def mask(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Which units of degrees `inputs` those of degrees `outputs` may read: `[N, M]`, booleans."""
    return inputs[:, None] <= outputs


def spread(width: int, degrees: int) -> np.ndarray:
    """`[width]`: 0 … degrees - 1 in equal shares."""
    return np.arange(width) * degrees // width
