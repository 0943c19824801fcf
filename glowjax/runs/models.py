"""Models of images as experiments name them: options, and the flows they make.

A model's flows, its parts, are chained; what the last but one makes is what a classifier sees.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from glowjax.bijections import autoregressive
from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.scalar.elementwise import Scale, affine
from glowjax.bijections.scalar.mixture_cdf import mixture_cdf
from glowjax.checks import check_choice
from glowjax.compose import chain
from glowjax.densities.dequantizers import Dequantizer, variational_dequantizer
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop
from glowjax.models.flowpp import flowpp, flowpp_noise
from glowjax.models.glow import CouplingMap, Mixing, glow_backbone, glow_top
from glowjax.models.realnvp import realnvp, realnvp_single_scale
from glowjax.nets.pixelcnn import PixelCNN
from glowjax.runs.parts import classes_of, logit_first, of_labels, options_of
from glowjax.runs.transformers import Jet, TarFlow


@dataclass(frozen=True, kw_only=True)
class Glow:
    """Options of `glowjax.glow`."""

    kind: Annotated[Literal["glow"], tyro.conf.Suppress] = "glow"
    levels: int = 3
    """L: how often the image is squeezed."""
    steps: int = 32
    """K: steps of flow per level."""
    width: int = 512
    """Hidden channels of the coupling nets."""
    coupling: CouplingMap = "affine"
    scale: Scale = "sigmoid"
    """Map of an affine coupling's scale; "floor" keeps the inverse bounded."""
    mixing: Mixing = "conv1x1"
    """How channels mix between couplings."""
    conditional: bool = False
    """Condition the top prior on the data set's labels."""
    ring: bool = True
    """Give 3×3 convolutions a channel that shows where the padding is."""
    norm: bool = True
    """Put ActNorms into the coupling nets."""
    logit: float | None = None
    """α of the logit of the pixels, `glowjax.Logit`, taken first; None takes none."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the nets' hidden layers; bfloat16 is several times faster on GPU and TPU."""
    backprop: Backprop = "store"
    """Activations for the gradient: stored, recomputed, or rebuilt through the inverse."""
    unroll: int = 1
    """Steps per iteration of the compiled loop."""

    def parts(self, num_classes: int | None) -> dict[str, Flow]:
        """Logit, backbone and top prior, for data with `num_classes` labels.

        Raises:
            ValueError: the model is conditional, and the data have no labels (None).
        """
        options = options_of(self)
        classes = classes_of(options.pop("conditional"), num_classes)
        first = logit_first(options.pop("logit"))
        top = glow_top(num_classes=classes, ring=self.ring)
        return {**first, "backbone": glow_backbone(**options), "top": top}

    @property
    def divisor(self) -> int:
        """Height and width of an image must be multiples of it."""
        return 2**self.levels

    def outline(self, params: Any, shape: tuple[int, ...]) -> list[tuple[str, str, Any]]:
        """Its parts with the shapes they work on and their parameters."""
        height, width, channels = shape
        rows = []
        for level in range(1, self.levels + 1):
            height, width, channels = height // 2, width // 2, channels * 4
            part, array = params["backbone"][f"level{level}"], f"{height}×{width}×{channels}"
            rows.append((f"level {level}, {self.steps} steps", array, part))
            if level < self.levels:
                channels //= 2
                rows.append((f"split {level}", "", params["backbone"][f"split{level}"]))
        return [*rows, ("top prior", "", params["top"])]


