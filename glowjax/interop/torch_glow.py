"""State dicts of public PyTorch implementations of Glow as flows of glowjax.

    state = torch.load("model.pt", map_location="cpu")  # or names and NumPy arrays
    flow, params = from_torch_glow(state)
    z, log_det = flow.forward(params, images)  # [B, H, W, C]

Each repository has a reader below, from its names to the parameters of `glow`.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.actnorm import GlowActNorm
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.linear.conv1x1 import InvertibleConv1x1
from glowjax.bijections.scalar.elementwise import affine
from glowjax.bijections.split import Split
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import described, require
from glowjax.compose import chain, multiscale
from glowjax.flow import Flow, as_flow
from glowjax.interop.parts import Part, alternating, converted
from glowjax.interop.torch_nets import array
from glowjax.loops import repeat
from glowjax.models.glow import glow, glow_top
from glowjax.nets.convnet import ConvNet
from glowjax.nets.layers import LOG_SCALE_FACTOR

State = dict[str, np.ndarray]
Params = dict[str, Any]


def from_torch_glow(state_dict: Mapping[str, Any]) -> tuple[Flow, Any]:
    """The flow and the parameters of a PyTorch Glow, from the state dict of its model.

    The repository is recognised by the names: y0ast/Glow-PyTorch, chaiyujin/glow-pytorch,
    rosinality/glow-pytorch, or the glow.py of kamenbliznashki/normalizing_flows. The flow is
    `glow(...)` with the options that the model has; that of the last repository is made of the same
    parts, with the channels' halves exchanged and the shift last in each coupling.
    Log-likelihoods are equal up to rounding, with `glowjax.standard_normal` as the base.

    Args:
        state_dict: names to arrays, tensors of torch or what NumPy takes; torch need not be there.
            Names may have the prefix `module.` of `DataParallel`.

    Returns:
        `(flow, params)`: of images `[B, H, W, C]`, floats as that model sees them after its own
        preprocessing: in [-½, ½], but for chaiyujin's, which is in [0, 1]. Labels of a conditional
        model are `context: [B]`, integers.

    Raises:
        ValueError: the names are of no repository above; channels are not mixed by 1×1
            convolutions, since other permutations are not in a state dict; an ActNorm was never
            initialised; a log-determinant of kamenbliznashki's is wrong, as it is after its P of
            an LU decomposition was trained.
    """
    state = _arrays(state_dict)
    for pattern, read in READERS.items():
        if any(re.search(pattern, name) for name in state):
            return _converted(read, state)
    repositories = "of y0ast's, chaiyujin's, rosinality's or kamenbliznashki's Glow"
    raise ValueError(f"state_dict must be {repositories}, got the names {', '.join(state)[:200]}")


class Model(NamedTuple):
    """A Glow that was read: the parameters of its steps by level, and those between the levels."""

    levels: list[list[Params]]
    splits: list[Params]
    top: Params
    make: Callable[..., Flow]  # from levels, steps, width and coupling
    norm: bool = True


def _arrays(state_dict: Any) -> dict[str, Any]:
    wanted = "a dict of names and arrays, such as model.state_dict()"
    require(isinstance(state_dict, Mapping), "state_dict", described(state_dict), wanted)
    for name, value in state_dict.items():
        require(hasattr(value, "dtype"), f"state_dict[{name!r}]", described(value), "an array")
    prefix = "module." if all(name.startswith("module.") for name in state_dict) else ""
    return {name.removeprefix(prefix): value for name, value in state_dict.items()}


def _converted(read: Callable[[State], Model], state: dict[str, Any]) -> Part:
    single = all("float64" not in str(value.dtype) for value in state.values())
    try:
        model = read({name: array(value) for name, value in state.items()})
    except KeyError as error:
        raise ValueError(f"state_dict must hold all of a model, lacks {error}") from error
    _check_alike(model.levels)
    part = Part(_flow(model), _params(model))
    _check_shapes(part, len(model.levels), "labels" in model.top)
    return converted(part, np.float32 if single else np.float64)


def _check_alike(levels: list[list[Params]]) -> None:
    """Raises `ValueError` unless levels have as many steps each, and those of a level one size."""
    counts = [len(level) for level in levels]
    require(len(set(counts)) == 1, "state_dict", counts, "of levels with as many steps each")
    for level in levels:
        sizes = [jax.tree.map(np.shape, step) for step in level]
        alike = all(size == sizes[0] for size in sizes)
        require(alike, "state_dict", sizes, "of steps that have the same shapes in each level")


def _flow(model: Model) -> Flow:
    net = model.levels[0][0]["coupling"]["net"]
    channels = model.levels[0][0]["mixing"]["weight"].shape[0]
    return model.make(
        levels=len(model.levels),
        steps=len(model.levels[0]),
        width=net["conv1"]["weight"].shape[-1],
        coupling="affine" if len(net["out"]["bias"]) == channels else "additive",
    )


def _params(model: Model) -> Params:
    backbone = {
        f"level{number}": {"squeeze": {}, "steps": jax.tree.map(lambda *p: np.stack(p), *level)}
        for number, level in enumerate(model.levels, 1)
    }
    splits = {f"split{number}": {"prior": p} for number, p in enumerate(model.splits, 1)}
    return {"backbone": backbone | splits, "top": model.top}


def _check_shapes(part: Part, levels: int, labelled: bool) -> None:
    """Raises `ValueError` unless the parameters have the shapes that the flow has."""
    channels = part.params["backbone"]["level1"]["steps"]["mixing"]["weight"].shape[-1] // 4
    x = jnp.zeros((1, 2**levels, 2**levels, channels))
    context = jnp.zeros(1, int) if labelled else None
    initialised = jax.eval_shape(part.flow.init, jax.random.key(0), x, context)
    shapes, expected = (jax.tree.map(jnp.shape, tree) for tree in (part.params, initialised))
    require(shapes == expected, "state_dict", shapes, f"of parameters of the shapes {expected}")


# ----------------------------------------------------------------- layers, as glowjax has them


def _below(state: State, prefix: str) -> State:
    """What has a name that begins with a prefix, without that prefix."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def _numbered(state: State, prefix: str) -> list[State]:
    """The parts `prefix0.`, `prefix1.`, ... that have parameters, in order."""
    numbers = {int(name.split(".")[0]) for name in _below(state, prefix)}
    return [_below(state, f"{prefix}{number}.") for number in sorted(numbers)]


