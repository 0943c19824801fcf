"""Densities of arrays with any number of batch axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from glowjax.checks import check_array, check_positive, described

if TYPE_CHECKING:
    from glowjax.densities.density import Density


def over_any_batch(model: Density, event_shape: tuple[int, ...]) -> Density:
    """`model`, with `x: [*batch, *event]` for any batch, and `n` a shape of samples too.

    A context has the same batch axes first.
    """

    def log_prob(params, x, context=None, key=None):
        check_array("x", x)
        batch = jnp.shape(x)[: jnp.ndim(x) - len(event_shape)]
        if len(batch) == 1 or jnp.shape(x)[len(batch) :] != event_shape:
            return model.log_prob(params, x, context, key)
        x = jnp.reshape(x, (math.prod(batch), *event_shape))
        return model.log_prob(params, x, _flat(context, batch), key).reshape(batch)

    def sample(params, key, n, temperature=1.0, context=None):
        if not isinstance(n, tuple):
            return model.sample(params, key, n, temperature, context)
        x = model.sample(params, key, _count(n), temperature, _flat(context, n))
        return x.reshape(*n, *event_shape)

    def sample_and_log_prob(params, key, n, context=None):
        if not isinstance(n, tuple):
            return model.sample_and_log_prob(params, key, n, context)
        x, log_prob = model.sample_and_log_prob(params, key, _count(n), _flat(context, n))
        return x.reshape(*n, *event_shape), log_prob.reshape(n)

    return model._replace(log_prob=log_prob, sample=sample, sample_and_log_prob=sample_and_log_prob)


def _count(shape: tuple[int, ...]) -> int:
    for size in shape:
        check_positive(n=size)
    return math.prod(shape)


def _flat(context: Any, batch: tuple[int, ...]) -> Any:
    """A context of this batch, its batch axes made one."""

    def flat(leaf):
        if jnp.shape(leaf)[: len(batch)] != batch:
            raise ValueError(f"context must have the batch axes {batch}, got {described(context)}")
        return jnp.reshape(leaf, (math.prod(batch), *jnp.shape(leaf)[len(batch) :]))

    return jax.tree.map(flat, context)
