"""Flows with their parameters, piece by piece: what the weights of other libraries become.

A dense layer is a pair of NumPy arrays here, weight `[inputs, outputs]` and bias `[outputs]`; so is
a convolution, of weight `[height, width, inputs, outputs]`.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.autoregressive import Autoregressive
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.linear.conv1x1 import InvertibleConv1x1
from glowjax.bijections.permute import Permute
from glowjax.bijections.planar import Planar
from glowjax.bijections.radial import Radial
from glowjax.bijections.scalar.elementwise import Elementwise, ElementwiseFlow
from glowjax.checks import require
from glowjax.compose import chain, invert
from glowjax.flow import Flow, as_flow
from glowjax.loops import repeat
from glowjax.nets.activations import Activation
from glowjax.nets.made import MADE, spread
from glowjax.nets.mlp import MLP
from glowjax.preprocess.table import Unchanged, columns


class Part(NamedTuple):
    """A flow and its parameters."""

    flow: Flow
    params: Any


class Dense(NamedTuple):
    """y = x·weight + bias."""

    weight: np.ndarray  # [..., inputs, outputs]
    bias: np.ndarray  # [outputs]


class Net(NamedTuple):
    """What makes a net, as `Coupling` and `Autoregressive` want it, and its parameters."""

    make: Callable[..., Any]
    params: dict[str, Any]


def kind(thing: Any) -> str:
    """The name of an object's class."""
    return type(thing).__name__


def is_of(library: str, thing: Any) -> bool:
    """Whether an object's class is defined in a library."""
    return type(thing).__module__.partition(".")[0] == library


def converter(
    converters: dict[str, Any], library: str, what: str, thing: Any, others: Sequence[str] = ()
) -> Any:
    """What converts an object of a library, by the name of its class.

    Raises:
        ValueError: nothing does; the message lists the names, and `others`.
    """
    known = is_of(library, thing) and kind(thing) in converters
    names = ", ".join(sorted({*converters, *others}))
    require(known, what, kind(thing), f"one of {names} of {library}")
    return converters[kind(thing)]