@dataclass(frozen=True, kw_only=True)
class RealNVP:
    """Options of `glowjax.realnvp` and `glowjax.realnvp_single_scale`."""

    kind: Annotated[Literal["realnvp"], tyro.conf.Suppress] = "realnvp"
    architecture: Literal["multi_scale", "single_scale"] = "multi_scale"
    """Half of the channels leave after each level, or all stay to the end."""
    levels: int = 2
    """Levels of the multi-scale architecture."""
    width: int = 64
    """Hidden channels of the coupling nets; squeezing doubles them if multi-scale."""
    blocks: int = 8
    """Residual blocks of a net."""
    logit: float | None = 0.05
    """α of the logit of the pixels, `glowjax.Logit`, taken first; None takes none."""
    conditional: bool = False
    """Show the nets the data set's labels."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the nets' hidden layers; bfloat16 is faster on GPU and TPU."""
    backprop: Backprop = "store"
    """Activations for the gradient: stored, recomputed, or rebuilt through the inverse."""

    def parts(self, num_classes: int | None) -> dict[str, Flow]:
        """The whole model, for data with `num_classes` labels; errors as for `Glow`."""
        options = options_of(self)
        classes = classes_of(options.pop("conditional"), num_classes)
        architecture, logit = options.pop("architecture"), options.pop("logit")
        check_choice("architecture", architecture, ("multi_scale", "single_scale"))
        if architecture == "multi_scale":
            flow = realnvp(**options)
        else:
            del options["levels"]
            flow = realnvp_single_scale(**options)
        flow = chain(**logit_first(logit), couplings=flow)
        return {"flow": flow if classes is None else of_labels(flow, classes)}

    @property
    def divisor(self) -> int:
        """Height and width of an image must be multiples of it."""
        return 2 if self.architecture == "single_scale" else 2 ** (self.levels - 1)

    def outline(self, params: Any, shape: tuple[int, ...]) -> list[tuple[str, str, Any]]:
        """Its parts with the shapes they work on and their parameters."""
        params, (height, width, channels) = params["flow"]["couplings"], shape

        def row(name, weights):
            return name, f"{height}×{width}×{channels}", weights

        if self.architecture == "single_scale":
            first = row("4 checkerboard couplings", params["checkerboard1"])
            last = row("3 checkerboard couplings", params["checkerboard2"])
            height, width, channels = height // 2, width // 2, channels * 4
            return [first, row("3 channel couplings", params["channels"]), last]
        rows = []
        for level in range(1, self.levels):
            part = params[f"level{level}"]
            rows.append(row(f"level {level}, 3 checkerboard couplings", part["checkerboard"]))
            height, width, channels = height // 2, width // 2, channels * 4
            rows.append(row(f"level {level}, 3 channel couplings", part["channels"]))
            channels //= 2
            rows.append((f"split {level}", "", params[f"split{level}"]))
        last = params[f"level{self.levels}"]
        return [*rows, row(f"level {self.levels}, 4 checkerboard couplings", last)]


@dataclass(frozen=True, kw_only=True)
class Autoregressive:
    """Pixel after pixel: `glowjax.Autoregressive` with a `glowjax.PixelCNN`."""

    kind: Annotated[Literal["autoregressive"], tyro.conf.Suppress] = "autoregressive"
    width: int = 64
    """Hidden channels of each of the PixelCNN's two stacks."""
    depth: int = 8
    """Layers of the PixelCNN."""
    kernel: int = 3
    """Side of its convolutions."""
    transform: Literal["logistic_mixture", "gaussian_mixture", "affine"] = "logistic_mixture"
    """Map of a number to its latent: the CDF of a mixture, or an affine one."""
    components: int = 10
    """Of the mixtures."""
    logit: float | None = 0.0
    """α of the logit of the pixels, `glowjax.Logit`, taken first; None takes none."""
    conditional: bool = False
    """Show the PixelCNN the data set's labels."""

    def parts(self, num_classes: int | None) -> dict[str, Flow]:
        """The whole model, for data with `num_classes` labels; errors as for `Glow`."""
        classes = classes_of(self.conditional, num_classes)
        mixture = functools.partial(mixture_cdf, self.components, to="normal")
        transforms = {
            "logistic_mixture": functools.partial(mixture, family="logistic"),
            "gaussian_mixture": functools.partial(mixture, family="gaussian"),
            "affine": affine,
        }
        check_choice("transform", self.transform, transforms)
        net = functools.partial(PixelCNN, width=self.width, depth=self.depth, kernel=self.kernel)
        flow = autoregressive.Autoregressive(transforms[self.transform](), net)
        flow = chain(**logit_first(self.logit), actnorm=as_flow(ActNorm()), pixels=as_flow(flow))
        return {"flow": flow if classes is None else of_labels(flow, classes)}

    @property
    def divisor(self) -> int:
        """Height and width of an image must be multiples of it: may be any."""
        return 1

    def outline(self, params: Any, shape: tuple[int, ...]) -> list[tuple[str, str, Any]]:
        """Its parts with the shapes they work on and their parameters."""
        size = "×".join(map(str, shape))
        flow = params["flow"]
        return [("ActNorm", size, flow["actnorm"]), ("PixelCNN", size, flow["pixels"])]


