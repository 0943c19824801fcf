"""Densities of data in any units: parameters that carry the data's location and scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from glowjax.arrays import promote

if TYPE_CHECKING:
    from glowjax.densities.density import Density


class Standardized(NamedTuple):
    """Parameters of a density of u = (x - location) / scale, for use on x itself.

    All functions of a `Density` but `init` take them in place of its own:
    log p(x) = log p(u) - Σ ln scale. `fit` returns them for flows that do not start with an
    `ActNorm`, so that the same data in other units train to the same density.

    Attributes:
        location, scale: `[D]`, of the data.
        params: the density's own, of u.
    """

    location: jax.Array
    scale: jax.Array
    params: Any


def taking_standardized(model: Density) -> Density:
    """`model`, whose functions take `Standardized` parameters too."""

    def encode_and_log_prob(params, x, context=None, key=None):
        if not isinstance(params, Standardized):
            return model.encode_and_log_prob(params, x, context, key)
        u = standard(params, x)
        z, log_prob = model.encode_and_log_prob(params.params, u, context, key)
        return z, log_prob - _log_scale(params)

    def log_prob(params, x, context=None, key=None):
        return encode_and_log_prob(params, x, context, key)[1]

    def sample(params, key, n, temperature=1.0, context=None):
        if not isinstance(params, Standardized):
            return model.sample(params, key, n, temperature, context)
        return _original(params, model.sample(params.params, key, n, temperature, context))

    def sample_and_log_prob(params, key, n, context=None):
        if not isinstance(params, Standardized):
            return model.sample_and_log_prob(params, key, n, context)
        u, log_prob = model.sample_and_log_prob(params.params, key, n, context)
        return _original(params, u), log_prob - _log_scale(params)

    def encode(params, x, context=None):
        if not isinstance(params, Standardized):
            return model.encode(params, x, context)
        return model.encode(params.params, standard(params, x), context)

    def decode(params, z, context=None):
        if not isinstance(params, Standardized):
            return model.decode(params, z, context)
        return _original(params, model.decode(params.params, z, context))

    return model._replace(
        log_prob=log_prob,
        sample=sample,
        sample_and_log_prob=sample_and_log_prob,
        encode=encode,
        encode_and_log_prob=encode_and_log_prob,
        decode=decode,
    )


def standard(params: Standardized, x: Any) -> jax.Array:
    """u = (x - location) / scale."""
    return (promote(x) - params.location) / params.scale


def _original(params: Standardized, u):
    return params.location + params.scale * u


def _log_scale(params: Standardized):
    return jnp.sum(jnp.log(params.scale))
