"""Numbers between two ends: the logistic function and the hyperbolic tangent."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, sum_event
from glowjax.checks import Interval, check_in, require
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.preprocess.support import fixed, just_inside, supported


def sigmoid_forward(x: jax.Array, low: float, high: float) -> tuple[jax.Array, jax.Array]:
    """z = ln(x - low) - ln(high - x).

    Args:
        x: `[B, ...]`, in (low, high).
        low, high: the ends, low < high.

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ ln(high - low) - ln(x - low) - ln(high - x), in nats; −inf
        where x is not in the support.
    """
    x = promote(x)
    inside = (x > low) & (x < high)
    within = jnp.where(inside, x, 0.5 * low + 0.5 * high)
    below, above = jnp.log(within - low), jnp.log(high - within)
    log_det = sum_event(math.log(high - low) - below - above)
    return below - above, supported(log_det, inside, x)


def sigmoid_inverse(z: jax.Array, low: float, high: float) -> tuple[jax.Array, jax.Array]:
    """x = low + (high - low)·σ(z), strictly between; returns `(x, log_det)` as `sigmoid_forward`.

    It is computed from the nearer end, where floats lie closest if the end is 0.
    """
    z = promote(z)
    width = high - low
    x = jnp.where(z < 0, low + width * jax.nn.sigmoid(z), high - width * jax.nn.sigmoid(-z))
    log_slope = math.log(width) + jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z)
    return _between(x, low, high), sum_event(log_slope)


def tanh_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = artanh x.

    Args:
        x: `[B, ...]`, in (-1, 1).

    Returns:
        `(z, log_det)`: log_det `[B]` = -Σ ln(1 - x²), in nats; −inf where x is not in the support.
    """
    x = promote(x)
    inside = (x > -1) & (x < 1)
    within = jnp.where(inside, x, 0.0)
    above, below = jnp.log1p(within), jnp.log1p(-within)
    return (above - below) / 2, supported(-sum_event(above + below), inside, x)


def tanh_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x = tanh z, strictly between -1 and 1; returns `(x, log_det)` as `tanh_forward`."""
    z = promote(z)
    log_slope = 2 * math.log(2) + jax.nn.log_sigmoid(2 * z) + jax.nn.log_sigmoid(-2 * z)
    return _between(jnp.tanh(z), -1.0, 1.0), sum_event(log_slope)


def _between(x, low, high):
    return jnp.clip(x, just_inside(low, high, x.dtype), just_inside(high, low, x.dtype))


@recorded
def sigmoid(low: float = 0.0, high: float = 1.0) -> Flow:
    """x = low + (high - low)·σ(z), σ(z) = 1/(1 + e^-z): numbers in (low, high), such as shares.

    Arrays are `[B, ...]`. x that is not in between has the density 0; neither has an end any: if
    your data have values there, widen the interval.

    Args:
        low, high: the ends.

    Raises:
        ValueError: an end is not finite, or low is not below high; no float lies in between.
    """
    check_in(Interval(-math.inf, math.inf), high=high)
    check_in(Interval(-math.inf, high), low=low)
    ends = {"low": float(low), "high": float(high)}
    first, last = np.asarray([low, high], jnp.result_type(float))
    wanted = f"below high={high}, with numbers of {first.dtype} in between"
    require(np.nextafter(first, last) < last, "low", low, wanted)
    return fixed(
        functools.partial(sigmoid_forward, **ends), functools.partial(sigmoid_inverse, **ends)
    )


@recorded
def tanh() -> Flow:
    """x = tanh z: numbers in (-1, 1), such as correlations, on the scale of Fisher's z.

    It is `sigmoid(-1, 1)` of 2z. Arrays are `[B, ...]`. x that is not in between has the density 0.
    """
    return fixed(tanh_forward, tanh_inverse)
