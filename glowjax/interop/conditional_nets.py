"""The nets of nflows and normflows that see a context: as they compute it, and their weights.

Nets without one become `MLP` and `MADE`; these have ways of their own to let a context in.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import HIGHEST, promote
from glowjax.checks import check_context, require
from glowjax.interop.parts import Dense, Masked, Net, kernel, layer_names
from glowjax.nets.activations import Activation, activation_function
from glowjax.nets.made import MaskedDense, mask


class GatedResidualMLP(nn.Module):
    """h = dense([x, context]), then h ← h + y·σ(gate(context)), y = dense(f(dense(f(h)))).

    `[B, D] -> [B, features]`, for a float context `[B, F]`; `depth` blocks, and a last dense layer.
    Source: `ResidualNet` of nflows 0.14; Durkan et al. 2019, section 4.
    """

    features: int
    width: int
    depth: int
    activation: Activation

    @nn.compact
    def __call__(self, x, context):
        check_seen(context, x)
        function = activation_function(self.activation)
        h = _dense(self.width, "dense")(jnp.concatenate([promote(x), context], axis=-1))
        for block in range(1, self.depth + 1):
            y = _dense(self.width, f"block{block}_dense1")(function(h))
            y = _dense(self.width, f"block{block}_dense2")(function(y))
            h = h + y * jax.nn.sigmoid(_dense(self.width, f"block{block}_context")(context))
        return _dense(self.features, "out")(h)


class ContextMADE(nn.Module):
    """A masked net, `[B, D] -> [B, D, features]`, whose layers add or are gated by a context.

    Its first layer is dense(x) + context, or dense(x) + f(context), each context through a dense
    layer of its own. Blocks are dense layers, or residual ones: y = dense(f(dense(f(h)))), to which
    a context is added within, or whose gate it is.

    Attributes:
        degrees: of the units of each layer: how many inputs each may know.
        first: whether f is applied to the context in the first layer.
        blocks: plain ones see no context.

    Sources: `MADE` of nflows 0.14 (`"activated"`, `"added"`), and of normflows 1.7 (`"linear"`,
    `"gated"`); Germain et al. 2015.
    """

    features: int
    degrees: tuple[tuple[int, ...], ...]
    activation: Activation
    first: Literal["activated", "linear"]
    blocks: Literal["plain", "added", "gated"]

    @nn.nowrap
    def ordering(self, event_shape: tuple[int, ...]) -> np.ndarray:
        """`[D]`: each input depends on those before it."""
        return np.arange(event_shape[0])

    @nn.compact
    def __call__(self, x, context):
        check_seen(context, x)
        x, function = promote(x), activation_function(self.activation)
        size, known = x.shape[1], np.arange(1, x.shape[1] + 1)
        residual = self.blocks != "plain"
        layers = zip(layer_names(len(self.degrees), residual=residual), self.degrees, strict=True)

        def masked(h):
            nonlocal known
            name, degrees = next(layers)
            before, known = known, np.array(degrees)
            return MaskedDense(name=name)(h, mask(before, known))

        def seen(name):
            return _dense(len(known), name)(context)

        h = masked(x)
        h = h + (function(seen("context")) if self.first == "activated" else seen("context"))
        if not residual:
            h = function(h)
            for _ in self.degrees[1:]:
                h = function(masked(h))
        for block in range(1, (len(self.degrees) + 1) // 2 if residual else 1):
            y, context_name = masked(function(h)), f"block{block}_context"
            if self.blocks == "added":
                y = masked(function(y + seen(context_name)))
            else:
                y = masked(function(y)) * jax.nn.sigmoid(seen(context_name))
            h = h + y
        outputs = np.repeat(np.arange(size), self.features)
        return MaskedDense(name="out")(h, mask(known, outputs)).reshape(*x.shape, self.features)


def gated_residual_mlp(
    first: Dense,
    blocks: Sequence[Sequence[Dense]],
    gates: Sequence[Dense],
    out: Dense,
    activation: Activation,
) -> Net:
    """A `GatedResidualMLP` of dense layers."""
    params = {"dense": kernel(first), "out": kernel(out)}
    for number, (block, gate) in enumerate(zip(blocks, gates, strict=True), 1):
        for half, layer in enumerate(block, 1):
            params[f"block{number}_dense{half}"] = kernel(layer)
        params[f"block{number}_context"] = kernel(gate)
    make = functools.partial(
        GatedResidualMLP, width=len(first.bias), depth=len(blocks), activation=activation
    )
    return Net(make, params)


def context_made(
    hidden: Sequence[Masked],
    contexts: Sequence[Dense],
    out: Dense,
    activation: Activation,
    library: Literal["nflows", "normflows"],
) -> Net:
    """A `ContextMADE` of masked layers, as one of the libraries computes it.

    Args:
        hidden: layers in order, of which the first sees the inputs; of residual blocks two each.
        contexts: of the first layer, and of each residual block; of the first alone if they are
            plain.
        out: to `[D·features]`, those of an input side by side.
    """
    residual = len(contexts) > 1
    params = {"context": kernel(contexts[0]), "out": out._asdict()}
    for number, context in enumerate(contexts[1:], 1):
        params[f"block{number}_context"] = kernel(context)
    for name, layer in zip(layer_names(len(hidden), residual=residual), hidden, strict=True):
        params[name] = layer.dense._asdict()
    first, blocks = ("activated", "added") if library == "nflows" else ("linear", "gated")
    make = functools.partial(
        ContextMADE,
        degrees=tuple(tuple(layer.degrees.tolist()) for layer in hidden),
        activation=activation,
        first=first,
        blocks=blocks if residual else "plain",
    )
    return Net(make, params)


def check_seen(context: Any, x: jax.Array) -> None:
    """Raises `ValueError` unless there is a context, floats `[B, F]`."""
    require(context is not None, "context", None, f"floats of shape ({x.shape[0]}, F)")
    check_context(context, x)


def _dense(features, name):
    return nn.Dense(features, precision=HIGHEST, name=name)
