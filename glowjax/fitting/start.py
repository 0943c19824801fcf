"""Where `fit` starts from: its randomness, the first parameters, and the units of the data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.checks import check_integer, require
from glowjax.densities.standardized import Standardized
from glowjax.fitting.programs import Programs
from glowjax.fitting.rows import Batch

INITIALISED = 1024  # examples at a time


def randomness(seed, key) -> tuple[int, jax.Array]:
    """A seed for NumPy's side and a key for JAX's, from either."""
    if key is None:
        seed = 0 if seed is None else seed
        check_integer("seed", seed, 0, 2**32 - 1)
        return seed, jax.random.key(seed)
    require(seed is None, "seed", seed, "None where key is given")
    wanted = "a JAX key, such as jax.random.key(0)"
    require(isinstance(key, jax.Array) and key.ndim <= 1, "key", key, wanted)
    return int(jax.random.bits(key, (), jnp.uint32)), key


def first_params(
    programs: Programs, params, key, train, batch_size, *, standardize
) -> tuple[Any, tuple[jax.Array, jax.Array] | None]:
    """What is trained at first, and the units that it is in, None for those of the data."""
    if isinstance(params, Standardized):
        return params.params, (params.location, params.scale)
    if params is not None:
        return params, None
    if train is None:
        return programs.init_from_base(key, batch_size), None
    return _initialised(programs, key, train.batch, standardize)


def _initialised(programs: Programs, key, batch, standardize):
    """`first_params` from data: in standardized units, unless the flow makes them itself.

    It does if its first gradient is the same either way.
    """
    first = _first(batch)
    params = programs.init(key, first.x, first.context)
    standardize = standardize and not programs.density.fixed_units
    if not (standardize and first.x.ndim == 2 and jnp.issubdtype(first.x.dtype, jnp.floating)):
        return params, None
    units = _units(batch)
    x = (first.x - units[0]) / units[1]
    standard = programs.init(key, x, first.context)
    if programs.same_start(params, first.x, standard, x, first.context, key):
        return params, None
    return standard, units


def _first(batch: Batch) -> Batch:
    """The examples that parameters are initialised on: drawn evenly by weight, if they have any."""
    n = min(len(batch.x), INITIALISED)
    if batch.weights is None:
        return jax.tree.map(lambda a: a[:n], batch)
    share = np.cumsum(batch.weights, dtype=float)
    index = np.searchsorted(share, (np.arange(n) + 0.5) / n * share[-1])
    return jax.tree.map(lambda a: a[index], batch)


def _units(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the columns, 1 for those that are constant."""
    x = np.asarray(batch.x, float)
    mean = np.average(x, axis=0, weights=batch.weights)
    deviation = np.sqrt(np.average(np.square(x - mean), axis=0, weights=batch.weights))
    varies = deviation > 4 * jnp.finfo(batch.x.dtype).eps * np.abs(mean)
    scale = np.where(varies, deviation, 1.0)
    return jnp.asarray(mean, batch.x.dtype), jnp.asarray(scale, batch.x.dtype)
