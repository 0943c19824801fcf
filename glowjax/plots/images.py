"""Sheets of images."""

import math
import os
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from glowjax.checks import check_integer, require
from glowjax.plots.style import INK, save


def image_grid(
    images: ArrayLike,
    *,
    columns: int | None = None,
    padding: int = 1,
    scale: int | None = None,
    background: int = 255,
) -> Image.Image:
    """Lays images out in rows, as one picture.

    Args:
        images: `[N, H, W, C]` uint8, N at least 1. Two channels are laid side by side in grey, and
            of more than three the first three are shown.
        columns: images in a row; by default about as many as make the picture square.
        padding: width of the gaps between images, in pixels of theirs.
        scale: whole factor of enlargement, by nearest neighbour; by default the largest that keeps
            the longer side within 1000 pixels, and at least 1.
        background: grey level of the gaps and of places left empty, 0 to 255.

    Returns:
        A grey (C = 1 or 2) or an RGB picture.

    Raises:
        ValueError: `images` is of another dtype or shape, or an option is out of range.
    """
    images = checked("images", images)
    count, height, width, channels = images.shape
    columns = _columns(count, height / width) if columns is None else columns
    check_integer("columns", columns, 1)
    check_integer("padding", padding, 0)

    rows = math.ceil(count / columns)
    down, right = height + padding, width + padding
    sheet = np.full((rows, down, columns, right, channels), background, np.uint8)
    for i, image in enumerate(images):
        sheet[i // columns, :height, i % columns, :width] = image
    sheet = sheet.reshape(rows * down, columns * right, channels)
    sheet = sheet[: rows * down - padding, : columns * right - padding]

    scale = _scale(max(sheet.shape)) if scale is None else scale
    check_integer("scale", scale, 1)
    sheet = sheet.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def sample_sheet(
    path: str | os.PathLike,
    *,
    real: ArrayLike,
    samples: ArrayLike,
    title: str | None = None,
) -> None:
    """Writes a PNG of real images above samples, both labelled and laid out alike.

    Args:
        path: the file, which appears whole or not at all.
        real: `[N, H, W, C]` uint8, N at least 1; other channels than 1 or 3 as in `image_grid`.
        samples: `[M, H, W, C]` uint8.
        title: a line above them.

    Raises:
        ValueError: `real` or `samples` is of another dtype or shape, or the two differ in it.
    """
    shapes = [np.shape(images)[1:] for images in (real, samples)]
    real, samples = checked("real", real), checked("samples", samples)
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"samples must hold images of the shape of real's, {shapes[0]}, got {shapes[1]}"
        )
    shown = _shown(shapes[0][2])
    height, width = real.shape[1:3]
    columns = _columns(max(len(real), len(samples)), 2 * height / width)
    scale = _scale(columns * (width + 1))
    panels = {
        label: np.asarray(image_grid(images, columns=columns, scale=scale).convert("RGB"))
        for label, images in ((f"Data{shown}", real), (f"Samples{shown}", samples))
    }

    # All in pixels, and in proportion to the width, so that no image is resampled.
    wide = panels[f"Data{shown}"].shape[1]
    margin, line, space = round(0.03 * wide), round(0.03 * wide), round(0.025 * wide)
    heading = 2 * line if title else 0
    total_width = wide + 2 * margin
    total_height = 2 * margin + heading + 2 * line + space
    total_height += sum(panel.shape[0] for panel in panels.values())
    dpi = 0.15 * wide
    figure = Figure((total_width / dpi, total_height / dpi), dpi, facecolor="white")

    def text(string, top, **style):
        x, y = margin / total_width, 1 - top / total_height
        figure.text(x, y, string, va="top", color=INK, **style)

    top = margin
    if title:
        text(title, top, fontsize=10.5, fontweight="bold")
    top += heading
    for label, panel in panels.items():
        text(label, top, fontsize=8.5)
        top += line + panel.shape[0]
        figure.figimage(panel, xo=margin, yo=total_height - top)
        top += space
    save(figure, path)


def image_rows(path: str | os.PathLike, rows: Mapping[str, ArrayLike]) -> None:
    """Writes a PNG of rows of images, each with its name at the left.

    Args:
        path: the file, which appears whole or not at all.
        rows: name to `[N, H, W, C]` uint8, all of one shape; C as in `image_grid`.

    Raises:
        ValueError: there are no rows, or images are of another dtype or shape, or differ in it.
    """
    require(rows, "rows", rows, "one at least")
    images = [checked(f"row {name!r}", row) for name, row in rows.items()]
    shapes = sorted({row.shape for row in images})
    require(len(shapes) == 1, "rows", shapes, "of one shape")
    count, _, width, _ = shapes[0]
    scale = _scale(count * (width + 1))
    sheet = image_grid(np.concatenate(images), columns=count, scale=scale)
    picture = np.asarray(sheet.convert("RGB"))
    dpi = 0.13 * picture.shape[1]
    points = min(9, 50 * picture.shape[0] / len(rows) / dpi)  # of the names
    margin = round(points / 72 * dpi * (0.62 * max(map(len, rows)) + 1))
    size = (margin + picture.shape[1], picture.shape[0])
    figure = Figure((size[0] / dpi, size[1] / dpi), dpi, facecolor="white")
    figure.figimage(picture, xo=margin, yo=0)
    for i, name in enumerate(rows):
        y, x = 1 - (i + 0.5) / len(rows), (margin - 0.5 * points / 72 * dpi) / size[0]
        figure.text(x, y, name, ha="right", va="center", color=INK, fontsize=points)
    save(figure, path)


def checked(name: str, images: ArrayLike) -> np.ndarray:
    """What is drawn of images `[N, H, W, C]`, `[N, H, W', 1 or 3]`, or `ValueError`."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8, got {images.dtype}")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"{name} must be [N, H, W, C], none empty, got shape {images.shape}")
    if images.shape[3] == 2:
        return np.concatenate([images[..., :1], images[..., 1:]], axis=2)
    return images[..., :3]


def _shown(channels: int) -> str:
    """Says which channels a picture shows, where that is not plain."""
    if channels == 2:
        return ", channels 1 and 2 side by side"
    return f", channels 1 to 3 of {channels}" if channels > 3 else ""


def _columns(count: int, ratio: float) -> int:
    """Columns for `count` images: at least √(count·ratio), and few places left empty."""
    least = min(count, math.ceil(math.sqrt(count * ratio)))
    return min(range(least, min(count, 2 * least) + 1), key=lambda columns: -count % columns)


def _scale(side: int) -> int:
    return max(1, 1000 // side)