def _conv(weight: np.ndarray) -> np.ndarray:
    """`[out, in, height, width]` as `[height, width, in, out]`."""
    return weight.transpose(2, 3, 1, 0)


def _ringed(weight: np.ndarray, padding: Any) -> np.ndarray:
    """A weight with the ring's channel, for a padding by values, of all or of each channel."""
    values = np.broadcast_to(padding, weight.shape[2])
    ring = np.sum(weight * values[:, None], axis=2, keepdims=True)
    return np.concatenate([weight, ring], axis=2)


def _zero_conv(weight: np.ndarray, bias: np.ndarray, log_scale: np.ndarray) -> Params:
    """(conv(x) + bias)·exp(3·log_scale)."""
    return {"weight": weight, "bias": bias, "log_scale": log_scale.reshape(-1)}


def _reordered(layer: Params, order: Any) -> Params:
    """A layer with its outputs in another order."""
    return {name: value[..., order] for name, value in layer.items()}


def _norm(log_scale: np.ndarray, bias: np.ndarray) -> Params:
    """(x + bias)·exp(log_scale)."""
    return {"log_scale": log_scale.reshape(-1) / LOG_SCALE_FACTOR, "bias": bias.reshape(-1)}


def _lu_weight(p, lower, upper, log_s, sign) -> np.ndarray:
    """P·L·U, with signs times exp(log_s) on the diagonal of U."""
    unit_lower = np.tril(lower, -1) + np.eye(len(p))
    return p @ unit_lower @ (np.triu(upper, 1) + np.diag(sign * np.exp(log_s)))


def _mixing(weight: np.ndarray, signs: Any = 1.0) -> Params:
    """A 1×1 convolution `[out, in, ...]`, of an input times signs."""
    matrix = weight.reshape(weight.shape[:2]).T
    return {"weight": np.broadcast_to(signs, len(matrix))[:, None] * matrix}


# ------------------------------------------------------- y0ast/Glow-PyTorch, chaiyujin/glow-pytorch


def _y0ast(state: State) -> Model:
    """Its layers are chaiyujin's, most of them in a module of their own."""

    def renamed(name):
        name = name.replace(".block.", ".f.").replace("learn_top_fn.", "learn_top.")
        name = re.sub(r"\.(conv|linear)\.(weight|bias)$", r".\2", name)
        return re.sub(r"\.invconv\.(lower|upper)$", lambda m: f".invconv.{m[1][0]}", name)

    return _chaiyujin({renamed(name): value for name, value in state.items()})


