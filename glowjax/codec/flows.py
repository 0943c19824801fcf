"""Flows as exact bijections of integers, found from the expressions that made them."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.struct import dataclass
from jax import lax

from glowjax.codec.integer_flow import Coded, IntegerFlow, static
from glowjax.codec.modules import OfChannels, of_channels, of_module
from glowjax.compose import Parts, chain, invert, multiscale, on_last, with_context
from glowjax.expression import call_of, expanded
from glowjax.flow import Flow, as_flow
from glowjax.loops import repeat
from glowjax.models.sizes import checking_sizes


def integer_flow(flow: Flow, params: Any, event: Any) -> IntegerFlow:
    """The `IntegerFlow` of a flow that is made of couplings, ActNorms, 1×1 convolutions and so on.

    Args:
        flow: one that knows the expression which made it, as those of glowjax do.
        params: its parameters.
        event: shape of an example of x, without the batch axis; or a tuple of shapes.

    Raises:
        ValueError: a part of the flow has no exact form in integers; it is named.
    """
    call = call_of(flow)
    if call is None:
        raise ValueError(f"flow must be made by functions that are `recorded`, got {flow!r}")
    function, bound = call
    if function is inspect.unwrap(as_flow):
        return of_module(bound.arguments["module"], flow, params, event)
    if function in COMBINATORS:
        return COMBINATORS[function](params, event, **bound.arguments)
    return integer_flow(expanded(flow), params, event)


def _chain(params, event, flows=(), named: Mapping[str, Flow] = MappingProxyType({})):
    members, steps = flows or tuple(named.values()), []
    for flow, p in zip(members, Parts(tuple(named), len(flows)).unpack(params), strict=True):
        steps.append(integer_flow(flow, p, event))
        event = steps[-1].event
    return Chain(_merged(steps), event)


def _merged(steps):
    """The steps, but an ActNorm and the 1×1 convolution after it as one."""
    merged = []
    for step in steps:
        before = merged[-1] if merged else None
        maps = isinstance(before, OfChannels) and isinstance(step, OfChannels)
        if maps and before.by.is_diagonal:
            merged[-1] = of_channels(before.by.then(step.by), step.event)
        else:
            merged.append(step)
    return tuple(merged)


@dataclass
class Chain(IntegerFlow):
    """Flows in a row."""

    steps: tuple[IntegerFlow, ...]
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        for step in self.steps:
            x, stack = step.encode(x, stack, context)
        return x, stack

    def decode(self, z, stack, context) -> Coded:
        for step in reversed(self.steps):
            z, stack = step.decode(z, stack, context)
        return z, stack


def _repeat(params, event, flow, n, **_):
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(n)]
    steps = [integer_flow(flow, p, event) for p in each]
    return Loop(jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps), event)


@dataclass
class Loop(IntegerFlow):
    """Flows of one kind in a row, stacked: one of them is compiled."""

    stacked: IntegerFlow
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        def on(state, step):
            return step.encode(*state, context), ()

        return lax.scan(on, (x, stack), self.stacked)[0]

    def decode(self, z, stack, context) -> Coded:
        def back(state, step):
            return step.decode(*state, context), ()

        return lax.scan(back, (z, stack), self.stacked, reverse=True)[0]


def _invert(params, event, flow):
    like = jax.ShapeDtypeStruct((1, *event), np.float32)
    z: Any = jax.eval_shape(flow.inverse, params, like)[0]
    return Inverted(integer_flow(flow, params, z.shape[1:]), z.shape[1:])


@dataclass
class Inverted(IntegerFlow):
    """A flow from its z to its x."""

    inner: IntegerFlow
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        return self.inner.decode(x, stack, context)

    def decode(self, z, stack, context) -> Coded:
        return self.inner.encode(z, stack, context)


def _on_last(params, event, flow, outputs=1):
    *rest, last = event
    inner = integer_flow(flow, params, last)
    made = (inner.event,) if outputs == 1 else inner.event
    return OnLast(inner, outputs, (*rest, *made))


@dataclass
class OnLast(IntegerFlow):
    """A flow of the last of some arrays, which it makes one or more of."""

    inner: IntegerFlow
    outputs: int = static()
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        z, stack = self.inner.encode(x[-1], stack, context)
        return (*x[:-1], *((z,) if self.outputs == 1 else z)), stack

    def decode(self, z, stack, context) -> Coded:
        last = z[-1] if self.outputs == 1 else z[-self.outputs :]
        x, stack = self.inner.decode(last, stack, context)
        return (*z[: -self.outputs], x), stack


def _multiscale(params, event, levels, splits):
    flows = {"level1": on_last(levels[0])}
    for number, (split, level) in enumerate(zip(splits, levels[1:], strict=True), 1):
        flows[f"split{number}"] = on_last(split, outputs=2)
        flows[f"level{number + 1}"] = on_last(level)
    inner = _chain(params, (event,), named=flows)
    return OfOne(inner, inner.event)


@dataclass
class OfOne(IntegerFlow):
    """A flow of a tuple of one array, as a flow of the array."""

    inner: IntegerFlow
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        return self.inner.encode((x,), stack, context)

    def decode(self, z, stack, context) -> Coded:
        (x,), stack = self.inner.decode(z, stack, context)
        return x, stack


def _with_context(params, event, flow, embed):
    inner = integer_flow(flow, params, event)
    return WithContext(inner, embed, inner.event)


@dataclass
class WithContext(IntegerFlow):
    """A flow that sees what is made of the context, or nothing of it."""

    inner: IntegerFlow
    embed: Callable[[Any], Any] | None = static()
    event: Any = static()

    def encode(self, x, stack, context) -> Coded:
        return self.inner.encode(x, stack, self._seen(context))

    def decode(self, z, stack, context) -> Coded:
        return self.inner.decode(z, stack, self._seen(context))

    def _seen(self, context):
        return None if self.embed is None else self.embed(context)


def _checking_sizes(params, event, flow, **_):
    return integer_flow(flow, params, event)


COMBINATORS = {
    inspect.unwrap(function): make
    for function, make in (
        (chain, _chain),
        (repeat, _repeat),
        (invert, _invert),
        (multiscale, _multiscale),
        (on_last, _on_last),
        (with_context, _with_context),
        (checking_sizes, _checking_sizes),
    )
}
