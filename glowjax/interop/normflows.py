"""Trained flows of normflows as flows of glowjax.

    flow, params = from_normflows(trained)  # a normflows.NormalizingFlow
    log_prob = glowjax.density(flow, event_shape=(D,)).log_prob(params, x)

A flow's `forward` goes from latents to data there, and from data to latents in glowjax.
"""

from typing import Any

import numpy as np

from glowjax.bijections.elementwise import additive, affine
from glowjax.checks import require
from glowjax.flow import Flow
from glowjax.interop import parts, torch_nets
from glowjax.interop.parts import Dense, Part, kind
from glowjax.interop.torch_nets import array, refuse
from glowjax.nets.activations import Activation


def from_normflows(model: Any) -> tuple[Flow, Any]:
    """A trained `NormalizingFlow` of vectors, conditional or not, and its parameters.

    Log-likelihoods are equal, with `glowjax.standard_normal` as the base, up to rounding; a
    learned `DiagGaussian` base becomes the last part of the flow. `Planar` and `Radial`, which have
    no inverse there, have one here. docs/other-libraries.md lists what can be converted.

    Args:
        model: on a `DiagGaussian`.

    Returns:
        `(flow, params)`: forward goes from data to latents.

    Raises:
        ValueError: a part cannot be converted; the message names it.

    Source: https://github.com/VincentStimper/normalizing-flows, version 1.7.3.
    """
    known = kind(model) in ("NormalizingFlow", "ConditionalNormalizingFlow")
    ours = parts.is_of("normflows", model) and known
    require(ours, "model", kind(model), "a NormalizingFlow of normflows, conditional or not")
    base = kind(model.q0)
    require(base == "DiagGaussian", "model", f"the base {base}", "one of base DiagGaussian")
    refuse(model.q0.temperature is not None, "DiagGaussian", "a temperature")
    found = [_part(flow) for flow in reversed(model.flows)]
    loc, log_scale = array(model.q0.loc)[0], array(model.q0.log_scale)[0]
    if np.any(loc) or np.any(log_scale):
        found.append(_unscaled(loc, log_scale))
    return parts.converted(parts.in_order(found), torch_nets.dtype_of(model))


def _part(flow: Any) -> Part:
    """A flow of normflows in the direction from data to latents."""
    return parts.converter(CONVERTERS, "normflows", "flow", flow)(flow)


def _unscaled(shift: np.ndarray, log_scale: np.ndarray) -> Part:
    """z = (x - shift)·exp(-log_scale)."""
    return parts.normalization(-log_scale, -shift * np.exp(-log_scale))


def _constant(flow):
    done = getattr(flow, "data_dep_init_done", True)  # else the next batch initialises it
    refuse(not done, kind(flow), "no initialisation by data yet")
    require(flow.s.ndim == 2, kind(flow), tuple(flow.s.shape[1:]), "of vectors: a shape of a size")
    return _unscaled(array(flow.t)[0], array(flow.s)[0])


def _permute(flow):
    channels = np.arange(flow.num_channels)
    half = (flow.num_channels + 1) // 2
    swapped = np.concatenate([channels[half:], channels[:half]])
    return parts.permutation(flow.inv_perm.numpy() if flow.mode == "shuffle" else swapped)


def _lu_linear_permute(flow):
    linear = flow.linear
    dense = Dense(array(linear.weight()).T, array(linear.bias))
    return parts.in_order([parts.permutation(flow.permutation._permutation), parts.linear(dense)])


def _invertible_affine(flow):
    weight = array(flow._assemble_W() if flow.use_lu else flow.W)
    return parts.linear(Dense(weight, np.zeros(len(weight))))


def _planar(flow):
    refuse(flow.act != "tanh", "Planar", f"act={flow.act!r}, which is not 'tanh'")
    w, u, b = (array(value).reshape(-1) for value in (flow.w, flow.u, flow.b))
    product = np.dot(w, u)
    u = u + (np.logaddexp(0, product) - 1 - product) * w / np.dot(w, w)
    return parts.inverted(parts.planar(w, u, b))


def _radial(flow):
    alpha, beta = np.abs(array(flow.alpha)), array(flow.beta)
    gamma = np.logaddexp(0, beta)
    return parts.inverted(parts.radial(array(flow.z_0)[0], alpha[0], gamma[0]))


