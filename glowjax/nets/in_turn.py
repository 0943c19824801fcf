"""Masked nets whose inputs become known one after the other, for about the price of one pass."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.arrays import HIGHEST, vary_as
from glowjax.nets.angles import cosine_and_sine, kept

Number = Callable[[jax.Array, jax.Array], jax.Array]
Dense = Callable[[Any, str], jax.Array]


def solve_in_turn(
    number: Number,
    inputs: jax.Array,
    layers: dict[str, tuple[jax.Array, jax.Array]],
    outputs: tuple[jax.Array, jax.Array, jax.Array],
    hidden_layers: Callable[[Dense], jax.Array] | None,
    degrees: np.ndarray,
    angles: np.ndarray,
) -> jax.Array:
    """x `[D, B]`, with x_k = number(net(x)_k, k), for a net of masked layers.

    A hidden unit is computed once: as soon as all the numbers that it may see are known.

    Args:
        number: from outputs `[B, features]` and k to `[B]`.
        inputs: `[B, N + F]`, places for what is seen of all numbers but the last, and a context.
        layers: weight, masked, and bias of each hidden layer; the first is that of the inputs.
        outputs: weights of the hidden units and of the inputs, masked, `[…, D, features]`, and what
            makes raw outputs of their sum, `(bias, scale)`, `[2, D, features]`.
        hidden_layers: the last hidden layer from a function that applies a layer to what has become
            known; None: there is none.
        degrees: `[width]`, increasing: how many numbers a hidden unit sees. Where there is a
            context some are 0.
        angles: `[D - 1]`, the numbers of which the net sees cosine and sine.
    """
    of_hidden, of_inputs, (bias, scale) = outputs
    size, width = bias.shape[0], len(degrees)
    many = np.bincount(degrees).max()  # units that become known at once, at most
    starts = np.minimum(np.searchsorted(degrees, np.arange(size)), width - many)
    first = next(iter(layers), None)
    inputs, rows = inputs.T, 1  # columns are rows here, for rows are what is put in place
    if np.any(angles):  # each number has two rows, so that all are put in place alike
        rows, spaced = 2, functools.partial(_spaced, angles)
        inputs, of_inputs = spaced(inputs), spaced(of_inputs)
        if first is not None:
            layers = layers | {first: (spaced(layers[first][0]), layers[first][1])}
    places = {name: jnp.zeros((width, inputs.shape[1]), inputs.dtype) for name in [*layers, "out"]}
    places.pop(first, None)

    def step(known, k):
        inputs, seen = known
        seen, start = dict(seen), jnp.asarray(starts)[k]

        def dense(new, name):
            if name != first:
                seen[name] = _put(seen[name], new, start)
            weight, bias = (_some(part, start, many) for part in layers[name])
            return _product(inputs if name == first else seen[name], weight) + bias[:, None]

        raw = _product(inputs, of_inputs[:, k])
        if hidden_layers is not None:
            seen["out"] = _put(seen["out"], hidden_layers(dense), start)
            raw += _product(seen["out"], of_hidden[:, k])
        inputs, x = solved(inputs, raw, k)
        return (inputs, seen), x

    def solved(inputs, raw, k):
        x = number((raw.T + bias[k]) * scale[k], jnp.asarray(k))
        place = jnp.minimum(k, size - 2)  # nothing sees the last number, wherever it is put
        new = x[None] if rows == 1 else cosine_and_sine(x, jnp.asarray(angles)[place]).T
        return _put(inputs, new, rows * place), x

    seen = vary_as(places, inputs)
    if degrees.min() == 0:  # a context is known from the start
        return lax.scan(step, (inputs, seen), jnp.arange(size))[1]
    nothing = jnp.zeros_like(inputs, shape=(bias.shape[1], inputs.shape[1]))
    inputs, x = solved(inputs, nothing, 0)
    return jnp.concatenate([x[None], lax.scan(step, (inputs, seen), jnp.arange(1, size))[1]])


def _spaced(angles, rows):
    """Rows, such as those of inputs, with two for each number; what follows the numbers stays."""
    known = kept(angles)
    more = len(rows) - len(known)
    at = np.append(known, 2 * len(angles) + np.arange(more))
    return jnp.zeros((2 * len(angles) + more, *rows.shape[1:]), rows.dtype).at[at].set(rows)


def _put(x, rows, start):
    return lax.dynamic_update_slice_in_dim(x, rows, start, axis=0)


def _some(x, start, count):
    return lax.dynamic_slice_in_dim(x, start, count, axis=-1)


def _product(x, weight):
    return lax.dot(weight.T.astype(x.dtype), x, precision=HIGHEST)
