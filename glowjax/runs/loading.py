"""A trained model from the folder that holds it."""

import contextlib
from pathlib import Path
from typing import Any

from glowjax.runs.exported import is_exported, load_exported
from glowjax.runs.folder import Run
from glowjax.runs.results import image_model, restore_weights
from glowjax.runs.trained import ImageModel


def load(
    folder: str | Path, *, checkpoint: str | int = "best", weights: str | None = None
) -> tuple[ImageModel, Any]:
    """A trained model and its weights, from the folder of a run or of `glowjax export`.

        model, params = glowjax.load("runs/demo")
        images = model.sample(params, jax.random.key(0), 16, temperature=0.7)
        bits = model.bits_per_dim(params, images)

    Args:
        folder: of a run, which may still be training.
        checkpoint: `"best"` on validation, `"latest"`, or a step; for runs.
        weights: `"ema"` or `"raw"`; default: as the run is evaluated; for runs.

    Raises:
        ValueError: the folder is not that of a run, or there is no such checkpoint or weights, or
            they cannot be read.
    """
    folder = Path(folder).expanduser()
    if is_exported(folder):
        return load_exported(folder)
    with contextlib.closing(Run.open(folder, read_only=True)) as run:
        weights = weights or run.config.evaluate_with
        trainer, params, _ = restore_weights(run, checkpoint, weights)
        return image_model(trainer, run.config, run.images), params.flow