def _masked_affine(flow):
    """z = (x - t)·exp(-s) where the mask is 0; t and s are nets of the numbers where it is 1."""
    mask = array(flow.b)[0]
    binary = mask.ndim == 1 and np.all((mask == 0) | (mask == 1))
    require(binary, "MaskedAffineFlow", f"a mask {mask.tolist()}", "one of a mask of 0 and 1")
    passing, mapped = np.flatnonzero(mask == 1), np.flatnonzero(mask == 0)
    nets = {name: net for name, net in (("t", flow.t), ("s", flow.s)) if hasattr(net, "parameters")}
    require(nets, "MaskedAffineFlow", "neither t nor s", "one with a net")
    layers, activation = _side_by_side([_restricted(n, passing, mapped) for n in nets.values()])
    *hidden, out = layers
    if "s" not in nets:
        mapping, out = additive(), parts.outputs(out, slice(None), -1.0)
    else:
        mapping, out = affine(), _minus_both(out, len(mapped), shifted="t" in nets)
    return parts.coupling(mapping, parts.mlp([*hidden, out], activation), passing, mapped)


def _minus_both(out: Dense, count: int, *, shifted: bool) -> Dense:
    """Minus shifts and log-scales, side by side for each number; without a net, shifts are 0."""
    if not shifted:
        out = parts.beside(parts.outputs(out, slice(None), 0.0), out, shared_input=True)
    order = parts.alternating(*np.split(np.arange(2 * count), 2))
    return parts.outputs(out, order, -1.0)


Layers = tuple[list[Dense], Activation]  # and the activation in between


def _restricted(net: Any, passing: np.ndarray, mapped: np.ndarray) -> Layers:
    """The layers of a net of all numbers, for the inputs and the outputs that matter."""
    torch_nets.conditioner(net, lambda out: out)  # it can be carried over
    layers, activation = torch_nets.dense_layers(torch_nets.unwrapped(net))
    first = layers[0]
    layers[0] = Dense(first.weight[passing], first.bias)
    layers[-1] = parts.outputs(layers[-1], mapped)
    return layers, activation


def _side_by_side(nets: list[Layers]) -> Layers:
    """One net of one or two, which see the same input and do not see each other."""
    if len(nets) == 1:
        return nets[0]
    (first, activation), (second, other) = nets
    alike = len(first) == len(second) and torch_nets.alike(activation, other)
    require(alike, "MaskedAffineFlow", "t and s that differ", "nets of one depth and activation")
    joint = [
        parts.beside(a, b, shared_input=number == 0)
        for number, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    return joint, activation


def _affine_coupling(flow):
    split, coupling = flow.flows[0].mode, flow.flows[1]
    require(split in ("channel", "channel_inv"), "split_mode", split, "'channel' or 'channel_inv'")
    signs, mapping, inverse = _scale(coupling)
    made = torch_nets.conditioner(
        coupling.param_map,
        lambda out: parts.outputs(out, slice(None), np.tile(signs, len(out.bias) // len(signs))),
    )
    count = len(made.params["out"]["bias"]) // len(signs)
    ends = np.arange(count + torch_nets.inputs(coupling.param_map))
    passing, mapped = ends[:-count], ends[-count:]
    if split == "channel_inv":
        passing, mapped = ends[count:], ends[:count]
    part = parts.coupling(mapping, made, passing, mapped)
    return parts.inverted(part) if inverse else part


def _scale(coupling: Any) -> tuple[list[float], Any, bool]:
    """Signs of the outputs of one number, the mapping, and whether it is the other way round."""
    if not coupling.scale:
        return [-1.0], additive(), False
    maps = {
        "exp": ([-1.0, -1.0], affine(), False),
        "sigmoid": ([-1.0, 1.0], affine(scale="sigmoid"), False),
        "sigmoid_inv": ([1.0, 1.0], affine(scale="sigmoid", shift="last"), True),
    }
    return maps[coupling.scale_map]


def _masked_autoregressive(flow):
    scale = affine(scale="sigmoid", least=1e-3, shift="last")
    return parts.inverted(torch_nets.masked_affine(flow, scale))


CONVERTERS = {
    "ActNorm": _constant,
    "AffineConstFlow": _constant,
    "AffineCouplingBlock": _affine_coupling,
    "AutoregressiveRationalQuadraticSpline": lambda flow: torch_nets.masked_spline(flow.mprqat),
    "CoupledRationalQuadraticSpline": lambda flow: torch_nets.spline_coupling(flow.prqct),
    "InvertibleAffine": _invertible_affine,
    "LULinearPermute": _lu_linear_permute,
    "MaskedAffineAutoregressive": _masked_autoregressive,
    "MaskedAffineFlow": _masked_affine,
    "Permute": _permute,
    "Planar": _planar,
    "Radial": _radial,
}
