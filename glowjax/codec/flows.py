"""Flows as exact bijections of integers, found from the expressions that made them."""

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from glowjax.codec.modules import IntegerFlow, of_channels, of_module
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
    return _in_order(steps)


def _in_order(each: Sequence[IntegerFlow]) -> IntegerFlow:
    steps = _merged(each)

    def encode(x, stack, context):
        for step in steps:
            x, stack = step.encode(x, stack, context)
        return x, stack

    def decode(z, stack, context):
        for step in reversed(steps):
            z, stack = step.decode(z, stack, context)
        return z, stack

    return IntegerFlow(encode, decode, steps[-1].event)


def _merged(steps):
    """The steps, but an ActNorm and the 1×1 convolution after it as one."""
    merged = []
    for step in steps:
        before = merged[-1].channels if merged else None
        if before is not None and before.is_diagonal and step.channels is not None:
            merged[-1] = of_channels(before.then(step.channels), step.event)
        else:
            merged.append(step)
    return merged


def _repeat(params, event, flow, n, **_):
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(n)]
    return _in_order([integer_flow(flow, p, event) for p in each])


def _invert(params, event, flow):
    like = jax.ShapeDtypeStruct((1, *event), np.float32)
    z: Any = jax.eval_shape(flow.inverse, params, like)[0]
    inner = integer_flow(flow, params, z.shape[1:])
    return IntegerFlow(inner.decode, inner.encode, z.shape[1:])


def _on_last(params, event, flow, outputs=1):
    *rest, last = event
    inner = integer_flow(flow, params, last)
    made = (inner.event,) if outputs == 1 else inner.event

    def encode(arrays, stack, context):
        z, stack = inner.encode(arrays[-1], stack, context)
        return (*arrays[:-1], *((z,) if outputs == 1 else z)), stack

    def decode(arrays, stack, context):
        z = arrays[-1] if outputs == 1 else arrays[-outputs:]
        x, stack = inner.decode(z, stack, context)
        return (*arrays[:-outputs], x), stack

    return IntegerFlow(encode, decode, (*rest, *made))


def _multiscale(params, event, levels, splits):
    flows = {"level1": on_last(levels[0])}
    for number, (split, level) in enumerate(zip(splits, levels[1:], strict=True), 1):
        flows[f"split{number}"] = on_last(split, outputs=2)
        flows[f"level{number + 1}"] = on_last(level)
    inner = _chain(params, (event,), named=flows)

    def encode(x, stack, context):
        return inner.encode((x,), stack, context)

    def decode(z, stack, context):
        (x,), stack = inner.decode(z, stack, context)
        return x, stack

    return IntegerFlow(encode, decode, inner.event)


def _with_context(params, event, flow, embed):
    inner = integer_flow(flow, params, event)

    def seen(context):
        return None if embed is None else embed(context)

    return IntegerFlow(
        lambda x, stack, context: inner.encode(x, stack, seen(context)),
        lambda z, stack, context: inner.decode(z, stack, seen(context)),
        inner.event,
    )


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