def _chaiyujin(state: State) -> Model:
    """Paddings of zeros; ActNorms in the nets; shift and scale alternate."""
    layers = _numbered(state, "flow.layers.")
    levels, splits = [[]], []
    for layer in layers:
        if "conv.weight" in layer:
            splits.append(_chaiyujin_zero(_below(layer, "conv.")))
            levels.append([])
        else:
            levels[-1].append(_chaiyujin_step(layer))
    channels = len(levels[-1][0]["actnorm"]["bias"])
    learned, zeros = _below(state, "learn_top."), np.zeros(2 * channels)
    bias, log_scale = learned.get("bias", zeros), learned.get("logs", zeros).reshape(-1)
    top, options = {"ring": {"bias": bias, "log_scale": log_scale}}, {}
    if "project_ycond.weight" in state:
        labels = _below(state, "project_ycond.")
        top["labels"] = _zero_conv(labels["weight"].T, labels["bias"], labels["logs"])
        options["num_classes"] = len(top["labels"]["weight"])
    return Model(levels, splits, top, functools.partial(glow, ring=False, **options))


def _chaiyujin_step(layer: State) -> Params:
    stored = any(name.startswith("invconv.") for name in layer)
    wanted = "a model whose channels 1×1 convolutions mix: it has no other permutations"
    require(stored, "state_dict", "a step without one", wanted)
    mix = _below(layer, "invconv.")
    if "weight" not in mix:
        mix["weight"] = _lu_weight(mix["p"], mix["l"], mix["u"], mix["log_s"], mix["sign_s"])
    net = {
        "conv1": {"weight": _conv(layer["f.0.weight"])},
        "norm1": _norm(layer["f.0.actnorm.logs"], layer["f.0.actnorm.bias"]),
        "conv2": {"weight": _conv(layer["f.2.weight"])},
        "norm2": _norm(layer["f.2.actnorm.logs"], layer["f.2.actnorm.bias"]),
        "out": _chaiyujin_zero(_below(layer, "f.4.")),
    }
    return {
        "actnorm": _norm(layer["actnorm.logs"], layer["actnorm.bias"]),
        "mixing": _mixing(mix["weight"]),
        "coupling": {"net": net},
    }


def _chaiyujin_zero(layer: State) -> Params:
    return _zero_conv(_conv(layer["weight"]), layer["bias"], layer["logs"])


# ------------------------------------------------------------------------ rosinality/glow-pytorch


def _rosinality(state: State) -> Model:
    """Zero convolutions are padded with ones; nets have biases; scales come before shifts."""
    blocks = _numbered(state, "blocks.")
    levels = [[_rosinality_step(flow) for flow in _numbered(block, "flows.")] for block in blocks]
    *splits, top = (_rosinality_zero(_below(block, "prior.")) for block in blocks)
    top["weight"] = top["weight"][:, :, -1:]  # of an image of zeros it sees the ring alone
    for layer in splits:
        means, log_stds = np.split(np.arange(len(layer["bias"])), 2)
        layer |= _reordered(layer, alternating(means, log_stds))
    return Model(levels, splits, {"ring": top}, functools.partial(glow, ring=True, norm=False))


def _rosinality_step(flow: State) -> Params:
    _check_initialised(flow["actnorm.initialized"])
    scale = flow["actnorm.scale"].reshape(-1)
    mix, net = _below(flow, "invconv."), _below(flow, "coupling.net.")
    if "weight" not in mix:
        mix["weight"] = _lu_weight(mix["w_p"], mix["w_l"], mix["w_u"], mix["w_s"], mix["s_sign"])
    out = _rosinality_zero(_below(net, "4."))
    if len(out["bias"]) == len(scale):  # affine
        scales, shifts = np.split(np.arange(len(scale)), 2)
        out = _reordered(out, alternating(shifts, scales))
    params = {
        "conv1": {"weight": _ringed(_conv(net["0.weight"]), 0.0)},
        "norm1": {"bias": net["0.bias"]},
        "conv2": {"weight": _conv(net["2.weight"])},
        "norm2": {"bias": net["2.bias"]},
        "out": out,
    }
    return {
        "actnorm": _norm(np.log(np.abs(scale)), flow["actnorm.loc"]),
        "mixing": _mixing(mix["weight"], np.sign(scale)),
        "coupling": {"net": params},
    }


def _rosinality_zero(layer: State) -> Params:
    weight = _ringed(_conv(layer["conv.weight"]), 1.0)
    return _zero_conv(weight, layer["conv.bias"], layer["scale"])


