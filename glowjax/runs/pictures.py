"""What is drawn of a model of images while it trains, and after."""

import functools
from typing import Any

import jax
import numpy as np

from glowjax import data, plots
from glowjax.checks import NON_NEGATIVE, check_in, check_integer, check_positive
from glowjax.data.class_names import class_number
from glowjax.densities.quantization import quantize, to_uint8
from glowjax.progress import CONSOLE
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
    """Draws 8-bit images, `[num, H, W, C]`, some at a time, as `eight_bits` makes them.

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
    check_in(NON_NEGATIVE, temperature=temperature)
    check_integer("seed", seed, 0, 2**32 - 1)
    labels, chunk, key = _labels(model, label, num), min(num, CHUNK), jax.random.key(seed)
    drawn = []
    for start in range(0, num, chunk):
        context = None if labels is None else np.resize(labels[start:], chunk)
        step_key = jax.random.fold_in(key, start)
        drawn.append(np.asarray(_sample(model, params, step_key, chunk, temperature, context)))
    return eight_bits(model, np.concatenate(drawn)[:num])


@functools.partial(jax.jit, static_argnums=(0, 3))
def _sample(model, params, key, n, temperature, labels):
    return model.density.sample(params, key, n, temperature, labels)


def eight_bits(model: ImageModel, x: np.ndarray) -> np.ndarray:
    """8-bit images of floats in (-½, ½); says how many are not finite, and therefore black."""
    lost = np.sum(~np.all(np.isfinite(x), axis=(1, 2, 3)))
    if lost:
        CONSOLE.print(
            f"{lost} of {len(x)} images are not finite, and drawn black: their latents are too far"
            " from those of the data. Smaller changes or a lower temperature help."
        )
    return np.asarray(to_uint8(quantize(x, levels=model.levels), levels=model.levels))


def names_of(model: ImageModel) -> tuple[str, ...]:
    """The names of a conditional model's classes, which are their numbers where none are known."""
    return model.class_names or tuple(map(str, range(model.num_classes or 0)))


def number_of(model: ImageModel, label: str) -> int:
    """The number of a class that is given by its name or number.

    Raises:
        ValueError: there is no such class, or the model is not conditional.
    """
    _check_takes_labels(model, label)
    number = class_number(label, names_of(model))
    if number is None:
        raise ValueError(f"label must be one of {', '.join(names_of(model))}, got {label}")
    return number


def _check_takes_labels(model, label):
    if not model.conditional:
        raise ValueError(f"label must be left out: the model is not conditional, got {label}")


def _labels(model, label, num):
    if label is None and not model.conditional:
        return None
    if label is None:
        return np.sort(np.arange(num, dtype=np.int32) % model.num_classes)
    _check_takes_labels(model, label)
    if not 0 <= label < model.num_classes:
        raise ValueError(f"label must be in 0..{model.num_classes - 1}, got {label}")
    return np.full(num, label, np.int32)
