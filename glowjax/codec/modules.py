"""Modules as exact bijections of integers: couplings, ActNorms, 1×1 convolutions, splits."""

import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.struct import dataclass, field

from glowjax.bijections.actnorm import ActNorm, GlowActNorm
from glowjax.bijections.checkerboard import CheckerboardSqueeze
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.linear.conv1x1 import InvertibleConv1x1
from glowjax.bijections.logit import Logit
from glowjax.bijections.masks import partition
from glowjax.bijections.permute import Permute, Reverse, Riffle, Shuffle
from glowjax.bijections.scalar.elementwise import additive
from glowjax.bijections.scalar.elementwise import affine as affine_map
from glowjax.bijections.split import Split, TopPrior
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import require
from glowjax.codec import nets
from glowjax.codec.bins import coarsen, refine
from glowjax.codec.channels import ChannelMap, Dense, Diagonal, exact
from glowjax.codec.fixed_point import FRACTION, bad, fixed
from glowjax.codec.lanes import Stack
from glowjax.codec.modular_scale import within
from glowjax.codec.steady import steady_forward, steady_inverse
from glowjax.expression import call_of
from glowjax.flow import Flow


class IntegerFlow:
    """A flow on int64 numbers in fixed point, `[B, ...]` or tuples of them, beside a stack of bits.

    It is a tree of arrays (a dataclass of `flax.struct`), and all else of it is static. So programs
    are compiled for the kind of flow once, and serve all weights; steps of a kind can be stacked,
    and then be looped over. All is made and called with 64 bits enabled.

    Attributes:
        event: shape of an example of z, or a tuple of shapes.
    """

    event: Any

    def encode(self, x: Any, stack: Stack, context: Any) -> tuple[Any, Stack]:
        """z, and the stack, on which images that do not fit become `bad`."""
        raise NotImplementedError

    def decode(self, z: Any, stack: Stack, context: Any) -> tuple[Any, Stack]:
        """The exact inverse of `encode`, the stack included."""
        raise NotImplementedError


def static() -> Any:
    """A field of an `IntegerFlow` that is no array."""
    return field(pytree_node=False)


@dataclass
class OfChannels(IntegerFlow):
    """A linear map of channels; `by` says which, since neighbours can become one."""

    by: ChannelMap
    exact: Diagonal | Dense
    event: Any = static()

    def encode(self, x, stack, context):
        return self.exact.forward(x, stack)

    def decode(self, z, stack, context):
        return self.exact.inverse(z, stack)


def of_channels(by: ChannelMap, event: Any) -> OfChannels:
    """The `IntegerFlow` of a linear map of channels."""
    return OfChannels(by, exact(by), event)


def of_module(module: nn.Module, flow: Flow, params: Any, event: Any) -> IntegerFlow:
    """The `IntegerFlow` of a module and its flow, for examples of the shape `event`.

    Raises:
        ValueError: there is none for such a module.
    """
    make = MODULES.get(type(module))
    if make is None:
        known = ", ".join(kind.__name__ for kind in MODULES)
        raise ValueError(f"flow must be made of {known}, got {module!r}")
    return make(module, flow, params, event)


def _actnorm(module, flow, params, event):
    """z = (x + bias)·exp(log_scale) + shift."""
    with np.errstate(over="ignore"):  # of weights that are no model's
        size = np.exp(getattr(module, "log_scale_factor", 1.0) * params["log_scale"])
    scale = np.asarray(within(size))
    return of_channels(ChannelMap(params["bias"] + params.get("shift", 0.0) / scale, scale), event)


def _coupling(module, flow, params, event):
    maps = {inspect.unwrap(function) for function in (affine_map, additive)}
    call = call_of(module.transform)
    if call is None or call[0] not in maps:
        wanted = "affine or additive, to compress with"
        raise ValueError(f"transform of a coupling must be {wanted}, got {module.transform!r}")
    changed = _changed(module, event).reshape(-1)
    places = tuple(jnp.asarray(np.flatnonzero(part)) for part in (~changed, changed))
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

    def encode(self, x, stack, context):
        return self._apply(steady_forward, x, stack, context)

    def decode(self, z, stack, context):
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


def _conv1x1(module, flow, params, event):
    """z = x·W."""
    return of_channels(ChannelMap(np.zeros(event[-1]), _weight(module, params)), event)


