"""What normflows has for images, `[B, C, H, W]` there, as parts of flows of `[B, H, W, C]`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import check_choice, require
from glowjax.flow import as_flow
from glowjax.interop import image_parts, parts, torch_nets
from glowjax.interop.image_parts import Gaussian
from glowjax.interop.parts import Dense, Net, Part, kind
from glowjax.interop.torch_nets import array, refuse
from glowjax.preprocess.interval import sigmoid
from glowjax.preprocess.scaling import fixed_affine

SPLIT_MODES = ("channel", "channel_inv", "checkerboard", "checkerboard_inv")


def channels_last(values: np.ndarray) -> np.ndarray:
    """`[C, ...]` as `[..., C]`."""
    return np.moveaxis(values, 0, -1)


def is_conv_net(net: Any) -> bool:
    """Whether a net is a `ConvNet2d` of normflows."""
    return parts.is_of("normflows", net) and kind(net) == "ConvNet2d"


def convolves(net: Any) -> bool:
    """Whether a net has a convolution."""
    return any(kind(module).startswith("Conv") for module in net.modules())


def conditioner(net: Any, change: Callable[[Dense], Dense]) -> Net:
    """A `ConvNet2d`; its ActNorms go into the weights and the biases.

    Args:
        net: as `is_conv_net` says.
        change: of the last layer.

    Raises:
        ValueError: its activations differ, or an ActNorm was never initialised.
    """
    layers, functions = [], []
    for module in net.net:
        if kind(module) == "Conv2d":
            layers.append(_conv(module))
        elif kind(module) == "ActNorm":
            layers[-1] = _normalised(layers[-1], module.actNorm)
        else:
            functions.append(torch_nets.activation(module))
    same = all(torch_nets.alike(function, functions[0]) for function in functions)
    require(same, "ConvNet2d", f"{len(functions)} that differ", "of one activation")
    *hidden, out = layers
    activation = functions[0] if functions else "relu"
    return image_parts.convolutions([*hidden, change(out)], activation)


def _conv(layer):
    weight = array(layer.weight).transpose(2, 3, 1, 0)
    bias = np.zeros(weight.shape[-1]) if layer.bias is None else array(layer.bias)
    return Dense(weight, bias)


def _normalised(layer, norm):
    """A layer whose outputs an ActNorm scales and shifts, as it does on the way to data."""
    check_initialised(norm)
    shift, scale = array(norm.t).reshape(-1), np.exp(array(norm.s).reshape(-1))
    return Dense(layer.weight * scale, layer.bias * scale + shift)


def inputs(net: Any) -> int:
    """How many channels a `ConvNet2d` sees."""
    return net.net[0].in_channels


def check_initialised(norm: Any) -> None:
    """Raises `ValueError` if an ActNorm would be initialised by the next batch."""
    done = getattr(norm, "data_dep_init_done", True)
    refuse(not done, kind(norm), "no initialisation by data yet")


def mixing(flow: Any) -> Part:
    """An `Invertible1x1Conv`, with an LU decomposition or without."""
    weight = array(flow._assemble_W() if flow.use_lu else flow.W)
    return parts.linear(Dense(weight.T, np.zeros(len(weight))))


def squeeze(flow: Any) -> Part:
    """A `Squeeze`, whose order of channels is ours."""
    return Part(as_flow(Squeeze()), {})


def shift(flow: Any) -> Part:
    """A `Shift`: z = x + shift."""
    return Part(fixed_affine(shift=-float(flow.shift)), {})


def logit(flow: Any) -> Part:
    """A `Logit`: z = ln(y / (1 - y)), y = α + (1 - 2α)·x.

    Raises:
        ValueError: its alpha is not below ½.
    """
    alpha = float(flow.alpha)
    require(alpha < 0.5, "Logit", f"alpha={alpha}", "one of an alpha below 0.5")
    margin = alpha / (1 - 2 * alpha)
    return Part(sigmoid(-margin, 1 + margin), {})


def on_checkerboard(part: Part) -> Part:
    """A part that sees the two colours of a checkerboard as halves of its channels."""
    board = image_parts.checkerboard()
    return parts.in_order([board, part, parts.inverted(board)])


def split(merge: Any, gaussian: Gaussian) -> Part:
    """A `Merge`, on the way to latents, and the base of what leaves.

    Raises:
        ValueError: it is no `Merge`, or of a mode that `Split` does not have.
    """
    ours = parts.is_of("normflows", merge) and kind(merge) == "Merge"
    require(ours, "merges", kind(merge), "Merge of normflows alone")
    check_choice("mode of Merge", merge.mode, SPLIT_MODES)
    part = image_parts.whitening_split(gaussian, first=merge.mode.endswith("_inv"))
    if merge.mode.startswith("channel"):
        return part
    return parts.in_order([image_parts.checkerboard(), part])


# ---------------------------------------------------------------------------------------- bases


def gaussian(base: Any) -> Gaussian:
    """A base as normal distributions, with a class each or without.

    Raises:
        ValueError: it is another base, or has a temperature.
    """
    read = parts.converter(BASES, "normflows", "base", base)
    refuse(base.temperature is not None, kind(base), "a temperature")
    return read(base)


def _diagonal(base):
    return Gaussian(channels_last(array(base.loc)[0]), channels_last(array(base.log_scale)[0]))


def _by_class(base):
    """Classes come last there, in front here."""
    both = (np.moveaxis(array(values), -1, 0) for values in (base.loc, base.log_scale))
    return Gaussian(*(np.moveaxis(values, 1, -1) for values in both), by_class=True)


def _glow_base(base):
    """Of channels, scaled by the exponential of a parameter; a class adds its own."""
    made = []
    for name in ("loc", "log_scale"):
        scale = np.exp(base.logscale_factor * array(getattr(base, name + "_logs")))
        values = channels_last((array(getattr(base, name)) * scale)[0])
        if base.class_cond:
            own = array(getattr(base, name + "_cc"))
            values = values + own.reshape(len(own), *(1,) * (values.ndim - 1), -1)
        made.append(values)
    return Gaussian(*made, by_class=base.class_cond)


def _affine_gaussian(base):
    """N(0, I) after a constant affine map, or one of each class."""
    affine, made = base.transform, []
    for name in ("t", "s"):
        values = array(getattr(affine, name))[0]
        if base.class_cond:
            own = array(getattr(affine, name + "_cc"))
            made.append(np.moveaxis(values + own.reshape(len(own), *values.shape), 1, -1))
        else:
            made.append(channels_last(values))
    return Gaussian(*made, by_class=base.class_cond)


BASES = {
    "AffineGaussian": _affine_gaussian,
    "ClassCondDiagGaussian": _by_class,
    "DiagGaussian": _diagonal,
    "GlowBase": _glow_base,
}
