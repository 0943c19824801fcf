"""Couplings, splits and the top prior as exact bijections of integers: affine maps by nets."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.struct import dataclass

from glowjax.bijections.coupling import Coupling
from glowjax.bijections.masks import partition
from glowjax.bijections.scalar.elementwise import additive
from glowjax.bijections.scalar.elementwise import affine as affine_map
from glowjax.bijections.split import Split, TopPrior
from glowjax.codec import nets
from glowjax.codec.integer_flow import Coded, IntegerFlow, static
from glowjax.codec.steady import steady_forward, steady_inverse
from glowjax.expression import call_of
from glowjax.flow import Flow


def coupling(module: Coupling, flow: Flow, params: Any, event: Any) -> "OfCoupling":
    """The `IntegerFlow` of an affine or additive coupling.

    Raises:
        ValueError: it is neither.
    """
    maps = {inspect.unwrap(function) for function in (affine_map, additive)}
    call = call_of(module.transform)
    if call is None or call[0] not in maps:
        wanted = "affine or additive, to compress with"
        raise ValueError(f"transform of a coupling must be {wanted}, got {module.transform!r}")
    changed = _changed(module, event).reshape(-1)
    places = jnp.asarray(np.flatnonzero(~changed)), jnp.asarray(np.flatnonzero(changed))
    module, variables = nets.prepared(module, params)
    back = jnp.argsort(jnp.concatenate(places))
    return OfCoupling(variables, places, back, module, flow.takes_context, event)


@dataclass
class OfCoupling(IntegerFlow):
    """An affine or additive coupling: the net sees the numbers at the first of two `places`."""

    variables: Any
    places: tuple[jax.Array, jax.Array]
    back: jax.Array  # the order that puts both where they were
    module: Coupling = static()
    takes_context: bool = static()
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        return self._apply(steady_forward, x, stack, context)

    def decode(self, z, stack, context) -> Coded:
        return self._apply(steady_inverse, z, stack, context)

    def _apply(self, function, x, stack, context):
        kept, changed = (x.reshape(len(x), -1)[:, part] for part in self.places)
        context = context if self.takes_context else None
        by = [a.reshape(len(x), -1) for a in nets.coupling(self.module, self.variables, x, context)]
        if by[0].shape != changed.shape:  # of a checkerboard, whose other squares do not count
            by = [a[:, self.places[1]] for a in by]
        z, stack = function(changed, *by, stack)
        return jnp.concatenate([kept, z], axis=1)[:, self.back].reshape(x.shape), stack


def _changed(module, event):
    """Which numbers of an example a coupling changes, booleans of the shape `event`."""
    x = jnp.zeros((1, *event))
    parts = partition(module.mask, x, swap=module.swap)
    a, b = parts.split(x)
    return np.asarray(parts.merge(a, b + 1)[0] > 0)


def split(module: Split, flow: Flow, params: Any, event: Any) -> "OfSplit":
    """The `IntegerFlow` of a split."""
    half = event[-1] // 2
    channels = (event[-1] - half, half)
    return OfSplit(_on_device(params), module, tuple((*event[:-1], c) for c in channels))


@dataclass
class OfSplit(IntegerFlow):
    """The first channels stay, and say how the others, which leave, are whitened."""

    variables: Any
    module: Split = static()
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        half = self.event[1][-1]
        kept, leaving = x[..., :half], x[..., half:]
        prior = nets.split(self.module, self.variables, kept, leaving)
        latent, stack = steady_forward(leaving, *prior, stack)
        return (latent, kept), stack

    def decode(self, z, stack, context) -> Coded:
        latent, kept = z
        prior = nets.split(self.module, self.variables, kept, latent)
        leaving, stack = steady_inverse(latent, *prior, stack)
        return jnp.concatenate([kept, leaving], axis=-1), stack


def top(module: TopPrior, flow: Flow, params: Any, event: Any) -> "OfTop":
    """The `IntegerFlow` of the top prior."""
    return OfTop(_on_device(params), module, flow.takes_context, event)


@dataclass
class OfTop(IntegerFlow):
    """The top latent, whitened by what is learned, of its label if there is one."""

    variables: Any
    module: TopPrior = static()
    takes_context: bool = static()
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        return steady_forward(x, *self._prior(x, context), stack)

    def decode(self, z, stack, context) -> Coded:
        return steady_inverse(z, *self._prior(z, context), stack)

    def _prior(self, x, context):
        return nets.top(self.module, self.variables, x, context if self.takes_context else None)


def _on_device(params):
    return {"params": jax.tree.map(jnp.asarray, params)}
