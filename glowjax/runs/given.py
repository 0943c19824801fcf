"""Images that are given to a trained model: files, or a split of a data set."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glowjax.checks import check_positive, require
from glowjax.data import Source
from glowjax.data.images import decode
from glowjax.densities.quantization import from_uint8
from glowjax.runs.sources import load_split
from glowjax.runs.trained import ImageModel


class Given(NamedTuple):
    """Images as a model takes them, uint8 `[N, H, W, C]`, with their names and labels if any."""

    names: list[str]
    images: np.ndarray
    labels: np.ndarray | None


def read_files(model: ImageModel, paths: Sequence[Path]) -> Given:
    """Image files, brought to the size and the grey levels of a model's images.

    Raises:
        ValueError: a file cannot be read, is not an image of 8 bits, or is of another size than the
            model's and the run has no data.resize.
    """
    images = []
    for path in paths:
        try:
            images.append(decode(path.expanduser().read_bytes(), model.image_shape[2]))
        except Exception as error:  # Pillow's are of all kinds
            raise ValueError(f"file {path} cannot be read as an image: {error}") from error
    prepared = model.prepare(images)
    return Given([str(path) for path in paths], prepared, None)


def read_split(
    model: ImageModel, split: str, *, num: int | None = None, name: str | None = None
) -> Given:
    """The first images of a split of the run's data, or of another data set.

    Args:
        model: a trained model.
        split: train, validation or test.
        num: how many; default: all.
        name: of another data set; it is found or downloaded where the run's was.

    Raises:
        ValueError: as `glowjax.data.load`; images of another shape than the model's.
    """
    config = model.config
    if name is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, name=name))
    source = load_split(config, split)
    count = len(source) if num is None else num
    check_positive(num=count)
    index = np.arange(min(count, len(source)))
    images = _as_the_models(source, config.data.transform(source.images[index]), model)
    labels = None if source.labels is None else source.labels[index]
    return Given([f"{split} {i}" for i in index], images, labels)


def _as_the_models(source: Source, images: np.ndarray, model: ImageModel) -> np.ndarray:
    """Images with the grey levels of the model's, and of their shape."""
    levels = model.config.data.transform.levels(source)
    if levels == 256 > model.levels:
        images = np.asarray(from_uint8(images, levels=model.levels))
    given, wanted = images.shape[1:], f"of shape {model.image_shape}, as the model's"
    require(given == model.image_shape, f"images of {source.name}", given, wanted)
    return images
