"""Nets and splines of torch, as nflows has them and normflows took them over.

What is read is checked: a net that became ours must compute what it did before.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.bijections.scalar.spline import rational_quadratic
from glowjax.checks import require
from glowjax.interop import conditional_nets, parts
from glowjax.interop.parts import Dense, Masked, Net, Part
from glowjax.nets.activations import ACTIVATIONS, Activation, leaky_relu


def array(tensor: Any) -> np.ndarray:
    """A tensor, or what NumPy takes, as float64."""
    detached = tensor.detach().cpu() if hasattr(tensor, "detach") else tensor
    return np.asarray(detached, np.float64)


def dense(layer: Any) -> Dense:
    """A `torch.nn.Linear`."""
    weight = array(layer.weight).T
    bias = np.zeros(weight.shape[1]) if layer.bias is None else array(layer.bias)
    return Dense(weight, bias)


def activation(function: Any) -> Activation:
    """The activation that computes what a function of torch does, at some points.

    Raises:
        ValueError: it is none of those that are known.
    """
    import torch

    points = np.linspace(-5, 5, 41)
    values = array(function(torch.tensor(points)))
    with jax.enable_x64(True):
        for known, candidate in ACTIVATIONS.items():
            if np.allclose(candidate(jnp.asarray(points)), values, rtol=1e-6, atol=1e-6):
                return known
    slope = float(values[0] / points[0])
    if np.allclose(np.where(points > 0, points, slope * points), values):
        return functools.partial(leaky_relu, slope=slope)
    raise ValueError(
        "activation must be ReLU, leaky ReLU, tanh, ELU, SiLU, GELU, sigmoid or softplus,"
        f" got {name(function)}"
    )


def name(thing: Any) -> str:
    """Of a function or of an object's class."""
    return getattr(thing, "__name__", type(thing).__name__)


def conditioner(net: Any, change: Callable[[Dense], Dense]) -> Net:
    """A net of vectors: a `ResidualNet`, or linear layers with activations in between.

    Args:
        net: it, or a module that wraps it.
        change: of the last layer.

    Raises:
        ValueError: it is another net, has a part that is not carried over, or does not compute
            what its layers do.
    """
    module = unwrapped(net)
    if "ResidualNet" in _kinds(module):
        made = [_residual_net(module, each) for each in (_unchanged, change)]
    else:
        layers, function = dense_layers(module)
        *hidden, out = layers
        made = [parts.mlp([*hidden, each(out)], function) for each in (_unchanged, change)]
    _check_same(net, made[0], features=None)
    return made[1]


def inputs(net: Any) -> int:
    """How many numbers a net sees, without its context."""
    first = next(module.in_features for module in net.modules() if hasattr(module, "in_features"))
    appended = any("ResidualNet" in _kinds(module) for module in net.modules())
    return first - context_size(net) * appended


def context_size(net: Any) -> int:
    """How many numbers a net's context has, 0 without one."""
    layers = (getattr(module, "context_layer", None) for module in net.modules())
    return next((layer.in_features for layer in layers if layer is not None), 0)


def _unchanged(out: Dense) -> Dense:
    return out


def _kinds(net: Any) -> set[str]:
    return {kind.__name__ for kind in type(net).__mro__}


def unwrapped(net: Any) -> Any:
    """What is in a module that wraps a net that is known.

    Raises:
        ValueError: there is none in it.
    """
    while not (_kinds(net) & {"ResidualNet", "Sequential"} or hasattr(net, "_input_layer")):
        children = list(net.children())
        require(len(children) == 1, "net", name(net), "a ResidualNet, an MLP or a Sequential")
        net = children[0]
    return net


def dense_layers(net: Any) -> tuple[list[Dense], Activation]:
    """The linear layers of a `Sequential`, or an `MLP` of nflows, and the activation in between.

    Raises:
        ValueError: there is another layer, or there are several activations.
    """
    if hasattr(net, "_input_layer"):  # nflows' MLP
        layers = [net._input_layer, *net._hidden_layers, net._output_layer]
        return list(map(dense, layers)), activation(net._activation)
    wanted = "a Sequential of Linear layers with one activation in between, Linear last"
    modules = [module for module in net if name(module) not in ("Dropout", "Identity")]
    layers, functions = modules[::2], [activation(function) for function in modules[1::2]]
    linear = all(name(layer) == "Linear" for layer in layers) and len(modules) % 2 == 1
    same = all(alike(function, functions[0]) for function in functions)
    require(linear and same, "net", ", ".join(map(name, modules)), wanted)
    return list(map(dense, layers)), functions[0] if functions else "relu"


