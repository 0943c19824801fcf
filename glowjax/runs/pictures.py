"""What is drawn of a model of images while it trains, and after."""

from typing import Any

import jax
import numpy as np

from glowjax import data, plots
from glowjax.checks import check_integer, check_positive
from glowjax.densities.quantization import to_uint8
from glowjax.runs.folder import Run
from glowjax.runs.trained import ImageModel

CHUNK = 64  # images sampled at a time


def pictures(run: Run, model: ImageModel, params: Any, source: data.Source) -> None:
    """Draws samples.png (real above, sampled below) and curves.png."""
    config = run.config
    count = min(config.sample_count, len(source))
    real = config.data.transform(source.images[np.arange(count)])
    sampled = draw(model, params, count, temperature=config.temperature, seed=config.seed)
    plots.sample_sheet(
        run.folder / "samples.png",
        real=np.asarray(to_uint8(real, levels=model.levels)),
        samples=sampled,
        title=f"{config.data.name}, temperature {config.temperature:g}",
    )
    plots.curves(run.folder / "curves.png", run.history(), title=run.folder.name)


def draw(
    model: ImageModel,
    params: Any,
    num: int,
    *,
    temperature: float = 0.7,
    label: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draws 8-bit images, `[num, H, W, C]`, some at a time.

    Args:
        model, params: as `glowjax.load` returns them.
        num: how many.
        temperature: of the latents.
        label: for a conditional model: the class of all; default: as many of each, class by class.
        seed: same seed, same images.

    Raises:
        ValueError: an argument is not as above.
    """
    check_positive(num=num)
    check_integer("seed", seed, 0, 2**32 - 1)
    labels, chunk, key = _labels(model, label, num), min(num, CHUNK), jax.random.key(seed)
    drawn = []
    for start in range(0, num, chunk):
        context = None if labels is None else np.resize(labels[start:], chunk)
        images = model.sample(params, jax.random.fold_in(key, start), chunk, temperature, context)
        drawn.append(to_uint8(images, levels=model.levels))
    return np.concatenate(drawn)[:num]


def _labels(model, label, num):
    if not model.conditional:
        if label is not None:
            raise ValueError(f"label must be left out: the model is not conditional, got {label}")
        return None
    if label is None:
        return np.sort(np.arange(num, dtype=np.int32) % model.num_classes)
    if not 0 <= label < model.num_classes:
        raise ValueError(f"label must be in 0..{model.num_classes - 1}, got {label}")
    return np.full(num, label, np.int32)
