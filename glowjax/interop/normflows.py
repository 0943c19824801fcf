"""Trained flows of normflows as flows of glowjax.

    flow, params = from_normflows(trained)  # a normflows.NormalizingFlow
    log_prob = glowjax.density(flow, event_shape=(D,)).log_prob(params, x)

A flow's `forward` goes from latents to data there, and from data to latents in glowjax.
"""

import itertools
from typing import Any

import numpy as np

from glowjax.bijections.scalar.elementwise import additive, affine
from glowjax.checks import check_choice, require
from glowjax.flow import Flow
from glowjax.interop import image_parts, parts, torch_nets
from glowjax.interop import normflows_images as images
from glowjax.interop.image_parts import Gaussian
from glowjax.interop.parts import Dense, Part, kind
from glowjax.interop.torch_nets import array, refuse
from glowjax.nets.activations import Activation


def from_normflows(model: Any) -> tuple[Flow, Any]:
    """A trained flow of vectors or images, conditional or not, and its parameters.

    Log-likelihoods are equal, with `glowjax.standard_normal` as the base, up to rounding: learned
    bases become a part of the flow. `Planar` and `Radial`, which have no inverse there, have one
    here. docs/other-libraries.md lists what can be converted.

    Images are `[B, H, W, C]` here, and `[B, C, H, W]` there. The latents of a `MultiscaleFlow` are
    whitened, and in the order in which they leave, the top one last: the library's lists go the
    other way. `GlowBlock`s in a row that are alike become one loop.
    Bases of classes take labels as `context: [B]`, integers.

    Args:
        model: a `NormalizingFlow`, `ConditionalNormalizingFlow`, `ClassCondFlow` or
            `MultiscaleFlow`, on normal bases.

    Returns:
        `(flow, params)`: forward goes from data to latents; those of a `MultiscaleFlow` are a tuple
        of one array a level.

    Raises:
        ValueError: a part cannot be converted; the message names it.

    Source: https://github.com/VincentStimper/normalizing-flows, version 1.7.3.
    """
    ours = parts.is_of("normflows", model) and kind(model) in MODELS
    *names, last = MODELS
    require(ours, "model", kind(model), f"a {', '.join(names)} or {last} of normflows")
    return parts.converted(MODELS[kind(model)](model), torch_nets.dtype_of(model))


def _flow(model):
    gaussian = images.gaussian(model.q0)
    labelled = gaussian.by_class and kind(model) != "ClassCondFlow"
    refuse(labelled, kind(model), f"a {kind(model.q0)} of classes as its base")
    return parts.in_order([*_parts(model.flows), *_whitening(gaussian)])


def _multiscale(model):
    """There, levels are in the order from latents to data."""
    count = len(model.q0)
    lengths = len(model.flows), len(model.merges)
    fits = lengths == (count, count - 1)
    require(fits, "MultiscaleFlow", lengths, f"of {count} lists of flows and {count - 1} merges")
    top, *gaussians = map(images.gaussian, model.q0)
    labelled = any(gaussian.by_class for gaussian in (top, *gaussians))
    refuse(
        labelled and not model.class_cond,
        "MultiscaleFlow",
        "class_cond=False and a base of classes",
    )
    splits = list(map(images.split, model.merges, gaussians))[::-1]
    levels = [_parts(flows) for flows in model.flows][::-1]
    levels[-1] += _whitening(top)
    whole = image_parts.in_levels([parts.in_order(level) for level in levels], splits)
    transform = [] if model.transform is None else [_part(model.transform)]
    return parts.in_order([*transform, whole])


def _whitening(gaussian: Gaussian) -> list[Part]:
    return [] if gaussian.standard else [image_parts.whitening(gaussian)]


def _parts(flows: Any) -> list[Part]:
    """Flows in the direction from data to latents."""
    found = []
    for name, run in itertools.groupby(reversed(flows), kind):
        converted = list(map(_part, run))
        found += parts.looped(converted) if name == "GlowBlock" else converted
    return found


def _part(flow: Any) -> Part:
    """A flow of normflows in the direction from data to latents."""
    return parts.converter(CONVERTERS, "normflows", "flow", flow)(flow)


def _constant(flow):
    images.check_initialised(flow)
    shape = tuple(flow.s.shape[1:])
    require(
        len(shape) in (1, 3), kind(flow), shape, "of vectors or images: a shape of 1 or 3 sizes"
    )
    shift, log_scale = (images.channels_last(array(each)[0]) for each in (flow.t, flow.s))
    return image_parts.whitening(Gaussian(shift, log_scale))


def _glow_block(flow):
    return parts.in_order([_part(each) for each in reversed(flow.flows)])


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
    convolved = images.is_conv_net(coupling.param_map)
    modes = images.SPLIT_MODES if convolved else images.SPLIT_MODES[:2]
    check_choice("split_mode", split, modes)
    signs, mapping, inverse = _scale(coupling)
    others = not convolved and images.convolves(coupling.param_map)
    refuse(others, kind(coupling.param_map), "convolutions, and no ConvNet2d")
    nets = images if convolved else torch_nets
    made = nets.conditioner(
        coupling.param_map,
        lambda out: parts.outputs(out, slice(None), np.tile(signs, len(out.bias) // len(signs))),
    )
    count = len(made.params["out"]["bias"]) // len(signs)
    ends = np.arange(count + nets.inputs(coupling.param_map))
    passing, mapped = ends[:-count], ends[-count:]
    if split.endswith("_inv"):
        passing, mapped = ends[count:], ends[:count]
    part = parts.coupling(mapping, made, passing, mapped)
    part = parts.inverted(part) if inverse else part
    return images.on_checkerboard(part) if split.startswith("checkerboard") else part


def _scale(coupling: Any) -> tuple[list[float], Any, bool]:
    """Signs of the outputs of one number, the mapping, and whether it is the other way round."""
    if not coupling.scale:
        return [-1.0], additive(), False
    maps = {
        "exp": ([-1.0, -1.0], affine(), False),
        "sigmoid": ([-1.0, 1.0], affine(scale="sigmoid"), False),
        "sigmoid_inv": ([1.0, 1.0], affine(scale="sigmoid", shift="last"), True),
    }
    check_choice("scale_map", coupling.scale_map, maps)
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
    "GlowBlock": _glow_block,
    "Invertible1x1Conv": images.mixing,
    "InvertibleAffine": _invertible_affine,
    "Logit": images.logit,
    "LULinearPermute": _lu_linear_permute,
    "MaskedAffineAutoregressive": _masked_autoregressive,
    "MaskedAffineFlow": _masked_affine,
    "Permute": _permute,
    "Planar": _planar,
    "Radial": _radial,
    "Shift": images.shift,
    "Squeeze": images.squeeze,
}
MODELS = {
    "NormalizingFlow": _flow,
    "ConditionalNormalizingFlow": _flow,
    "ClassCondFlow": _flow,
    "MultiscaleFlow": _multiscale,
}
