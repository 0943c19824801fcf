"""Where a fit starts from: its randomness, the first parameters, and the units of the data."""

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
    if train is None or train.batch.x is None:
        return _from_base(programs, key, train, batch_size), None
    return _initialised(programs, key, train.batch, standardize)


def first_params_of_many(
    programs: Programs, keys: jax.Array, trains: list, batch_size, *, standardize
) -> tuple[Any, tuple[jax.Array, jax.Array] | None]:
    """`first_params` of several fits at once, with a leading axis.

    What is trained in the units of its data has location 0 and scale 1 if others have their own.
    """
    if trains[0] is None or trains[0].batch.x is None:
        starts = [_from_base(programs, *one, batch_size) for one in zip(keys, trains, strict=True)]
        return stacked(starts), None
    batches = [train.batch for train in trains]
    first = stacked([_first(batch) for batch in batches])
    params = programs.init_many(keys, first.x, first.context)
    if not (standardize and _may_have_units(programs, batches[0])):
        return params, None
    location, scale = units = stacked([_units(batch) for batch in batches])
    x = (first.x - location[:, None]) / scale[:, None]
    standard = programs.init_many(keys, x, first.context)
    same = programs.same_start_many(params, first.x, standard, x, first.context, keys)
    if same.all():
        return params, None
    none = jnp.zeros_like(location), jnp.ones_like(scale)
    return chosen(same, (params, none), (standard, units))


def _from_base(programs: Programs, key, train, batch_size):
    """`first_params` without data, from contexts alone or from nothing."""
    if train is None:
        return programs.init_from_base(key, batch_size)
    n = min(batch_size, len(train))
    return programs.init_from_base(key, n, train.take(slice(n)).batch.context)


def _initialised(programs: Programs, key, batch, standardize):
    """`first_params` from data: in standardized units, unless the flow makes them itself.

    It does if its first gradient is the same either way.
    """
    first = _first(batch)
    params = programs.init(key, first.x, first.context)
    if not (standardize and _may_have_units(programs, batch)):
        return params, None
    units = _units(batch)
    x = (first.x - units[0]) / units[1]
    standard = programs.init(key, x, first.context)
    if programs.same_start(params, first.x, standard, x, first.context, key):
        return params, None
    return standard, units


def _may_have_units(programs: Programs, batch: Batch) -> bool:
    floating = jnp.issubdtype(batch.x.dtype, jnp.floating)
    return batch.x.ndim == 2 and floating and not programs.density.fixed_units


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


@jax.jit
def stacked(trees: list) -> Any:
    """The trees as one, with a leading axis of as many as there are."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def chosen(first: jax.Array, one: Any, other: Any) -> Any:
    """Of each index of the leading axis, what one tree has where `first`, else the other's."""

    def choose(a, b):
        return jnp.where(first.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, one, other)
