"""What nets say of the numbers in fixed point: the one part that must repeat, not invert."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.coupling import Coupling
from glowjax.bijections.split import Split, TopPrior
from glowjax.codec.fixed_point import FRACTION

# The fastest kernel of a GPU is found by measuring, so it may be another one in another process;
# and what the fastest adds up in any order need not repeat.
REPEATABLE = {"xla_gpu_autotune_level": 0, "xla_gpu_deterministic_ops": True}


def coupling(
    module: Coupling, variables: Any, x: jax.Array, context: Any
) -> tuple[jax.Array, jax.Array]:
    """Scale and offset of the half that a coupling changes."""
    args = (_floats(variables, x),) + (() if context is None else (context,))
    raw: Any = module.apply(variables, *args, method="parameters")
    offset, log_scale = module.transform.forward(jnp.zeros(raw.shape[:-1], raw.dtype), raw)
    return jnp.exp(log_scale), offset


def split(
    module: Split, variables: Any, kept: jax.Array, like: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scale and offset that whiten the half that leaves, of the shape of `like`."""
    kept = _floats(variables, kept)
    return _whitening(module.apply(variables, kept, like, method="prior"))


def top(module: TopPrior, variables: Any, x: jax.Array, labels: Any) -> tuple[jax.Array, jax.Array]:
    """Scale and offset that whiten the top latent."""
    x = jnp.zeros(x.shape, jnp.result_type(jnp.float32, *jax.tree.leaves(variables)))
    return _whitening(module.apply(variables, x, labels, method="prior"))


def evaluate(program: Any, batch: int, module: Any, variables: Any, *arrays: Any) -> list:
    """A program's arrays of up to a batch of examples, computed for a batch that zeros fill."""

    def filled(array):
        dtype = np.int32 if array.dtype == np.int64 else array.dtype
        rows = np.zeros((batch, *array.shape[1:]), dtype)
        rows[: len(array)] = array
        return rows

    count = len(arrays[0])
    out = _compiled(program)(module, variables, *jax.tree.map(filled, arrays))
    return [np.asarray(array)[:count] for array in out]


@functools.cache
def _compiled(program):
    options = REPEATABLE if jax.default_backend() == "gpu" else None
    return jax.jit(program, static_argnums=0, compiler_options=options)


def _floats(variables, x):
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(variables))
    return x.astype(dtype) * 2.0**-FRACTION


def _whitening(prior):
    mean, log_std = prior
    scale = jnp.exp(-log_std)
    return scale, -mean * scale
