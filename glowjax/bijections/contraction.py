"""Nets whose Lipschitz constant is bounded: what residual flows add to the identity."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST, AnyArray
from glowjax.bijections.linear.linalg import spectral_norm
from glowjax.checks import check_choice, check_context, require

Activation = Literal["lipswish", "clipswish", "sine"]
STEEPEST = 1.004  # of (lipswish(x), lipswish(-x)), rounded up: Perugachi-Diaz et al., appendix


def lipswish(x: Float[AnyArray, "*shape"], slope: Float[AnyArray, ""]) -> Float[Array, "*shape"]:
    """x·σ(softplus(slope)·x) / 1.1: smooth, with |derivative| <= 1 whatever the slope.

    Where its first derivative is near 1 its second is not 0, so that log-determinants of a net at
    its Lipschitz bound still have gradients.

    Args:
        x: `[...]`.
        slope: `[]`.

    Source: Chen et al. 2019, section 3.3.
    """
    return x * jax.nn.sigmoid(jax.nn.softplus(slope) * x) / 1.1


def _clipswish(x, slope):
    """(lipswish(x), lipswish(-x)) / 1.004, side by side."""
    return jnp.concatenate([lipswish(x, slope), lipswish(-x, slope)], axis=-1) / STEEPEST


def _sine(x, slope):
    """sin(s·x)/s with s = softplus(slope)."""
    frequency = jax.nn.softplus(slope)
    return jnp.sin(frequency * x) / frequency


class _Kind(NamedTuple):
    function: Callable[[jax.Array, jax.Array], jax.Array]
    outputs: int  # for each input


ACTIVATIONS = {
    "lipswish": _Kind(lipswish, 1),
    "clipswish": _Kind(_clipswish, 2),
    "sine": _Kind(_sine, 1),
}


def limit_spectral_norm(weight: Float[Array, "m n"], bound: float) -> Float[Array, "m n"]:
    """weight / max(1, ‖weight‖₂ / bound): scaled only where its largest singular value is above.

    The norm is that of the singular value decomposition: exact, differentiated, O(n³) for n×n.
    Source: Behrmann et al. 2019, section 2.1, with the exact norm in place of an estimate.
    """
    return weight / jnp.maximum(1, spectral_norm(weight) / bound)


class Contraction(NamedTuple):
    """The weights of `contraction`, limited."""

    weights: tuple[Float[Array, "inputs outputs"], ...]
    biases: tuple[Float[Array, "outputs"], ...]
    slopes: tuple[Float[Array, ""], ...]  # of the activations, one a hidden layer
    context: Float[Array, "F width"] | None  # not limited, as it moves x by nothing
    shares: tuple[Float[Array, ""], ...] = ()  # of a dense net, one a hidden layer


def contraction(
    x: Float[Array, "B D"],
    net: Contraction,
    context: Float[Array, "B F"] | None = None,
    *,
    activation: Activation = "lipswish",
) -> Float[Array, "B D"]:
    """A net `x: [B, D] -> [B, D]`, whose Lipschitz constant in x is at most Π‖W‖₂ over its layers.

    A hidden layer is h ← φ(h·W + b). Of a net with shares r, a dense one, it is

        h ← (√σ(r)·h, √(1 - σ(r))·φ(h·W + b))

    side by side, and counts max(1, ‖W‖₂) in that product, for every r. The last layer has no
    activation, and nothing appended.

    Args:
        context: `[B, F]`; its features are appended to the input of the first layer.
        activation: φ, with s = softplus(slope). `"lipswish"`: x·σ(s·x) / 1.1. `"clipswish"`:
            (lipswish(x), lipswish(-x)) / 1.004, two outputs for each input, whose squared slopes
            add up to 1 at most. `"sine"`: sin(s·x) / s.

    Raises:
        ValueError: x is not of the net's D, or context not of its F, or given or left out wrongly;
            an activation there is not.

    Sources: Chen et al. 2019, section 3.3; Perugachi-Diaz et al. 2021, sections 3.1 and 3.2, for
    the dense net and CLipSwish.
    """
    check_choice("activation", activation, ACTIVATIONS)
    size = net.weights[0].shape[0]
    require(jnp.shape(x)[1:] == (size,), "x", jnp.shape(x), f"of shape [B, {size}]")
    first = net.biases[0]
    check_context(context, x)
    given = None if context is None else jnp.shape(context)
    if net.context is None:
        require(given is None, "context", given, "None, as at initialisation")
    else:
        features = net.context.shape[0]
        require(given == (x.shape[0], features), "context", given, f"of shape [B, {features}]")
        first = first + jnp.matmul(jnp.asarray(context, x.dtype), net.context, precision=HIGHEST)
    h = x
    for i, slope in enumerate(net.slopes):
        shift = net.biases[i] if i else first
        new = ACTIVATIONS[activation].function(_linear(h, net.weights[i]) + shift, slope)
        if net.shares:
            kept, added = (jnp.sqrt(jax.nn.sigmoid(s)) for s in (net.shares[i], -net.shares[i]))
            new = jnp.concatenate([kept * h, added * new], axis=-1)
        h = new
    return _linear(h, net.weights[-1]) + net.biases[-1]


def _linear(h, weight):
    return jnp.matmul(h, weight, precision=HIGHEST)
