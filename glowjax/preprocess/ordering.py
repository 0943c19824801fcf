"""Vectors of increasing numbers."""

import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.preprocess.support import bounded_exp, fixed, supported


def ordered_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z_1 = x_1, and z_k = ln(x_k - x_(k-1)).

    Args:
        x: `[B, ..., K]`, increasing along the last axis.

    Returns:
        `(z, log_det)`: log_det `[B]` = -Σ ln(x_k - x_(k-1)), in nats; −inf where x does not
        increase.
    """
    x = promote(x)
    gaps = x[..., 1:] - x[..., :-1]
    inside = (gaps > 0) & (gaps < jnp.inf)
    log_gaps = jnp.log(jnp.where(inside, gaps, 1.0))
    z = jnp.concatenate([x[..., :1], log_gaps], axis=-1)
    return z, supported(-sum_event(log_gaps), inside, x)


def ordered_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x_1 = z_1, x_k = x_(k-1) + e^z_k, increasing strictly; returns `(x, log_det)` as forward."""
    z = promote(z)
    gaps = bounded_exp(z[..., 1:])

    def step(before, gap):
        following = jnp.nextafter(jax.lax.stop_gradient(before), jnp.inf)
        x = jnp.maximum(before + gap, following)  # a small gap may drown in rounding
        return x, x

    _, rest = jax.lax.scan(step, z[..., 0], jnp.moveaxis(gaps, -1, 0))
    x = jnp.concatenate([z[..., :1], jnp.moveaxis(rest, 0, -1)], axis=-1)
    return x, sum_event(z[..., 1:])


@recorded
def ordered() -> Flow:
    """x_1 = z_1, x_k = x_(k-1) + e^z_k: vectors whose numbers increase, such as ends of intervals.

    Arrays are `[B, ..., K]`. x that does not increase has the density 0. Source: Stan Reference
    Manual, section "Ordered vector".
    """
    return fixed(ordered_forward, ordered_inverse)
