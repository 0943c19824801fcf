"""Modules as exact bijections of integers: couplings, ActNorms, 1×1 convolutions, splits."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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
from glowjax.codec.channels import ChannelMap, exact
from glowjax.codec.fixed_point import FRACTION, bad, fixed
from glowjax.codec.lanes import Stack
from glowjax.codec.modular_scale import within
from glowjax.codec.steady import steady_forward, steady_inverse
from glowjax.expression import call_of
from glowjax.flow import Flow

Step = Callable[[Any, Stack, Any], tuple[Any, Stack]]


class IntegerFlow(NamedTuple):
    """A flow on int64 numbers in fixed point, `[B, ...]` or tuples of them, beside a stack of bits.

        encode(x, stack, context) -> (z, stack)
        decode(z, stack, context) -> (x, stack)

    `decode` is the exact inverse of `encode`, the stack included. To `encode`, images that do not
    fit become `bad`. All is made and called with 64 bits enabled.

    Attributes:
        event: shape of an example of z, or a tuple of shapes.
        channels: the map, if it is linear in the channels: neighbours can become one.
    """

    encode: Step
    decode: Step
    event: Any
    channels: ChannelMap | None = None


def of_channels(by: ChannelMap, event: Any) -> IntegerFlow:
    """The `IntegerFlow` of a linear map of channels."""
    # Factored when used: a neighbour may take this map into its own.
    maps = functools.cache(functools.partial(exact, by))
    return IntegerFlow(
        lambda x, stack, context: maps().forward(x, stack),
        lambda z, stack, context: maps().inverse(z, stack),
        event,
        by,
    )


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

    def apply(function, x, stack, context):
        kept, *seen = _seen(module, variables, places, x, _taken(flow, context))
        z, stack = function(*seen, stack)
        return _put_back(kept, z, back, x.shape), stack

    return IntegerFlow(
        functools.partial(apply, steady_forward), functools.partial(apply, steady_inverse), event
    )


@functools.partial(jax.jit, static_argnums=0)
def _seen(module, variables, places, x, context):
    """The numbers at the first `places`, those at the second, and their scales and offsets."""
    kept, changed = (x.reshape(len(x), -1)[:, part] for part in places)
    by = [a.reshape(len(x), -1) for a in nets.coupling(module, variables, x, context)]
    if by[0].shape != changed.shape:  # of a checkerboard, whose other squares do not count
        by = [a[:, places[1]] for a in by]
    return kept, changed, *by


@functools.partial(jax.jit, static_argnums=3)
def _put_back(kept, z, back, shape):
    return jnp.concatenate([kept, z], axis=1)[:, back].reshape(shape)


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
    variables = _on_device(params)

    def encode(x, stack, context):
        kept, leaving = x[..., :half], x[..., half:]
        latent, stack = steady_forward(
            leaving, *_split_prior(module, variables, kept, leaving), stack
        )
        return (latent, kept), stack

    def decode(z, stack, context):
        latent, kept = z
        leaving, stack = steady_inverse(
            latent, *_split_prior(module, variables, kept, latent), stack
        )
        return jnp.concatenate([kept, leaving], axis=-1), stack

    channels = (event[-1] - half, half)
    return IntegerFlow(encode, decode, tuple((*event[:-1], c) for c in channels))


def _top(module, flow, params, event):
    variables = _on_device(params)

    def apply(function, x, stack, context):
        prior = _top_prior(module, variables, x, _taken(flow, context))
        return function(x, *prior, stack)

    return IntegerFlow(
        functools.partial(apply, steady_forward), functools.partial(apply, steady_inverse), event
    )


_split_prior, _top_prior = (jax.jit(f, static_argnums=0) for f in (nets.split, nets.top))


def _on_device(params):
    return {"params": jax.tree.map(jnp.asarray, params)}


def _logit(module, flow, params, event):
    """Each number of 2⁻¹⁴ is a bin, which the logit widens: within it, it is taken as linear."""
    end = 2 ** (FRACTION - 1)
    with np.errstate(divide="ignore"):
        y = module.alpha + (1 - 2 * module.alpha) * np.arange(2 * end + 1) / (2 * end)
        bins = fixed(np.log(y) - np.log1p(-y))
    widths = np.diff(bins)
    fits = widths.min() >= 1 and widths.max() <= 2**20
    require(fits, "alpha of Logit", module.alpha, "above 0, and at most 0.37, to compress with")
    edges = jnp.asarray(bins)

    def encode(x, stack, context):
        stack = bad((x < -end) | (x >= end), stack)
        return _refine(jnp.clip(x + end, 0, 2 * end - 1), edges, stack)

    def decode(z, stack, context):
        index, stack = _coarsen(z, edges, stack)
        return index - end, stack

    return IntegerFlow(encode, decode, event)


_refine, _coarsen = jax.jit(refine), jax.jit(coarsen)


def _moved(module, flow, params, event):
    """What only moves numbers: where each comes from is seen from their indices."""
    index = np.arange(np.prod(event)).reshape(1, *event)
    moved: Any = flow.forward(params, jnp.asarray(index, jnp.float64))[0]
    order, shape = jnp.asarray(moved, jnp.int64).reshape(-1), moved.shape[1:]
    back = jnp.argsort(order)

    def encode(x, stack, context):
        return _taken_from(x, order).reshape(-1, *shape), stack

    def decode(z, stack, context):
        return _taken_from(z, back).reshape(-1, *event), stack

    return IntegerFlow(encode, decode, shape)


@jax.jit
def _taken_from(x, order):
    return x.reshape(len(x), -1)[:, order]


def _taken(flow, context):
    return context if flow.takes_context else None


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