def _check_initialised(flag: np.ndarray) -> None:
    require(flag, "state_dict", "an ActNorm that is not", "of a model that is initialised by data")


# ------------------------------------------------------------- kamenbliznashki/normalizing_flows


def _kamenbliznashki(state: State) -> Model:
    """The second half conditions the first; the shift comes last; a padding after the first layer.

    The 1×1 convolution of a net is padded, so that the last one sees what the ActNorm and the ReLU
    make of zeros around the image, in place of a padding.
    """
    blocks = _numbered(state, "flowlevels.")
    steps = [*(_numbered(block, "flowsteps.") for block in blocks), _numbered(state, "flowstep.")]
    levels = [[_kamenbliznashki_step(step) for step in level] for level in steps]
    splits = [_gaussianize(_below(block, "split.gaussianize.")) for block in blocks]
    top = _gaussianize(_below(state, "gaussianize."))
    channels = np.arange(len(top["bias"]))
    halves = np.concatenate([channels[0::2], channels[1::2]])  # means, then log_stds
    ring = _reordered({name: top[name] for name in ("bias", "log_scale")}, halves)
    return Model(levels, splits, {"ring": ring}, _swapped_glow)


def _kamenbliznashki_step(step: State) -> Params:
    scale, bias = (step[f"0.{name}"].reshape(-1) for name in ("scale", "bias"))
    mix, net = _below(step, "1."), _below(step, "2.")
    for flag in ("0.initialized", "2.actnorm1.initialized", "2.actnorm2.initialized"):
        _check_initialised(step[flag])
    if "w" not in mix:
        trained = abs(np.linalg.slogdet(mix["p"])[1]) > 1e-6
        wanted = "one whose log-determinants are right: its P is no permutation"
        require(not trained, "state_dict", "a trained P of an LU decomposition", wanted)
        mix["w"] = _lu_weight(mix["p"], mix["l"], mix["u"], mix["log_s"], mix["sign_s"])
    scale2, bias2 = (net[f"actnorm2.{name}"].reshape(-1) for name in ("scale", "bias"))
    conv3 = _ringed(_conv(net["conv3.weight"]), np.maximum(-bias2 / scale2, 0))
    params = {
        **_conv_and_norm(net, "1", lambda weight: _ringed(weight, 0.0)),
        **_conv_and_norm(net, "2", lambda weight: weight),
        "out": _zero_conv(conv3, net["conv3.bias"], net["log_scale_factor"] / LOG_SCALE_FACTOR),
    }
    return {
        "actnorm": _norm(-np.log(np.abs(scale)), -bias),
        "mixing": _mixing(mix["w"], np.sign(scale)),
        "coupling": {"net": params},
    }


def _conv_and_norm(net: State, number: str, change) -> Params:
    """A convolution and its ActNorm, (h - bias)/scale, whose signs go into the weight."""
    scale, bias = (net[f"actnorm{number}.{name}"].reshape(-1) for name in ("scale", "bias"))
    sign = np.sign(scale)
    return {
        "conv" + number: {"weight": change(_conv(net[f"conv{number}.weight"])) * sign},
        "norm" + number: _norm(-np.log(np.abs(scale)), -bias * sign),
    }


def _gaussianize(layer: State) -> Params:
    log_scale = layer["log_scale_factor"] / LOG_SCALE_FACTOR
    return _zero_conv(_conv(layer["net.weight"]), layer["net.bias"], log_scale)


def _swapped_glow(*, levels: int, steps: int, width: int, coupling: str) -> Flow:
    """A Glow whose couplings map the first half given the second, and shift last."""
    net = functools.partial(ConvNet, width=width)
    step = chain(
        actnorm=as_flow(GlowActNorm()),
        mixing=as_flow(InvertibleConv1x1()),
        coupling=as_flow(Coupling(affine(scale="sigmoid", shift="last"), net, swap=True)),
    )
    level = chain(squeeze=as_flow(Squeeze()), steps=repeat(step, steps))
    backbone = multiscale([level] * levels, [as_flow(Split(ring=False))] * (levels - 1))
    return chain(backbone=backbone, top=glow_top(ring=False))


READERS: dict[str, Callable[[State], Model]] = {
    r"^flow\.layers\.\d+\.block\.": _y0ast,
    r"^flow\.layers\.\d+\.f\.": _chaiyujin,
    r"^blocks\.\d+\.flows\.": _rosinality,
    r"^flowstep\.\d+\.": _kamenbliznashki,
}