def alike(a: Any, b: Any) -> bool:
    """Whether two activations are the same function, or the same with the same options."""
    parts_of = [(getattr(f, "func", f), getattr(f, "keywords", None)) for f in (a, b)]
    return parts_of[0] == parts_of[1]


def _check_same(net: Any, converted: Net, features: int | None) -> None:
    """Raises `ValueError` unless a net of torch and what became of it compute the same."""
    import torch

    rng, dtype = np.random.default_rng(0), next(net.parameters()).dtype
    x, context = (rng.normal(size=(8, size)) for size in (inputs(net), context_size(net)))
    seen = torch.tensor(context, dtype=dtype) if context.size else None  # as nflows calls it
    with torch.no_grad():
        try:
            expected = array(net(torch.tensor(x, dtype=dtype), seen))
        except TypeError:
            expected = array(net(torch.tensor(x, dtype=dtype)))
    with jax.enable_x64(True):
        module = converted.make(features=features or expected.shape[1])
        given = map(jnp.asarray, (x, context) if context.size else (x,))
        y = module.apply({"params": converted.params}, *given).reshape(len(x), -1)
    same = y.shape == expected.shape and np.allclose(y, expected, rtol=1e-4, atol=1e-4)
    require(same, "net", name(net), "one that computes what its layers do")


def _residual_net(net, change):
    _check_plain(net, net.blocks)
    blocks = [list(map(dense, block.linear_layers)) for block in net.blocks]
    functions = [block.activation for block in net.blocks]
    function = activation(functions[0]) if functions else "relu"
    first, out = dense(net.initial_layer), change(dense(net.final_layer))
    if not context_size(net):
        return parts.residual_mlp(first, blocks, out, function)
    gates = [dense(block.context_layer) for block in net.blocks]
    return conditional_nets.gated_residual_mlp(first, blocks, gates, out, function)


