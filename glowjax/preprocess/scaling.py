"""Affine maps of fixed numbers, and those that standardize data."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import per_example, promote
from glowjax.checks import finite_numbers, require
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.preprocess.support import fixed


def fixed_affine_forward(
    x: jax.Array, shift: np.ndarray, scale: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """z = (x - shift) / scale.

    Args:
        x: `[B, ...]`.
        shift, scale: float64, of shapes that broadcast to an event of x; no scale is 0.

    Returns:
        `(z, log_det)`: log_det `[B]` = -Σ ln|scale| over an event, in nats.
    """
    x = promote(x)
    log_det = -_log_scale("x", x, shift, scale)
    return (x - jnp.asarray(shift, x.dtype)) / jnp.asarray(scale, x.dtype), log_det


def fixed_affine_inverse(
    z: jax.Array, shift: np.ndarray, scale: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """x = shift + scale·z; returns `(x, log_det)` as `fixed_affine_forward`."""
    z = promote(z)
    log_det = _log_scale("z", z, shift, scale)
    return jnp.asarray(shift, z.dtype) + jnp.asarray(scale, z.dtype) * z, log_det


def _log_scale(name, array, shift, scale):
    """Σ ln|scale| over an event, computed in float64, `[B]`."""
    event = array.shape[1:]
    for numbers in (shift, scale):
        fits = numbers.ndim <= len(event) and all(
            n in (1, size) for n, size in zip(numbers.shape[::-1], event[::-1], strict=False)
        )
        wanted = f"events of the shape of shift and scale, {shift.shape} and {scale.shape}"
        require(fits, name, f"shape {array.shape}", wanted)
    total = np.sum(np.broadcast_to(np.log(np.abs(scale)), event))
    return per_example(jnp.asarray(total, array.dtype), array)


@recorded
def fixed_affine(shift: Any = 0.0, scale: Any = 1.0) -> Flow:
    """x = shift + scale·z, of numbers that are given and not learned.

    With it supports can be moved: `chain(fixed_affine(shift=18.0), exp())` is of numbers above 18,
    and `chain(fixed_affine(scale=-1.0), exp())` of negative ones. Arrays are `[B, ...]`.

    Args:
        shift, scale: numbers, or arrays that broadcast to an event, such as one number a column.

    Raises:
        ValueError: they are not finite numbers; a scale is 0; they do not broadcast to an event.
    """
    shift, scale = _numbers("shift", shift), _numbers("scale", scale)
    require(np.all(scale != 0), "scale", scale, "numbers other than 0")
    numbers = {"shift": shift, "scale": scale}
    return fixed(
        functools.partial(fixed_affine_forward, **numbers),
        functools.partial(fixed_affine_inverse, **numbers),
    )


def _numbers(name, values):
    try:
        numbers = np.asarray(values, float)
    except (TypeError, ValueError):  # text, a traced array, lists of several lengths
        numbers = np.asarray(np.nan)
    wanted = "a finite number or an array of them, known outside of jit"
    require(numbers.size and np.all(np.isfinite(numbers)), name, values, wanted)
    return numbers


def standardized(data: Any) -> Flow:
    """x = mean + deviation·z, of these data: then z has the mean 0 and the deviation 1.

    The statistics are computed once, in float64 on the host, and are then a part of the flow, a
    `fixed_affine`: it prints and pickles with them. A channel, of the last axis, that is constant
    but for rounding keeps the scale 1. This is of use after a map from a support, as in

        supports = preprocess.columns(preprocess.exp(), preprocess.sigmoid(0, 1))
        z, _ = supports.forward(supports.init(key, x), x)
        flow = glowjax.chain(supports, preprocess.standardized(z), glowjax.realnvp_mlp())

    `ActNorm` does the same from the first batch, and goes on learning. `glowjax.Standardized` is
    not a flow: `fit` returns it as parameters, of a density that had no map of fixed units.

    Args:
        data: `[N, ..., C]`, of NumPy or JAX, or a table of pandas, polars or arrow.

    Raises:
        ValueError: the data are not finite numbers of such a shape.
    """
    x = finite_numbers("data", data)
    require(x.ndim > 1 and x.size, "data", f"shape {x.shape}", "of shape [N, ..., C], not empty")
    rounding = float(jnp.finfo(x.dtype if x.dtype.kind == "f" else float).eps)
    values = x.astype(np.float64).reshape(-1, x.shape[-1])
    offsets = values - values[0]  # exactly 0 where all are alike, which a mean's rounding is not
    mean = values[0] + offsets.mean(axis=0)
    deviation = offsets.std(axis=0)
    varies = deviation > 4 * rounding * np.abs(mean)
    return fixed_affine(shift=mean, scale=np.where(varies, deviation, 1.0))
