"""What nets say of the numbers in fixed point, in float64: the one part that is not whole numbers.

Other machines and versions add up in another order, so they differ in the last bits: see
`steady`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.coupling import Coupling
from glowjax.bijections.split import Split, TopPrior
from glowjax.codec.fixed_point import FRACTION


def coupling(
    module: Coupling, variables: Any, x: jax.Array, context: Any
) -> tuple[jax.Array, jax.Array]:
    """Scale and offset of the half that a coupling changes."""
    args = (_floats(x),) + (() if context is None else (context,))
    raw: Any = module.apply(variables, *args, method="parameters")
    offset, log_scale = module.transform.forward(jnp.zeros(raw.shape[:-1], raw.dtype), raw)
    return jnp.exp(log_scale), offset


def split(
    module: Split, variables: Any, kept: jax.Array, like: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scale and offset that whiten the half that leaves, of the shape of `like`."""
    return _whitening(module.apply(variables, _floats(kept), like, method="prior"))


def top(module: TopPrior, variables: Any, x: jax.Array, labels: Any) -> tuple[jax.Array, jax.Array]:
    """Scale and offset that whiten the top latent."""
    zeros = jnp.zeros(x.shape, jnp.float64)
    return _whitening(module.apply(variables, zeros, labels, method="prior"))


def evaluate(program: Any, batch: int, module: Any, variables: Any, *arrays: Any) -> list:
    """A program's arrays of up to a batch of examples, computed for a batch that zeros fill."""

    def filled(array):
        rows = np.zeros((batch, *array.shape[1:]), array.dtype)
        rows[: len(array)] = array
        return rows

    count = len(arrays[0])
    with jax.enable_x64(True):
        out = _compiled(program)(module, variables, *jax.tree.map(filled, arrays))
    return [np.asarray(array)[:count] for array in out]


def prepared(module: Coupling, params: Any) -> tuple[Coupling, Any]:
    """A coupling whose net has no narrower floats inside, and the variables to apply it with."""
    module = module.clone(net=_not_narrowed(module.net))
    with jax.enable_x64(True):
        return module, _prepare(module, params)


@functools.partial(jax.jit, static_argnums=0)
def _prepare(module, params):
    return module.prepare(params)


@functools.cache  # partials are equal if they are one: else each step would compile its own
def _not_narrowed(net):
    narrowed = isinstance(net, functools.partial) and "dtype" in net.keywords
    return functools.partial(net, dtype=None) if narrowed else net


@functools.cache
def _compiled(program):
    return jax.jit(program, static_argnums=0)


def _floats(x):
    return x.astype(jnp.float64) * 2.0**-FRACTION


def _whitening(prior):
    mean, log_std = prior
    scale = jnp.exp(-log_std)
    return scale, -mean * scale
