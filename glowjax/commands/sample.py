"""glowjax sample."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glowjax import plots
from glowjax.checks import require
from glowjax.commands.options import Weights, check_out, is_folder, parse
from glowjax.files import write_whole
from glowjax.runs.pictures import draw, names_of, number_of

ROW = 8  # images of each class or temperature, unless told


@dataclass(frozen=True, kw_only=True)
class Sample(Weights):
    """Draw images from a trained model; of more than 3 channels, a picture shows the first 3."""

    num: int | None = None
    """How many images, for each temperature; default: 64, or 8 of each class or temperature."""
    temperature: tuple[float, ...] = (0.7,)
    """Scale of the latents: 1 samples the model itself, less gives likelier, smoother images.
    Several make a row each, from the same noise."""
    label: str | None = None
    """Class of all images, by its name or number, for a conditional model; default: as many of
    each, class by class."""
    guidance: float = 0.0
    """Makes images more typical of their class, of a model trained with model.label_dropout: 1 is a
    usual weight, and more leaves less variety."""
    seed: int = 0
    out: Path | None = None
    """A .png, the sheet; a .npy, the images as uint8 [N, H, W, C], with an axis of temperatures
    first where there are several; or a folder, new or empty, for a PNG of each image. Default:
    sampled.png in the run's folder."""


def sample(arguments: list[str]) -> None:
    """Draws images from a trained model."""
    options = parse(Sample, "sample", arguments)
    require(options.temperature, "temperature", options.temperature, "one at least")
    path = options.path(options.out, "sampled.png")
    check_out(path, ".png", ".npy")
    model, params = options.load()
    if options.guidance:
        model = model.guided(options.guidance)
    label = None if options.label is None else number_of(model, options.label)
    classes = names_of(model) if model.conditional and label is None else None
    rows = classes or len(options.temperature) > 1
    usual = ROW * (len(classes) if classes else 1) if rows else 64
    num = usual if options.num is None else options.num
    images = {
        temperature: draw(
            model, params, num, temperature=temperature, label=label, seed=options.seed
        )
        for temperature in options.temperature
    }
    if is_folder(path):
        _write_each(path, images)
    elif path.suffix == ".npy":
        _write_array(path, images)
    else:
        _write_sheet(path, images, classes)
    print(path)


def _write_array(path: Path, images: Mapping[float, np.ndarray]) -> None:
    """`[N, H, W, C]`, or `[T, N, H, W, C]` of several temperatures."""
    array = np.stack([*images.values()])
    content = io.BytesIO()
    np.save(content, array if len(images) > 1 else array[0])
    write_whole(path, content.getvalue())


def _write_each(folder: Path, images: Mapping[float, np.ndarray]) -> None:
    """A PNG of each image, named by its number, and by its temperature where there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    for temperature, some in images.items():
        before = f"temperature-{temperature:g}-" if len(images) > 1 else ""
        for i, image in enumerate(some):
            plots.image_grid(image[None], scale=1).save(folder / f"{before}{i:05}.png")


def _write_sheet(
    path: Path, images: Mapping[float, np.ndarray], classes: Sequence[str] | None
) -> None:
    """A row for each temperature, or else for each class, or else a grid."""
    first, *others = images.values()
    if others:
        plots.image_rows(path, {f"temperature {t:g}": some for t, some in images.items()})
    elif classes and len(first) % len(classes) == 0:
        by_class = first.reshape(len(classes), -1, *first.shape[1:])
        rows = zip(classes, by_class, strict=True)
        plots.image_rows(path, {_called(name): some for name, some in rows})
    else:
        plots.image_grid(first).save(path)


def _called(name: str) -> str:
    return f"class {name}" if name.isdecimal() else name
