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
from glowjax.codec.channels import ChannelMap, forward_and_inverse
from glowjax.codec.coder import Coder
from glowjax.codec.fixed_point import FRACTION, OutOfRange, fixed
from glowjax.codec.modular_scale import within
from glowjax.codec.steady import steady_forward, steady_inverse
from glowjax.expression import call_of
from glowjax.flow import Flow

Step = Callable[[Any, Coder, Any], Any]


class IntegerFlow(NamedTuple):
    """A flow on int64 numbers in fixed point, `[B, ...]` or tuples of them, beside a stack of bits.

        encode(x, coder, context) -> z
        decode(z, coder, context) -> x

    `decode` is the exact inverse of `encode`, the coder's state included. `encode` raises
    `OutOfRange` for images that do not fit.

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
    maps = functools.cache(functools.partial(forward_and_inverse, by))
    return IntegerFlow(
        lambda x, coder, context: maps()[0](x, coder),
        lambda z, coder, context: maps()[1](z, coder),
        event,
        by,
    )


def of_module(module: nn.Module, flow: Flow, params: Any, event: Any, batch: int) -> IntegerFlow:
    """The `IntegerFlow` of a module and its flow, for examples of the shape `event`.

    Raises:
        ValueError: there is none for such a module.
    """
    make = MODULES.get(type(module))
    if make is None:
        known = ", ".join(kind.__name__ for kind in MODULES)
        raise ValueError(f"flow must be made of {known}, got {module!r}")
    return make(module, flow, params, event, batch)


def _actnorm(module, flow, params, event, batch):
    """z = (x + bias)·exp(log_scale) + shift."""
    with np.errstate(over="ignore"):  # of weights that are no model's
        scale = within(np.exp(getattr(module, "log_scale_factor", 1.0) * params["log_scale"]))
    return of_channels(ChannelMap(params["bias"] + params.get("shift", 0.0) / scale, scale), event)


def _coupling(module, flow, params, event, batch):
    maps = {inspect.unwrap(function) for function in (affine_map, additive)}
    call = call_of(module.transform)
    if call is None or call[0] not in maps:
        wanted = "affine or additive, to compress with"
        raise ValueError(f"transform of a coupling must be {wanted}, got {module.transform!r}")
    changed = _changed(module, event)
    module, variables = nets.prepared(module, params)

    def parameters(x, context):
        arrays = nets.evaluate(nets.coupling, batch, module, variables, x, _taken(flow, context))
        whole = arrays[0].shape == x.shape  # of a checkerboard, whose other squares do not count
        return [a[:, changed] if whole else a.reshape(len(x), -1) for a in arrays]

    def apply(function, x, coder, context):
        z = x.copy()
        z[:, changed] = function(x[:, changed], *parameters(x, context), coder)
        return z

    return IntegerFlow(
        functools.partial(apply, steady_forward), functools.partial(apply, steady_inverse), event
    )


def _changed(module, event):
    """Which numbers of an example a coupling changes, booleans of the shape `event`."""
    x = jnp.zeros((1, *event))
    parts = partition(module.mask, x, swap=module.swap)
    a, b = parts.split(x)
    return np.asarray(parts.merge(a, b + 1)[0] > 0)


def _conv1x1(module, flow, params, event, batch):
    """z = x·W."""
    return of_channels(ChannelMap(np.zeros(event[-1]), _weight(module, params)), event)


def _weight(module, params):
    """W of any parametrization, in float64."""
    if "weight" in params:
        return params["weight"]
    if "lu" in params:
        packed = params["lu"]
        lower = np.tril(packed, -1) + np.eye(len(packed))
        return lower @ (np.triu(packed, 1) + np.diag(np.exp(np.diag(packed))))
    with jax.enable_x64(True):
        return np.asarray(module.matrix(params).weight)


def _split(module, flow, params, event, batch):
    half = event[-1] // 2
    variables = {"params": params}

    def whitening(kept, leaving):
        return nets.evaluate(nets.split, batch, module, variables, kept, leaving)

    def encode(x, coder, context):
        kept, leaving = x[..., :half], x[..., half:]
        return steady_forward(leaving, *whitening(kept, leaving), coder), kept

    def decode(z, coder, context):
        latent, kept = z
        leaving = steady_inverse(latent, *whitening(kept, latent), coder)
        return np.concatenate([kept, leaving], axis=-1)

    channels = (event[-1] - half, half)
    return IntegerFlow(encode, decode, tuple((*event[:-1], c) for c in channels))


def _top(module, flow, params, event, batch):
    variables = {"params": params}

    def apply(function, x, coder, context):
        labels = _taken(flow, context)
        whitening = nets.evaluate(nets.top, batch, module, variables, x, labels)
        return function(x, *whitening, coder)

    return IntegerFlow(
        functools.partial(apply, steady_forward), functools.partial(apply, steady_inverse), event
    )


def _logit(module, flow, params, event, batch):
    """Each number of 2⁻¹⁴ is a bin, which the logit widens: within it, it is taken as linear."""
    end = 2 ** (FRACTION - 1)
    with np.errstate(divide="ignore"):
        y = module.alpha + (1 - 2 * module.alpha) * np.arange(2 * end + 1) / (2 * end)
        bins = fixed(np.log(y) - np.log1p(-y))
    widths = np.diff(bins)
    fits = widths.min() >= 1 and widths.max() <= 2**20
    require(fits, "alpha of Logit", module.alpha, "above 0, and at most 0.37, to compress with")

    def encode(x, coder, context):
        outside = ((x < -end) | (x >= end)).reshape(len(x), -1).any(axis=1)
        if outside.any():
            raise OutOfRange(np.flatnonzero(outside))
        return refine(x.reshape(-1) + end, bins, coder).reshape(x.shape)

    def decode(z, coder, context):
        return (coarsen(z.reshape(-1), bins, coder) - end).reshape(z.shape)

    return IntegerFlow(encode, decode, event)


def _moved(module, flow, params, event, batch):
    """What only moves numbers: where each comes from is seen from their indices."""
    index = np.arange(np.prod(event)).reshape(1, *event)
    with jax.enable_x64(True):
        moved: Any = flow.forward(params, jnp.asarray(index, jnp.float64))[0]
    order, shape = np.asarray(moved, np.int64).reshape(-1), moved.shape[1:]
    back = np.argsort(order)

    def encode(x, coder, context):
        return x.reshape(len(x), -1)[:, order].reshape(-1, *shape)

    def decode(z, coder, context):
        return z.reshape(len(z), -1)[:, back].reshape(-1, *event)

    return IntegerFlow(encode, decode, shape)


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
