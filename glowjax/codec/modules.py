"""Modules as exact bijections of integers: which has which, and those without nets."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.struct import dataclass

from glowjax.bijections.actnorm import ActNorm, GlowActNorm
from glowjax.bijections.checkerboard import CheckerboardSqueeze
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.linear.conv1x1 import InvertibleConv1x1
from glowjax.bijections.logit import Logit
from glowjax.bijections.permute import Permute, Reverse, Riffle, Shuffle
from glowjax.bijections.split import Split, TopPrior
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import require
from glowjax.codec.bins import coarsen, refine
from glowjax.codec.channels import ChannelMap, Dense, Diagonal, exact
from glowjax.codec.conditioned import coupling, split, top
from glowjax.codec.fixed_point import FRACTION, bad, fixed
from glowjax.codec.integer_flow import Coded, IntegerFlow, static
from glowjax.codec.modular_scale import within
from glowjax.flow import Flow


@dataclass
class OfChannels(IntegerFlow):
    """A linear map of channels; `by` says which, since neighbours can become one."""

    by: ChannelMap
    exact: Diagonal | Dense
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        return self.exact.forward(x, stack)

    def decode(self, z, stack, context) -> Coded:
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

    def encode(self, x, stack, context) -> Coded:
        stack = bad((x < -END) | (x >= END), stack)
        return refine(jnp.clip(x + END, 0, 2 * END - 1), self.edges, stack)

    def decode(self, z, stack, context) -> Coded:
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

    def encode(self, x, stack, context) -> Coded:
        return x.reshape(len(x), -1)[:, self.order].reshape(-1, *self.event), stack

    def decode(self, z, stack, context) -> Coded:
        return z.reshape(len(z), -1)[:, self.back].reshape(-1, *self.given), stack


MODULES: dict[type[nn.Module], Callable[..., IntegerFlow]] = {
    ActNorm: _actnorm,
    GlowActNorm: _actnorm,
    InvertibleConv1x1: _conv1x1,
    Coupling: coupling,
    Split: split,
    TopPrior: top,
    Logit: _logit,
    CheckerboardSqueeze: _moved,
    Squeeze: _moved,
    Permute: _moved,
    Reverse: _moved,
    Riffle: _moved,
    Shuffle: _moved,
}
