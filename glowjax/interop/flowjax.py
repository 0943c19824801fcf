"""Trained flows of FlowJAX as flows of glowjax.

    flow, params = from_flowjax(trained)  # a flowjax.distributions.Transformed
    log_prob = glowjax.density(flow, event_shape=(D,)).log_prob(params, x)

FlowJAX's `transform` goes from latents to data, and glowjax's `forward` from data to latents.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.scalar.elementwise import Elementwise, affine
from glowjax.bijections.scalar.spline import rational_quadratic
from glowjax.checks import require
from glowjax.flow import Flow
from glowjax.interop import parts
from glowjax.interop.parts import Dense, Masked, Part, kind
from glowjax.nets.activations import ACTIVATIONS, Activation

FAR = -1e4  # where a softplus is 0


def from_flowjax(model: Any) -> tuple[Flow, Any]:
    """A trained flow of FlowJAX, of vectors, and its parameters.

    Those that `coupling_flow`, `masked_autoregressive_flow` and `planar_flow` make, with affine or
    rational-quadratic transformers, and other chains of the same bijections. Log-likelihoods are
    equal, with `glowjax.standard_normal` as the base, up to rounding. Each layer becomes one part
    of a chain, since permutations, which differ from layer to layer, are constants in glowjax.

    Args:
        model: a `Transformed` distribution, or a chain of such, on a `StandardNormal`.

    Returns:
        `(flow, params)`: forward goes from data to latents.

    Raises:
        ValueError: a part cannot be converted, or takes a condition; the message names it.

    Source: https://github.com/danielward27/flowjax, version 19.
    """
    require(
        parts.is_of("flowjax", model), "model", kind(model), "a Transformed distribution of flowjax"
    )
    found: list[Part] = []
    floats = [leaf.dtype for leaf in jax.tree.leaves(model) if _is_floats(leaf)]
    while hasattr(model, "base_dist"):
        found += _parts(model.bijection, inverse=True)
        model = model.base_dist
    base = kind(model)
    require(base == "StandardNormal", "model", f"the base {base}", "one of base StandardNormal")
    return parts.converted(parts.in_order(found), np.result_type(np.float32, *floats))


def _is_floats(leaf):
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _parts(bijection: Any, *, inverse: bool) -> list[Part]:
    """What a bijection's transform, or its inverse, consists of, in order."""
    name = kind(bijection)
    if name == "Invert":
        return _parts(bijection.bijection, inverse=not inverse)
    if name in ("Chain", "Scan"):
        layers = bijection.bijections if name == "Chain" else _unstacked(bijection.bijection)
        ordered = layers[::-1] if inverse else layers
        return [part for layer in ordered for part in _parts(layer, inverse=inverse)]
    others = ("Chain", "Invert", "Scan")
    convert = parts.converter(CONVERTERS, "flowjax", "bijection", bijection, others)
    conditional = bijection.cond_shape is not None
    require(not conditional, "bijection", f"{name} with a condition", "one without a condition")
    part = convert(bijection)
    return [parts.inverted(part) if inverse else part]


def _unstacked(layers: Any) -> list[Any]:
    """The layers of a `Scan`, whose arrays are stacked."""
    arrays = [leaf for leaf in jax.tree.leaves(layers) if isinstance(leaf, jax.Array)]

    def layer(i):
        return jax.tree.map(lambda p: p[i] if isinstance(p, jax.Array) else p, layers)

    return [layer(i) for i in range(len(arrays[0]))]


def _array(value: Any) -> np.ndarray:
    """An array, or what is wrapped to become one, as float64."""
    return np.asarray(value.unwrap() if hasattr(value, "unwrap") else value, np.float64)


def _affine(bijection):
    shape = bijection.shape
    require(len(shape) == 1, "Affine", shape, "of vectors, so that its shape has one size")
    return parts.normalization(np.log(_array(bijection.scale)), _array(bijection.loc))


def _permute(bijection):
    return parts.permutation(np.asarray(bijection.permutation[0]))


def _flip(bijection):
    return parts.permutation(np.arange(bijection.shape[0])[::-1])


def _planar(bijection):
    smooth = bijection.negative_slope is None
    require(smooth, "Planar", "one with a leaky ReLU", "one with tanh, negative_slope=None")
    w, u, b = np.split(_array(bijection.params), [bijection.shape[0], 2 * bijection.shape[0]])
    product = np.dot(w, u)
    u = u + (np.log1p(np.logaddexp(0, product)) - 1 - product) * w / np.dot(w, w)
    return parts.planar(w, u, b)


