"""Activations of nets, by name or as functions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from glowjax.checks import require

Activation = str | Callable[[jax.Array], jax.Array]
ACTIVATIONS = {
    "elu": jax.nn.elu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


# A gradient keeps their input and computes them again: to keep what they compute takes longer.
_RECOMPUTED = {
    name: jax.checkpoint(function, prevent_cse=False) for name, function in ACTIVATIONS.items()
}


def activation_function(activation: Activation) -> Callable[[jax.Array], jax.Array]:
    """The function of a name, or a function as it is.

    Raises:
        ValueError: it is no function, and none of the names above.
    """
    if not isinstance(activation, str) and callable(activation):
        return activation
    names = ", ".join(map(repr, ACTIVATIONS))
    require(activation in ACTIVATIONS, "activation", activation, f"a function, or one of {names}")
    return _RECOMPUTED[activation]


def leaky_relu(x: jax.Array, slope: float) -> jax.Array:
    """x where it is positive, and slope·x elsewhere; a partial of it can be pickled."""
    return jax.nn.leaky_relu(x, slope)
