"""Models of images with transformers as experiments name them: Jet and TarFlow."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from glowjax.checks import BELOW_ONE, check_in, require
from glowjax.compose import chain
from glowjax.flow import Flow
from glowjax.loops import Backprop
from glowjax.models.jet import jet
from glowjax.models.tarflow import tarflow
from glowjax.runs.parts import classes_of, logit_first, of_labels, options_of


@dataclass(frozen=True, kw_only=True)
class Jet:
    """Options of `glowjax.jet`."""

    kind: Annotated[Literal["jet"], tyro.conf.Suppress] = "jet"
    patch: int = 4
    """Side of the patches of pixels that are the tokens."""
    steps: int = 4
    """Steps of flow, each of couplings of the channels and of the tokens."""
    channel_couplings: int = 4
    """Couplings of the channels before each coupling of the tokens."""
    width: int = 256
    """Hidden channels of the transformers."""
    blocks: int = 2
    """Blocks of a transformer, each attention and an MLP."""
    heads: int = 4
    """Of the attention."""
    logit: float | None = None
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
        flow = chain(**logit_first(options.pop("logit")), couplings=jet(**options))
        return {"flow": flow if classes is None else of_labels(flow, classes)}

    @property
    def divisor(self) -> int:
        """Height and width of an image must be multiples of it."""
        return 2 * self.patch

    def outline(self, params: Any, shape: tuple[int, ...]) -> list[tuple[str, str, Any]]:
        """Its parts with the shapes they work on and their parameters."""
        params, (height, width, channels) = params["flow"]["couplings"], shape
        tokens = f"{height // self.patch}×{width // self.patch}×{self.patch**2 * channels}"
        couplings = 2 * (self.channel_couplings + 1)
        return [
            ("ActNorm", tokens, params["actnorm"]),
            (f"{self.steps} steps of {couplings} couplings", tokens, params["steps"]),
        ]


@dataclass(frozen=True, kw_only=True)
class TarFlow:
    """Options of `glowjax.tarflow`."""

    kind: Annotated[Literal["tarflow"], tyro.conf.Suppress] = "tarflow"
    patch: int = 4
    """Side of the patches of pixels that are the tokens."""
    steps: int = 4
    """Steps of flow, each over the tokens in both orders."""
    width: int = 256
    """Hidden channels of the transformers."""
    blocks: int = 4
    """Blocks of a transformer, each attention and an MLP."""
    heads: int = 4
    """Of the attention."""
    segment: int | None = 1
    """Tokens that samples find at once, by iterations; None takes all."""
    tolerance: float = 0.0
    """By how much a segment's numbers may still change at the end of its iterations."""
    logit: float | None = None
    """α of the logit of the pixels, `glowjax.Logit`, taken first; None takes none."""
    conditional: bool = False
    """Show the nets the data set's labels."""
    label_dropout: float = 0.0
    """Share of examples that training shows without their label, so that samples can be guided."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the nets' hidden layers; bfloat16 is faster on GPU and TPU."""
    backprop: Backprop = "store"
    """Activations for the gradient: stored, recomputed, or rebuilt through the inverse."""
    unroll: int = 1
    """Steps per iteration of the compiled loop."""

    def parts(self, num_classes: int | None, guidance: float = 0.0) -> dict[str, Flow]:
        """The whole model, for data with `num_classes` labels; errors as for `Glow`."""
        options = options_of(self)
        dropped = options.pop("label_dropout")
        check_in(BELOW_ONE, label_dropout=dropped)
        require(self.conditional or not dropped, "label_dropout", dropped, "0 unless conditional")
        classes = classes_of(options.pop("conditional"), num_classes)
        first = logit_first(options.pop("logit"))
        flow = chain(**first, tokens=tarflow(**options, guidance=guidance))
        return {"flow": flow if classes is None else of_labels(flow, classes)}

    @property
    def divisor(self) -> int:
        """Height and width of an image must be multiples of it."""
        return self.patch

    def outline(self, params: Any, shape: tuple[int, ...]) -> list[tuple[str, str, Any]]:
        """Its parts with the shapes they work on and their parameters."""
        params, (height, width, channels) = params["flow"]["tokens"], shape
        tokens = f"{height // self.patch}×{width // self.patch}×{self.patch**2 * channels}"
        return [
            ("ActNorm", tokens, params["actnorm"]),
            (f"{self.steps} steps of two orders", tokens, params["steps"]),
        ]