def alternating(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Indices of both, side by side in turn."""
    return np.stack([first, second], axis=1).reshape(-1)


def in_order(parts: Sequence[Part]) -> Part:
    """One part after the other; of none, the identity."""
    if not parts:
        return Part(as_flow(Unchanged()), {})
    if len(parts) == 1:
        return parts[0]
    return Part(chain(*(part.flow for part in parts)), tuple(part.params for part in parts))


def looped(parts: Sequence[Part]) -> list[Part]:
    """Parts in order, of which those in a row that are alike become a loop.

    Args:
        parts: each keeps the shape of its input, and has parameters.
    """
    made = []
    for _, run in itertools.groupby(parts, _form):
        flows, params = zip(*run, strict=True)
        if len(flows) > 1:
            stacked = jax.tree.map(lambda *values: np.stack(values), *params)
            made.append(Part(repeat(flows[0], len(flows)), stacked))
        else:
            made.append(Part(flows[0], params[0]))
    return made


def _form(part):
    """What two parts have in common if they differ in the values of parameters alone."""
    return repr(part.flow), jax.tree.map(np.shape, part.params)


def inverted(part: Part) -> Part:
    """The part the other way round."""
    return Part(invert(part.flow), part.params)


def converted(part: Part, dtype: Any) -> Part:
    """The part with parameters as JAX has them, in a dtype; float32 if JAX's x64 mode is off."""
    return Part(part.flow, jax.tree.map(lambda p: jnp.asarray(np.asarray(p, dtype)), part.params))


def normalization(log_scale: np.ndarray, shift: np.ndarray) -> Part:
    """z = x·exp(log_scale) + shift per channel."""
    params = {"log_scale": log_scale, "bias": np.zeros_like(shift), "shift": shift}
    return Part(as_flow(ActNorm()), params)


def linear(dense: Dense) -> Part:
    """z = x·weight + bias, for an invertible square weight."""
    mixed = Part(as_flow(InvertibleConv1x1()), {"weight": dense.weight})
    if not np.any(dense.bias):
        return mixed
    return in_order([mixed, normalization(np.zeros_like(dense.bias), dense.bias)])


def permutation(order: np.ndarray) -> Part:
    """z[..., i] = x[..., order[i]]."""
    return Part(as_flow(Permute(tuple(map(int, order)))), {})


def permuted(order: np.ndarray, part: Part) -> Part:
    """A part that sees its channels in an order, and gives them back in that of x."""
    if np.array_equal(order, np.arange(len(order))):
        return part
    return in_order([permutation(order), part, permutation(np.argsort(order))])


def elementwise(transform: Elementwise, raw: np.ndarray) -> Part:
    """`transform` of each number, with its own parameters, `raw: [D, size]`."""
    return Part(as_flow(ElementwiseFlow(transform)), {"raw": raw})


def coupling(
    transform: Elementwise,
    net: Net,
    passing: np.ndarray,
    mapped: np.ndarray,
    own: Part | None = None,
) -> Part:
    """A coupling: the channels `mapped` change, by a net of those that are `passing`.

    Args:
        passing, mapped: indices of channels.
        own: a flow of the passing channels by themselves, after the net has seen them.

    Raises:
        ValueError: neither are half of the channels, rounded down.
    """
    count = len(passing) + len(mapped)
    half = count // 2
    wanted = f"of {half} channels, mapped or passing"
    require(half in (len(passing), len(mapped)), "mask", f"{len(mapped)} of {count} mapped", wanted)
    behind = np.array_equal(np.concatenate([mapped, passing]), np.arange(count))
    swap = len(passing) != half or (len(mapped) == half and behind)
    order = np.concatenate([mapped, passing] if swap else [passing, mapped])
    part = Part(as_flow(Coupling(transform, net.make, swap=swap)), {"net": net.params})
    if own is not None:
        sides = [(own.flow, len(passing)), (None, len(mapped))]
        params = (own.params, {})
        order_of_sides = slice(None, None, -1 if swap else 1)
        part = in_order([part, Part(columns(*sides[order_of_sides]), params[order_of_sides])])
    return permuted(order, part)


def autoregressive(transform: Elementwise, net: Net) -> Part:
    """An autoregressive map by a masked net."""
    return Part(as_flow(Autoregressive(transform, net.make)), {"net": net.params})


# ---------------------------------------------------------------------------------------- nets


def mlp(layers: Sequence[Dense], activation: Activation) -> Net:
    """An `MLP` of dense layers; narrower ones are filled up with units of zero weights."""
    width = max((len(layer.bias) for layer in layers[:-1]), default=1)
    *hidden, out = layers
    params: dict[str, Any] = {}
    for number, layer in enumerate(hidden, 1):
        inputs = layer.weight.shape[0] if number == 1 else width
        params[f"dense{number}"] = kernel(filled(layer, inputs, width))
    last = filled(out, width if hidden else out.weight.shape[0], len(out.bias))
    make = functools.partial(MLP, width=width, depth=len(hidden), activation=activation)
    return Net(make, params | {"out": _out(last)})


def residual_mlp(
    first: Dense, blocks: Sequence[Sequence[Dense]], out: Dense, activation: Activation
) -> Net:
    """An `MLP` of residual blocks."""
    params = {"dense": kernel(first), "out": _out(out)}
    for number, block in enumerate(blocks, 1):
        for half, layer in enumerate(block, 1):
            params[f"block{number}_dense{half}"] = kernel(layer)
    make = functools.partial(
        MLP, width=len(first.bias), depth=len(blocks), activation=activation, residual=True
    )
    return Net(make, params)


class Masked(NamedTuple):
    """A hidden layer of a masked net, with zeros where it is masked.

    Attributes:
        degrees: of its units, 1 … D - 1: how many inputs each may know.
    """

    dense: Dense
    degrees: np.ndarray


def made(
    hidden: Sequence[Masked], out: Dense, activation: Activation, *, residual: bool = False
) -> Net:
    """A `MADE` of masked layers of D inputs in their natural order, one weight width for all.

    Units go to their degree's places in a `MADE`, as many for each degree as the degree with most
    units has. What is left has weights of zero, and so have the direct connections.

    Args:
        hidden: layers in order, of which the first sees the inputs; with `residual` the others
            are pairs, those of the blocks.
        out: to `[D·features]`, those of an input side by side.
    """
    size = hidden[0].dense.weight.shape[0]
    most = max(np.bincount(layer.degrees).max() for layer in hidden)
    width, known, params = most * (size - 1), np.arange(size - 1), {}
    count = size - 1  # of the inputs: no output may see the last of them
    names = layer_names(len(hidden), residual=residual)
    for name, layer in zip(names, hidden, strict=True):
        places = _places(layer.degrees, width, size - 1)
        dense = Dense(layer.dense.weight[: len(known)], layer.dense.bias)
        params[name] = moved(dense, known, count, places, width)._asdict()
        known, count = places, width
    last = moved(out, known, width, np.arange(len(out.bias)), len(out.bias))
    direct = np.zeros((size - 1, len(out.bias)))
    last = Dense(np.concatenate([last.weight, direct]), last.bias)
    depth = (len(hidden) - 1) // 2 if residual else len(hidden)
    make = functools.partial(
        MADE, width=width, depth=depth, activation=activation, residual=residual
    )
    return Net(make, params | {"out": _out(last)})


def layer_names(count: int, *, residual: bool) -> list[str]:
    """Of the hidden layers of a masked net; of residual blocks, two each after the first."""
    if not residual:
        return [f"dense{number}" for number in range(1, count + 1)]
    pairs = range(2, count + 1)
    return ["dense", *(f"block{n // 2}_dense{n % 2 + 1}" for n in pairs)]


def _places(degrees, width, count):
    """Where units go, so that their degrees are those of a `MADE`."""
    free = {degree: list(np.flatnonzero(1 + spread(width, count) == degree)) for degree in degrees}
    return np.array([free[degree].pop(0) for degree in degrees])


def moved(dense: Dense, rows: np.ndarray, inputs: int, columns: np.ndarray, outputs: int) -> Dense:
    """A dense layer with its inputs and outputs put elsewhere, among zeros."""
    weight, bias = np.zeros((inputs, outputs)), np.zeros(outputs)
    weight[np.ix_(rows, columns)] = dense.weight
    bias[columns] = dense.bias
    return Dense(weight, bias)


def filled(dense: Dense, inputs: int, outputs: int) -> Dense:
    """A dense layer with zeros for what it lacks of inputs and outputs."""
    return moved(dense, np.arange(len(dense.weight)), inputs, np.arange(len(dense.bias)), outputs)


def outputs(dense: Dense, order: Any, scale: Any = 1.0, offset: Any = 0.0) -> Dense:
    """The outputs `order` of a dense layer, times `scale`, plus `offset`."""
    return Dense(dense.weight[..., order] * scale, dense.bias[order] * scale + offset)


def beside(a: Dense, b: Dense, *, shared_input: bool) -> Dense:
    """Two dense layers as one, of the same input or of inputs side by side."""
    bias = np.concatenate([a.bias, b.bias])
    if shared_input:
        return Dense(np.concatenate([a.weight, b.weight], axis=1), bias)
    above = np.pad(a.weight, ((0, 0), (0, len(b.bias))))
    return Dense(np.concatenate([above, np.pad(b.weight, ((0, 0), (len(a.bias), 0)))]), bias)


def kernel(dense: Dense) -> dict[str, np.ndarray]:
    """A dense layer as a `Dense` of Flax keeps it."""
    return {"kernel": dense.weight, "bias": dense.bias}


def _out(dense):
    return dense._asdict() | {"log_scale": np.zeros_like(dense.bias)}


# ------------------------------------------------------------------------- planar and radial


def planar(w: np.ndarray, u: np.ndarray, b: np.ndarray) -> Part:
    """z = x + u·tanh(wᵀx + b), for a u with wᵀu > -1, as `constrain` makes."""
    along = w / np.maximum(np.dot(w, w), np.finfo(w.dtype).tiny)
    slope = 1 + np.dot(w, u)
    product = slope - 1 if slope > 1 else 1 - 1 / slope  # what `constrain` makes this slope of
    free = u + (product - np.dot(w, u)) * along
    return Part(as_flow(Planar()), {"w": w, "u": free, "b": np.reshape(b, ())})


def radial(centre: np.ndarray, alpha: float, gamma: float) -> Part:
    """z = x + (γ - α)/(α + r)·(x - centre), r = ‖x - centre‖, for positive α and γ."""
    raw_alpha, raw_beta = (value + np.log(-np.expm1(-value)) for value in (alpha, gamma))
    params = {"centre": centre, "raw_alpha": raw_alpha, "raw_beta": raw_beta}
    return Part(as_flow(Radial()), params)
