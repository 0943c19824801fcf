"""What an experiment says: data, model, optimiser and the run, as frozen dataclasses.

Their fields are the options of `glowjax train EXPERIMENT --help`.
"""

import dataclasses
import runpy
import types
import typing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from glowjax.checks import (
    BELOW_ONE,
    NON_NEGATIVE,
    check_choice,
    check_in,
    check_integer,
    check_positive,
)
from glowjax.data.transform import Transform, check_positive_pair
from glowjax.fitting.optim import Optimizer
from glowjax.runs.models import KINDS, Glow, Model


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where images come from and what is done to them."""

    name: str = "digits"
    """A tensorflow-datasets name, with its config if any: mnist, celeb_a_hq/256, …; or folder:PATH,
    a folder of image files, or PATH.npy or PATH.npz, a file of arrays."""
    data_dir: Path | None = None
    """Folder of prepared data sets; default: that of tensorflow-datasets."""
    archives: Path | None = None
    """Folder that holds the data set's original archives, used instead of a download."""
    validation: int | None = None
    """Examples held out of the training split; default: a tenth, at most 5,000."""
    resize: int | tuple[int, int] | None = None
    """Cut out the central region of this shape, a square for one number or height and width, and
    average it down to so many pixels."""
    transform: Transform = field(default_factory=Transform)

    def __post_init__(self):
        if self.validation is not None:
            check_positive(validation=self.validation)
        if self.resize is not None:
            check_positive_pair("resize", self.resize)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training run, from data to pictures."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Glow)
    optimizer: Optimizer = field(default_factory=Optimizer)
    train_steps: int = 1000
    """Optimiser steps in all."""
    batch_size: int = 64
    """Images per step, over all devices."""
    seed: int = 0
    """Of initialisation, order, augmentation and noise."""
    ema: float | None = 0.999
    """Decay of the running average of the weights; None keeps no average."""
    evaluate_with: Literal["ema", "raw"] = "ema"
    """Weights to evaluate and sample with."""
    classifier_weight: float = 0.0
    """Weight of the cross-entropy of a linear classifier on the top latent, in bits."""
    log_every: int = 50
    """Steps between rows of the training log."""
    evaluate_every: int = 1000
    """Steps between validations, each with a checkpoint and new pictures."""
    evaluate_samples: int = 4
    """Draws of dequantization noise per image in the final evaluation."""
    sample_count: int = 32
    """Images on the sample sheet."""
    temperature: float = 0.7
    """Of the sample sheet."""

    def __post_init__(self):
        check_positive(
            train_steps=self.train_steps,
            batch_size=self.batch_size,
            log_every=self.log_every,
            evaluate_every=self.evaluate_every,
            evaluate_samples=self.evaluate_samples,
            sample_count=self.sample_count,
        )
        check_integer("seed", self.seed, 0, 2**32 - 1)
        check_choice("evaluate_with", self.evaluate_with, ("ema", "raw"))
        if self.ema is None and self.evaluate_with == "ema":
            raise ValueError("evaluate_with must be 'raw' where ema is None, got 'ema'")
        check_in(BELOW_ONE, optional=True, ema=self.ema)
        check_in(
            NON_NEGATIVE, classifier_weight=self.classifier_weight, temperature=self.temperature
        )


def to_json(config: Any) -> dict[str, Any]:
    """A config as plain dicts, numbers and strings."""
    return dataclasses.asdict(
        config,
        dict_factory=lambda items: {k: str(v) if isinstance(v, Path) else v for k, v in items},
    )


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of `to_json` by their names as options: `model.levels`, …"""
    fields: dict[str, Any] = {}
    for name, value in plain.items():
        inner = isinstance(value, dict)
        fields |= flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return fields


def from_json(plain: Any, kind: Any = Config) -> Any:
    """The inverse of `to_json`.

    Raises:
        ValueError: a field that `kind` does not have, or a kind of model that there is not.
    """
    if kind == Model:
        name = plain.get("kind", "glow")  # runs made before there were others say none
        check_choice("model.kind", name, KINDS)
        kind = KINDS[name]
    if isinstance(kind, types.UnionType):  # X | None
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
        return plain if plain is None else from_json(plain, kind)
    if kind is Path:
        return Path(plain)
    if isinstance(plain, list):  # JSON has no tuples, and configs no lists
        return tuple(from_json(item, Any) for item in plain)
    if not dataclasses.is_dataclass(kind):
        return plain
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(plain) - set(hints))
    if unknown:
        raise ValueError(f"config has fields that {kind.__name__} does not: {', '.join(unknown)}")
    return kind(**{name: from_json(value, hints[name]) for name, value in plain.items()})


def experiment(name: str) -> Config:
    """The `config` of an experiment, a name in `experiments/configs/` or the path of a Python file.

    Raises:
        ValueError: there is no such experiment, or the file has no `config`.
    """
    files = experiment_files()
    path = Path(name) if name.endswith(".py") else files.get(name)
    if path is None or not path.is_file():
        near = get_close_matches(name.lower(), files, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        if path is not None:
            hint = f"there is no such file; {hint}"
        raise ValueError(
            f"experiment must be one of {', '.join(files)}, or the path of a .py file, got"
            f" {name!r}; {hint}".rstrip("; ")
        )
    config = runpy.run_path(str(path)).get("config")
    if not isinstance(config, Config):
        raise ValueError(f"experiment {name!r} must define config, a glowjax.runs.Config")
    return config


def experiment_files() -> dict[str, Path]:
    """The experiments by name: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).parents[1]
    folder = package / "configs"
    folder = folder if folder.is_dir() else package.parent / "experiments" / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.py"))}
