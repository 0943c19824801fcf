"""Models of images as experiments name them: options, and the flows they make.

A model's flows, its parts, are chained; what the last but one makes is what a classifier sees.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import tyro

from glowjax.arrays import check_choice
from glowjax.coupling import ScaleMap
from glowjax.flow import Backprop, Flow
from glowjax.glow import Coupling, Mixing, glow_backbone, glow_top


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
    coupling: Coupling = "affine"
    scale: ScaleMap = "sigmoid"
    """Map of an affine coupling's scale; "floor" keeps the inverse bounded."""
    mixing: Mixing = "conv1x1"
    """How channels mix between couplings."""
    conditional: bool = False
    """Condition the top prior on the data set's labels."""
    ring: bool = True
    """Give 3×3 convolutions a channel that shows where the padding is."""
    norm: bool = True
    """Put ActNorms into the coupling nets."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the nets' hidden layers; bfloat16 is several times faster on GPU and TPU."""
    backprop: Backprop = "store"
    """Activations for the gradient: stored, recomputed, or rebuilt through the inverse."""
    unroll: int = 1
    """Steps per iteration of the compiled loop."""

    def parts(self, num_classes: int | None) -> tuple[Flow, ...]:
        """Backbone and top prior, for data with `num_classes` labels.

        Raises:
            ValueError: the model is conditional, and the data have no labels (None).
        """
        options = _options(self)
        conditional = _checked_conditional(options.pop("conditional"), num_classes)
        backbone = glow_backbone(**options)
        return backbone, glow_top(num_classes=num_classes if conditional else None, ring=self.ring)

    def outline(self, params: Any, shape: tuple[int, ...]) -> list[tuple[str, str, Any]]:
        """Its parts with the shapes they work on and their parameters."""
        (backbone, top), (height, width, channels) = params, shape
        rows = []
        for level, part in enumerate(backbone[0::2], 1):
            height, width, channels = height // 2, width // 2, channels * 4
            rows.append(
                (f"level {level}, {self.steps} steps", f"{height}×{width}×{channels}", part)
            )
            if level < self.levels:
                channels //= 2
                rows.append((f"split {level}", "", backbone[1::2][level - 1]))
        return [*rows, ("top prior", "", top)]


Model = Glow
KINDS = {"glow": Glow}


def _options(model: Model) -> dict[str, Any]:
    """The fields of a model as arguments, with its dtype as an array's (None: as the flow's own).

    Raises:
        ValueError: the dtype is not one of its choices.
    """
    options = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    del options["kind"]
    check_choice("dtype", model.dtype, ("float32", "bfloat16"))
    return options | {"dtype": jnp.bfloat16 if model.dtype == "bfloat16" else None}


def _checked_conditional(conditional: bool, num_classes: int | None) -> bool:
    if conditional and num_classes is None:
        raise ValueError("model.conditional must be false for data without labels")
    return conditional