@dataclass(frozen=True, kw_only=True)
class FlowPP:
    """Options of `glowjax.flowpp`, and of `glowjax.flowpp_noise`, its learned dequantization."""

    kind: Annotated[Literal["flowpp"], tyro.conf.Suppress] = "flowpp"
    steps: tuple[int, int, int] = (4, 2, 3)
    """Steps on a checkerboard, on the squeezed image's channels, and on its checkerboard."""
    components: int = 32
    """Of the mixtures of logistics."""
    width: int = 96
    """Hidden channels of the coupling nets."""
    blocks: int = 10
    """Blocks of a net, each a gated convolution and gated attention."""
    heads: int = 4
    """Of the attention."""
    dropout: float = 0.0
    """Share of hidden numbers that are left out in training."""
    noise_steps: int = 4
    """Steps of the flow of the dequantization noise; 0: the noise is uniform."""
    noise_width: int = 32
    """Hidden channels of its nets."""
    noise_blocks: int = 2
    """Blocks of its nets."""
    logit: float | None = 0.05
    """α of the logit of the pixels, `glowjax.Logit`, taken first; None takes none."""
    conditional: bool = False
    """Show the nets the data set's labels."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the nets' hidden layers; bfloat16 is faster on GPU and TPU."""
    backprop: Backprop = "store"
    """Activations for the gradient: stored, recomputed, or rebuilt through the inverse."""
    unroll: int = 1
    """Steps per iteration of the compiled loop."""

    def parts(self, num_classes: int | None) -> dict[str, Flow]:
        """The whole model, for data with `num_classes` labels; errors as for `Glow`."""
        options = options_of(self)
        classes = classes_of(options.pop("conditional"), num_classes)
        for name in ("logit", "noise_steps", "noise_width", "noise_blocks"):
            del options[name]
        flow = chain(**logit_first(self.logit), couplings=flowpp(**options))
        return {"flow": flow if classes is None else of_labels(flow, classes)}

    def dequantizer(self, levels: int) -> Dequantizer | None:
        """The learned noise of images of `levels` grey levels; None where it is uniform.

        Its parameters come after the flow's, as a pair of both.
        """
        if self.noise_steps == 0:
            return None
        shared = ("components", "heads", "dropout", "dtype", "backprop", "unroll")
        options = {name: value for name, value in options_of(self).items() if name in shared}
        noise = flowpp_noise(
            steps=self.noise_steps, width=self.noise_width, blocks=self.noise_blocks, **options
        )
        return variational_dequantizer(noise, levels=levels)

    @property
    def divisor(self) -> int:
        """Height and width of an image must be multiples of it."""
        return 4

    def outline(self, params: Any, shape: tuple[int, ...]) -> list[tuple[str, str, Any]]:
        """Its parts with the shapes they work on and their parameters."""
        params, noise = params if self.noise_steps else (params, None)
        params, (height, width, channels) = params["flow"]["couplings"], shape
        image, squeezed = (
            f"{height}×{width}×{channels}",
            f"{height // 2}×{width // 2}×{4 * channels}",
        )
        first, second, third = self.steps
        return [
            *([("noise", image, noise)] if self.noise_steps else []),
            (f"{first} steps, checkerboard", image, params["checkerboard1"]),
            (f"{second} steps, channels", squeezed, params["channels"]),
            (f"{third} steps, checkerboard", squeezed, params["checkerboard2"]),
        ]


Model = Glow | RealNVP | Autoregressive | FlowPP | Jet | TarFlow
KINDS = {
    "glow": Glow,
    "realnvp": RealNVP,
    "autoregressive": Autoregressive,
    "flowpp": FlowPP,
    "jet": Jet,
    "tarflow": TarFlow,
}


def dequantizer(model: Model, levels: int) -> Dequantizer | None:
    """The learned noise of a model that has one, for images of `levels` grey levels."""
    return model.dequantizer(levels) if isinstance(model, FlowPP) else None


def without_dropout(model: Model) -> Model:
    """The model as it is evaluated, of the same parameters."""
    return dataclasses.replace(model, dropout=0.0) if isinstance(model, FlowPP) else model


def label_dropout(model: Model) -> float:
    """The share of examples that training shows without their label."""
    return model.label_dropout if isinstance(model, TarFlow) else 0.0
