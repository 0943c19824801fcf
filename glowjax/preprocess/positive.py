"""Positive numbers: the exponential function, softplus and powers."""

import functools
import math

import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.checks import Interval, check_in, require
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.preprocess.support import bounded_exp, fixed, supported


def exp_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = ln x.

    Args:
        x: `[B, ...]`, positive and finite.

    Returns:
        `(z, log_det)`: log_det `[B]` = -Σ ln x, in nats; −inf where x is not in the support.
    """
    x = promote(x)
    inside = _positive(x)
    z = jnp.log(jnp.where(inside, x, 1.0))
    return z, supported(-sum_event(z), inside, x)


def exp_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x = e^z, neither 0 nor infinite; returns `(x, log_det)` as `exp_forward`."""
    z = promote(z)
    return bounded_exp(z), sum_event(z)


def softplus_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = ln(e^x - 1).

    Args:
        x: `[B, ...]`, positive and finite.

    Returns:
        `(z, log_det)`: log_det `[B]` = -Σ ln(1 - e^-x), in nats; −inf where x is not in the
        support.
    """
    x = promote(x)
    inside = _positive(x)
    within = jnp.where(inside, x, 1.0)
    log_slope = jnp.log(-jnp.expm1(-within))  # of the inverse
    return within + log_slope, supported(-sum_event(log_slope), inside, x)


def softplus_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x = ln(1 + e^z), neither 0 nor infinite; returns `(x, log_det)` as `softplus_forward`."""
    z = promote(z)
    limits = jnp.finfo(z.dtype)
    x = jnp.clip(jax.nn.softplus(z), limits.tiny, limits.max)
    return x, sum_event(jax.nn.log_sigmoid(z))


def power_forward(x: jax.Array, exponent: float) -> tuple[jax.Array, jax.Array]:
    """z = x^(1/p), p = exponent.

    Args:
        x: `[B, ...]`, positive and finite.
        exponent: p, not 0.

    Returns:
        `(z, log_det)`: z is positive; log_det `[B]` = Σ (1/p - 1)·ln x - ln|p|, in nats; −inf where
        x is not in the support.
    """
    x = promote(x)
    inside = _positive(x)
    log_x = jnp.log(jnp.where(inside, x, 1.0))
    log_slope = (1 / exponent - 1) * log_x - math.log(abs(exponent))
    return bounded_exp(log_x / exponent), supported(sum_event(log_slope), inside, x)


def power_inverse(z: jax.Array, exponent: float) -> tuple[jax.Array, jax.Array]:
    """x = z^p; returns `(x, log_det)` as `power_forward`, both NaN where z is not positive."""
    z = promote(z)
    log_z = jnp.where(_positive(z), jnp.log(jnp.where(_positive(z), z, 1.0)), jnp.nan)
    log_slope = (exponent - 1) * log_z + math.log(abs(exponent))
    return bounded_exp(exponent * log_z), sum_event(log_slope)


def _positive(x):
    return (x > 0) & (x < jnp.inf)


@recorded
def exp() -> Flow:
    """x = e^z: positive numbers, on the scale of their logarithms.

    Another unit of x only shifts z, so that it is the usual map of amounts, prices and sizes.
    Arrays are `[B, ...]`. x that is not positive has the density 0.
    """
    return fixed(exp_forward, exp_inverse)


@recorded
def softplus() -> Flow:
    """x = ln(1 + e^z): positive numbers; large ones stay as they are.

    Near 0 it is as `exp`, and far from 0 the identity, so it depends on the unit of x. Arrays are
    `[B, ...]`. x that is not positive has the density 0.
    """
    return fixed(softplus_forward, softplus_inverse)


@recorded
def power(exponent: float) -> Flow:
    """x = z^exponent, of positive x and positive z.

    z is positive, and a normal base is not: put a map of positive numbers after it, as
    `chain(power(3), softplus())`, for data whose large values are too far apart. Arrays are
    `[B, ...]`. x that is not positive has the density 0, and z that is not gives NaN.

    Raises:
        ValueError: the exponent is 0 or not finite.
    """
    check_in(Interval(-math.inf, math.inf), exponent=exponent)
    require(exponent != 0, "exponent", exponent, "a number other than 0")
    exponent = float(exponent)
    return fixed(
        functools.partial(power_forward, exponent=exponent),
        functools.partial(power_inverse, exponent=exponent),
    )
