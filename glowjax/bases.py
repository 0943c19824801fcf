"""Base distributions of latents: what a flow turns data into."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event


class Base(NamedTuple):
    """A distribution of latents `z`, an array `[B, ...]` or a tuple of them.

        log_prob(params, z, context=None)                       -> [B], nats
        sample(params, key, like, temperature, context=None)    -> z of the shapes of `like`

    `init(key, z) -> params` is None where there is nothing to learn; then `params` is None too.
    """

    log_prob: Callable[..., jax.Array]
    sample: Callable[..., Any]
    init: Callable[..., Any] | None = None


def standard_normal() -> Base:
    """N(0, I) over all latents; temperature T samples N(0, T²·I)."""

    def log_prob(_, z, context=None):
        return _sum_leaves(lambda a: -0.5 * (jnp.square(a) + jnp.log(2 * jnp.pi)), z)

    def sample(_, key, like, temperature, context=None):
        return jax.tree.map(
            lambda k, a: temperature * jax.random.normal(k, a.shape, a.dtype),
            _key_tree(key, like),
            like,
        )

    return Base(log_prob, sample)


def distrax_base(distribution: Any) -> Base:
    """A fixed distrax distribution as a base; temperature scales samples around its mean.

    Raises:
        ValueError: `distribution` is none, or has a batch shape; z is not of its event shape.
    """
    if not hasattr(distribution, "batch_shape"):
        raise ValueError(f"base must be a Base or a distrax distribution, got {distribution!r}")
    if distribution.batch_shape:
        raise ValueError(
            f"base must have an empty batch shape, got {distribution.batch_shape}"
            " (distrax.Independent makes it an event shape)"
        )
    scalar = not distribution.event_shape

    def check(z):
        shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(z)]
        if not scalar and shapes != [tuple(distribution.event_shape)]:
            raise ValueError(
                f"base must have the event shape of z, {shapes}, got {distribution.event_shape}"
            )

    def log_prob(_, z, context=None):
        check(z)
        return _sum_leaves(distribution.log_prob, z) if scalar else distribution.log_prob(z)

    def sample(_, key, like, temperature, context=None):
        check(like)

        def draw(k, a):
            shape = a.shape if scalar else a.shape[:1]
            x = distribution.sample(seed=k, sample_shape=shape).astype(a.dtype)
            if isinstance(temperature, float | int) and temperature == 1:
                return x  # not every distribution has a mean
            mean = distribution.mean()
            return mean + temperature * (x - mean)

        return jax.tree.map(draw, _key_tree(key, like), like)

    return Base(log_prob, sample)


def _sum_leaves(log_prob, z):
    return sum(sum_event(promote(log_prob(a))) for a in jax.tree.leaves(z))


def _key_tree(key, tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(list(jax.random.split(key, len(leaves))))