def masked_net(net: Any, change: Callable[[Dense], Dense]) -> Net:
    """A `MADE` of torch, of residual or plain blocks.

    Args:
        change: of the last layer.

    Raises:
        ValueError: it has a part that is not carried over, or less than two inputs.
    """
    _check_plain(net, net.blocks)
    size = inputs(net)
    require(size > 1, "MADE", f"{size} input", "one of 2 inputs or more")
    require(len(net.blocks) > 0, "MADE", "0 blocks", "one of 1 block or more")
    natural = np.array_equal(net.final_layer.degrees.unique_consecutive(), np.arange(size) + 1)
    refuse(not natural, "MADE", "a permutation of its inputs")
    made = [_masked(net, each) for each in (_unchanged, change)]
    _check_same(net, made[0], features=net.final_layer.out_features // size)
    return made[1]


def _masked(net, change):
    residual = hasattr(net.blocks[0], "linear_layers")
    layers = [net.initial_layer]
    for block in net.blocks:
        layers += list(block.linear_layers) if residual else [block.linear]
    hidden = [Masked(_masked_dense(layer), layer.degrees.numpy()) for layer in layers]
    out, function = change(_masked_dense(net.final_layer)), activation(net.blocks[0].activation)
    if not context_size(net):
        return parts.made(hidden, out, function, residual=residual)
    contexts = [dense(net.context_layer)]
    contexts += [dense(block.context_layer) for block in net.blocks if residual]
    kind = "nflows" if parts.is_of("nflows", net) else "normflows"
    return conditional_nets.context_made(hidden, contexts, out, function, kind)


def _masked_dense(layer):
    return Dense((array(layer.weight) * array(layer.mask)).T, array(layer.bias))


def _check_plain(net: Any, blocks: Sequence[Any]) -> None:
    """Raises `ValueError` unless a net is without batch normalisation and preprocessing."""
    for part in (net, *blocks):
        normalised = getattr(part, "use_batch_norm", False) or getattr(part, "batch_norm", None)
        refuse(normalised, name(net), "batch normalisation")
    preprocessing = getattr(net, "preprocessing", None)
    plain = preprocessing is None or name(preprocessing) == "Identity"
    refuse(not plain, name(net), "preprocessing")


def refuse(found: Any, part: str, what: str) -> None:
    """Raises `ValueError`, which names a part and what of it cannot be carried over, if found."""
    if found:
        raise ValueError(f"{part} must be one that glowjax has, got one with {what}")


class Spline:
    """A rational-quadratic spline with linear tails, and how its parameters become ours.

    Args:
        part: what has `tail_bound`, `min_bin_width`, `min_bin_height`, `min_derivative`.
        bins: their number.

    Raises:
        ValueError: its tails are not linear, or its least width and height of a bin differ.
    """

    def __init__(self, part: Any, bins: int):
        refuse(part.tails != "linear", name(part), f"tails={part.tails!r}, which is not 'linear'")
        same = part.min_bin_width == part.min_bin_height
        refuse(not same, name(part), "min_bin_width other than min_bin_height")
        self.bins, self.min_slope = bins, part.min_derivative
        self.bound, self.min_bin = float(part.tail_bound), part.min_bin_width

    @property
    def transform(self) -> Elementwise:
        """The map of a number."""
        return rational_quadratic(
            self.bins,
            bound=self.bound,
            min_bin=2 * self.bound * self.min_bin,  # theirs is a share of the interval
            min_slope=self.min_slope,
        )

    def change(self, out: Dense, hidden: float | None) -> Dense:
        """The last layer of a net of `hidden` units, by whose root widths and heights go."""
        numbers = len(out.bias) // (3 * self.bins - 1)
        scale, offset = np.ones(3 * self.bins - 1), np.zeros(3 * self.bins - 1)
        scale[: 2 * self.bins] = 1 if hidden is None else hidden**-0.5
        offset[2 * self.bins :] = -np.log(np.expm1(1 - self.min_slope))  # ours is 1 at raw = 0
        return parts.outputs(out, slice(None), np.tile(scale, numbers), np.tile(offset, numbers))

    def raw(self, part: Any) -> np.ndarray:
        """The parameters of a spline without a net, `[D, size]`."""
        slopes = array(part.unnormalized_derivatives) - np.log(np.expm1(1 - self.min_slope))
        widths, heights = array(part.unnormalized_widths), array(part.unnormalized_heights)
        return np.concatenate([widths, heights, slopes], axis=-1)


# ------------------------------------------------ transforms that nflows and normflows have both


def coupling(transform: Any, mapping: Elementwise, change: Callable[[Dense], Dense]) -> Part:
    """A coupling by a mapping; `change` is of the last layer of its net."""
    own = transform.unconditional_transform
    return parts.coupling(
        mapping,
        conditioner(transform.transform_net, change),
        transform.identity_features.numpy(),
        transform.transform_features.numpy(),
        None if own is None else elementwise_spline(own),
    )


def spline_coupling(transform: Any) -> Part:
    """A coupling by splines."""
    spline = Spline(transform, transform.num_bins)
    hidden = getattr(transform.transform_net, "hidden_features", None)
    return coupling(transform, spline.transform, lambda out: spline.change(out, hidden))


def elementwise_spline(transform: Any) -> Part:
    """A spline of each number, with its own parameters."""
    kind = name(transform)
    require(kind == "PiecewiseRationalQuadraticCDF", "unconditional_transform", kind, "a spline")
    spline = Spline(transform, transform.unnormalized_widths.shape[-1])
    return parts.elementwise(spline.transform, spline.raw(transform))


def masked_spline(transform: Any) -> Part:
    """An autoregressive map by splines."""
    spline, net = Spline(transform, transform.num_bins), transform.autoregressive_net
    hidden = getattr(net, "hidden_features", None)
    return parts.autoregressive(
        spline.transform, masked_net(net, lambda out: spline.change(out, hidden))
    )


def masked_affine(transform: Any, scale: Elementwise) -> Part:
    """An autoregressive affine map, whose net gives raw scales before shifts."""
    size = transform.features
    order = np.arange(2 * size).reshape(size, 2)[:, ::-1].ravel()
    net = masked_net(transform.autoregressive_net, lambda out: parts.outputs(out, order))
    return parts.autoregressive(scale, net)


def dtype_of(model: Any) -> type:
    """The dtype of a model's parameters: float64 if one of them is."""
    double = any("float64" in str(tensor.dtype) for tensor in model.parameters())
    return np.float64 if double else np.float32