def _coupling(bijection):
    net, passing = bijection.conditioner, bijection.untransformed_dim
    mapped = np.arange(passing, bijection.dim)
    transformer = _transformer(bijection.transformer_constructor, net.out_size // len(mapped))
    *hidden, out = [Dense(_array(layer.weight).T, _array(layer.bias)) for layer in net.layers]
    layers = [*hidden, transformer.change(out)]
    return parts.coupling(
        transformer.transform, parts.mlp(layers, _activation(net)), np.arange(passing), mapped
    )


def _masked_autoregressive(bijection):
    net, size = bijection.masked_autoregressive_mlp, bijection.shape[0]
    transformer = _transformer(bijection.transformer_constructor, net.out_size // size)
    *hidden, out = [Dense(_array(layer.weight).T, _array(layer.bias)) for layer in net.layers]
    degrees = 1 + np.arange(net.width_size) % (size - 1)
    masked = [Masked(layer, degrees) for layer in hidden]
    made = parts.made(masked, transformer.change(out), _activation(net))
    return parts.autoregressive(transformer.transform, made)


def _activation(net: Any) -> Activation:
    """The name of a net's activation, or the function itself."""
    points = np.linspace(-3, 3, 7)
    plain = np.allclose(net.final_activation(points), points)
    require(plain, "MLP", "a final_activation", "one whose last layer is linear")
    learned = any(map(_is_floats, jax.tree.leaves(net.activation)))
    require(not learned, "MLP", "an activation with parameters", "one of a plain activation")
    names = [name for name, function in ACTIVATIONS.items() if function is net.activation]
    return names[0] if names else net.activation


class Transformer(NamedTuple):
    """A map of single numbers, and what is added to the raw parameters of one."""

    transform: Elementwise
    offset: np.ndarray

    def change(self, out: Dense) -> Dense:
        """The last layer of a net that makes the parameters."""
        numbers = len(out.bias) // len(self.offset)
        return parts.outputs(out, slice(None), offset=np.tile(self.offset, numbers))


def _transformer(constructor: Callable[[jax.Array], Any], size: int) -> Transformer:
    """What a constructor makes of raw parameters, from what it makes of zeros."""
    found = constructor(jnp.zeros(size))
    makers = {"Affine": _affine_transformer, "RationalQuadraticSpline": _spline_transformer}
    name = kind(found)
    require(name in makers, "transformer", name, f"one of {', '.join(makers)}")
    made = makers[name](found)
    sizes = (len(made.offset), made.transform.size)
    require(sizes == (size, size), "transformer", f"{size} parameters", f"one of {sizes[0]}")
    return made


def _affine_transformer(found):
    least = _least(found.scale)
    offset = np.array([_array(found.loc), _array(found.scale.args[0])])
    return Transformer(affine(scale="softplus", least=least, shift="last"), offset)


def _spline_transformer(found):
    low, high = found.interval
    require(low == -high, "interval", found.interval, "the same to both sides of 0")
    min_bin, min_slope = found.x_pos.min_width, _least(found.derivatives)
    require(found.y_pos.min_width == min_bin, "min_width", min_bin, "the same of both axes")
    slopes = _array(found.derivatives.args[0]) - np.log(np.expm1(1 - min_slope))
    offset = np.concatenate([_array(found.x_pos.arr), _array(found.y_pos.arr), slopes])
    transform = rational_quadratic(
        found.knots + 1,
        bound=float(high),
        min_bin=min_bin,
        min_slope=min_slope,
        end_slopes="learned",
    )
    return Transformer(transform, offset)


def _least(wrapped: Any) -> float:
    """The c of a parameter that is softplus of a number, plus c.

    Raises:
        ValueError: it is another function of it.
    """
    points = np.linspace(-5, 5, 11)
    with jax.enable_x64(True):
        least = float(wrapped.fn(jnp.asarray(FAR)))
        values = np.asarray(wrapped.fn(jnp.asarray(points)))
    softplus = np.allclose(values, np.logaddexp(0, points) + least, rtol=1e-9)
    require(softplus, "transformer", "another function", "one whose scale is a softplus")
    return least


CONVERTERS = {
    "Affine": _affine,
    "Coupling": _coupling,
    "Flip": _flip,
    "MaskedAutoregressive": _masked_autoregressive,
    "Permute": _permute,
    "Planar": _planar,
}