def _weight(module, params):
    """W of any parametrization, in float64."""
    if "weight" in params:
        return params["weight"]
    if "lu" in params:
        packed = params["lu"]
        lower = np.tril(packed, -1) + np.eye(len(packed))
        # What is not finite is refused by name, see `factors`.
        with np.errstate(over="ignore", invalid="ignore"):
            return lower @ (np.triu(packed, 1) + np.diag(np.exp(np.diag(packed))))
    return np.asarray(module.matrix(params).weight)


def _split(module, flow, params, event):
    half = event[-1] // 2
    channels = (event[-1] - half, half)
    return OfSplit(_on_device(params), module, tuple((*event[:-1], c) for c in channels))


@dataclass
class OfSplit(IntegerFlow):
    """The first channels stay, and say how the others, which leave, are whitened."""

    variables: Any
    module: Split = static()
    event: Any = static()

    def encode(self, x, stack, context):
        half = self.event[1][-1]
        kept, leaving = x[..., :half], x[..., half:]
        prior = nets.split(self.module, self.variables, kept, leaving)
        latent, stack = steady_forward(leaving, *prior, stack)
        return (latent, kept), stack

    def decode(self, z, stack, context):
        latent, kept = z
        prior = nets.split(self.module, self.variables, kept, latent)
        leaving, stack = steady_inverse(latent, *prior, stack)
        return jnp.concatenate([kept, leaving], axis=-1), stack


def _top(module, flow, params, event):
    return OfTop(_on_device(params), module, flow.takes_context, event)


@dataclass
class OfTop(IntegerFlow):
    """The top latent, whitened by what is learned, of its label if there is one."""

    variables: Any
    module: TopPrior = static()
    takes_context: bool = static()
    event: Any = static()

    def encode(self, x, stack, context):
        return steady_forward(x, *self._prior(x, context), stack)

    def decode(self, z, stack, context):
        return steady_inverse(z, *self._prior(z, context), stack)

    def _prior(self, x, context):
        return nets.top(self.module, self.variables, x, context if self.takes_context else None)


def _on_device(params):
    return {"params": jax.tree.map(jnp.asarray, params)}


def _logit(module, flow, params, event):
    """Each number of 2⁻¹⁴ is a bin, which the logit widens: within it, it is taken as linear."""
    with np.errstate(divide="ignore"):
        y = module.alpha + (1 - 2 * module.alpha) * np.arange(2 * END + 1) / (2 * END)
        bins = fixed(np.log(y) - np.log1p(-y))
    widths = np.diff(bins)
    fits = widths.min() >= 1 and widths.max() <= 2**20
    require(fits, "alpha of Logit", module.alpha, "above 0, and at most 0.37, to compress with")
    return OfLogit(jnp.asarray(bins), event)


END = 2 ** (FRACTION - 1)  # where images end, in fixed point


@dataclass
class OfLogit(IntegerFlow):
    """A table of where the bins start that the numbers of an image become."""

    edges: jax.Array
    event: Any = static()

    def encode(self, x, stack, context):
        stack = bad((x < -END) | (x >= END), stack)
        return refine(jnp.clip(x + END, 0, 2 * END - 1), self.edges, stack)

    def decode(self, z, stack, context):
        index, stack = coarsen(z, self.edges, stack)
        return index - END, stack


def _moved(module, flow, params, event):
    """What only moves numbers: where each comes from is seen from their indices."""
    index = np.arange(np.prod(event)).reshape(1, *event)
    moved: Any = flow.forward(params, jnp.asarray(index, jnp.float64))[0]
    order = jnp.asarray(moved, jnp.int64).reshape(-1)
    return Moved(order, jnp.argsort(order), event, moved.shape[1:])


@dataclass
class Moved(IntegerFlow):
    """Numbers in another order, and the order that moves them back."""

    order: jax.Array
    back: jax.Array
    given: Any = static()  # the event of x
    event: Any = static()

    def encode(self, x, stack, context):
        return x.reshape(len(x), -1)[:, self.order].reshape(-1, *self.event), stack

    def decode(self, z, stack, context):
        return z.reshape(len(z), -1)[:, self.back].reshape(-1, *self.given), stack


MODULES = {
    ActNorm: _actnorm,
    GlowActNorm: _actnorm,
    InvertibleConv1x1: _conv1x1,
    Coupling: _coupling,
    Split: _split,
    TopPrior: _top,
    Logit: _logit,
    CheckerboardSqueeze: _moved,
    Squeeze: _moved,
    Permute: _moved,
    Reverse: _moved,
    Riffle: _moved,
    Shuffle: _moved,
}
