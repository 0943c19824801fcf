"""A trained model from the folder that holds it."""

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glowjax.checks import check_choice, require
from glowjax.runs.checkpoints import Which
from glowjax.runs.exported import is_exported, load_exported
from glowjax.runs.folder import Run
from glowjax.runs.steps import abstract_state, make_trainer
from glowjax.runs.trained import ImageModel, image_model


def load(
    folder: str | Path, *, checkpoint: Which | int = "best", weights: str | None = None
) -> tuple[ImageModel, Any]:
    """A trained model and its weights, from the folder of a run or of `glowjax export`.

        model, params = glowjax.load("runs/demo")
        images = model.sample(params, jax.random.key(0), 16, temperature=0.7)
        bits = model.bits_per_dim(params, images)

    Args:
        folder: of a run, which may still be training, or of an exported model.
        checkpoint: `"best"` on validation, `"latest"`, or a step. An exported folder has one.
        weights: `"ema"` or `"raw"`; default: as the run is evaluated, or those exported.

    Returns:
        `(model, params)`.

    Raises:
        ValueError: the folder is not that of a run, or there is no such checkpoint or weights, or
            they cannot be read.
    """
    trained = restore(folder, checkpoint, weights)
    return trained.model, trained.params


class Trained(NamedTuple):
    """A model, its weights, and which they are: of what step, and `"ema"` or `"raw"`."""

    model: ImageModel
    params: Any
    step: int
    weights: str


def restore(
    folder: str | Path, checkpoint: Which | int = "best", weights: str | None = None
) -> Trained:
    """What `load` returns, and which weights they are; arguments and errors as for `load`."""
    folder = Path(folder).expanduser()
    if weights is not None:
        check_choice("weights", weights, ("ema", "raw"))
    if is_exported(folder):
        model, params, about = load_exported(folder)
        trained = Trained(model, params, about["step"], about["weights"])
        wanted = f"{trained.weights!r} for {folder}, which was exported with these alone"
        require(weights in (None, trained.weights), "weights", weights, wanted)
        wanted = f"that of step {trained.step} for {folder}, which was exported with it alone"
        require(checkpoint in ("best", "latest", trained.step), "checkpoint", checkpoint, wanted)
        return trained
    with contextlib.closing(Run.open(folder, read_only=True)) as run:
        weights = weights or run.config.evaluate_with
        if weights == "ema" and run.config.ema is None:
            raise ValueError("weights must be 'raw': the run kept no average")
        trainer = make_trainer(run.config, **run.images)
        state = run.checkpoints.restore(abstract_state(trainer, run.images), checkpoint)
        model = image_model(trainer, run.config, run.images, run.class_names)
        params = jax.tree.map(jnp.asarray, state.weights(weights).flow)  # on the device, once
        return Trained(model, params, int(state.step), weights)
