"""Pictures of a run as PNG files: sheets of images, and curves of training."""

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import ArrayLike
from PIL import Image

from glowjax.arrays import check_integer

INK, GREY, PALE, BLUE, RED = "#222222", "#777777", "#b5cde3", "#2a6aa5", "#c4452d"


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
        images: `[N, H, W, C]` uint8, N at least 1, C 1 or 3.
        columns: images in a row; by default about as many as make the picture square.
        padding: width of the gaps between images, in pixels of theirs.
        scale: whole factor of enlargement, by nearest neighbour; by default the largest that keeps
            the longer side within 1000 pixels, and at least 1.
        background: grey level of the gaps and of places left empty, 0 to 255.

    Returns:
        A grey (C = 1) or an RGB picture.

    Raises:
        ValueError: `images` is of another dtype or shape, or an option is out of range.
    """
    images = _checked("images", images)
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
        real: `[N, H, W, C]` uint8, N at least 1, C 1 or 3.
        samples: `[M, H, W, C]` uint8.
        title: a line above them.

    Raises:
        ValueError: `real` or `samples` is of another dtype or shape, or the two differ in it.
    """
    real, samples = _checked("real", real), _checked("samples", samples)
    if real.shape[1:] != samples.shape[1:]:
        raise ValueError(
            f"samples must hold images of the shape of real's, {real.shape[1:]},"
            f" got {samples.shape[1:]}"
        )
    height, width = real.shape[1:3]
    columns = _columns(max(len(real), len(samples)), 2 * height / width)
    scale = _scale(columns * (width + 1))
    panels = {
        label: np.asarray(image_grid(images, columns=columns, scale=scale).convert("RGB"))
        for label, images in (("Data", real), ("Samples", samples))
    }

    # All in pixels, and in proportion to the width, so that no image is resampled.
    wide = panels["Data"].shape[1]
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
    _save(figure, path)


def curves(
    path: str | os.PathLike,
    history: Sequence[Mapping[str, float]],
    *,
    title: str | None = None,
    baselines: Mapping[str, float] | None = None,
) -> None:
    """Writes a PNG of bits/dim over training: train, smoothed too, and validation with its best.

    The first values of a run may be so large that the rest would look flat: the axis leaves them
    out, and says so.

    Args:
        path: the file, which appears whole or not at all.
        history: rows with `step` and any of `images` (seen so far), `train_bits_per_dim` and
            `validation_bits_per_dim`. If no row has `images`, the horizontal axis counts steps.
            Of two rows for one step the later counts; values that are not finite are left out.
        title: a line above the axes.
        baselines: name to bits/dim, drawn as dashed lines.

    Raises:
        ValueError: `history` has no finite bits/dim.
    """
    per_step = next((r["images"] / r["step"] for r in reversed(history) if r.get("images")), None)
    train = _points(history, "train_bits_per_dim", per_step)
    validation = _points(history, "validation_bits_per_dim", per_step)
    if not len(train) + len(validation):
        raise ValueError(
            "history must have a finite train_bits_per_dim or validation_bits_per_dim,"
            f" got none in {len(history)} rows"
        )
    baselines = dict(sorted((baselines or {}).items(), key=lambda item: item[1]))

    figure = Figure((8, 4.5), 160, facecolor="white", layout="constrained")
    axes = figure.subplots()
    if len(train):
        reach = len(train) // 80
        smooth = _running(np.mean, _running(np.median, train[:, 1], reach), reach)
        axes.plot(*train.T, color=PALE, linewidth=0.8)
        axes.plot(train[:, 0], smooth, color=BLUE, linewidth=1.8, label="train")
    if len(validation):
        axes.plot(*validation.T, "o-", color=INK, markersize=4, linewidth=1, label="validation")
        best = min(validation, key=lambda point: point[1])
        label = f"best validation: {best[1]:.3f}"
        axes.plot(*best, "o", color=RED, markersize=8, linestyle="none", label=label)

    values = np.concatenate([train[:, 1], validation[:, 1]])
    low, high = _limits(values, list(baselines.values()))
    axes.set_ylim(low, high)
    beside = -math.inf
    for name, value in baselines.items():
        axes.axhline(value, color=GREY, linestyle="--", linewidth=1, zorder=1)
        beside = max(value, beside + 0.05 * (high - low))  # so that names do not overlap
        place = axes.get_yaxis_transform()
        axes.text(
            1.01, beside, f"{name} {value:.2f}", transform=place, va="center", color=GREY, size=9
        )

    axes.set_xlabel("images seen" if per_step else "steps", color=INK)
    axes.set_ylabel("bits/dim", color=INK)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
    if title:
        axes.set_title(title, loc="left", fontweight="bold", color=INK)
    if values.max() > high:
        axes.set_title(
            f"values up to {values.max():.3g} lie above", loc="right", size=9, color=GREY
        )
    _save(figure, path)


def _checked(name: str, images: ArrayLike) -> np.ndarray:
    """`images` as an array, or `ValueError` if they are not `[N, H, W, 1 or 3]` uint8."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise ValueError(f"{name} must be [N, H, W, 1 or 3], none empty, got shape {images.shape}")
    return images


def _columns(count: int, ratio: float) -> int:
    """Columns for `count` images: at least √(count·ratio), and few places left empty."""
    least = min(count, math.ceil(math.sqrt(count * ratio)))
    return min(range(least, min(count, 2 * least) + 1), key=lambda columns: -count % columns)


def _scale(side: int) -> int:
    return max(1, 1000 // side)


def _points(history: Sequence[Mapping], key: str, per_step: float | None) -> np.ndarray:
    """`[n, 2]`: images seen (or steps) and the finite values of `key`, in order."""
    points = {}
    for row in history:
        value = row.get(key)
        if value is not None and math.isfinite(value):
            points[row.get("images", row["step"] * per_step) if per_step else row["step"]] = value
    return np.array(sorted(points.items())).reshape(-1, 2)


def _running(statistic: Callable, values: np.ndarray, reach: int) -> np.ndarray:
    """`statistic` of each value and its `reach` neighbours on either side."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return np.array([statistic(window) for window in windows])


def _limits(values: np.ndarray, baselines: Sequence[float]) -> tuple[float, float]:
    """Limits that show all baselines and all but the most extreme values."""
    low, usual = np.percentile(values, [1, 90])
    high = min(values.max(), usual + 0.5 * (usual - low))
    low, high = min(low, *baselines, high), max(high, *baselines, low)
    space = 0.05 * (high - low) or 0.05
    return low - space, high + space


def _save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes the PNG beside `path` first, so that `path` is never a broken file."""
    path = Path(path)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(png.getvalue())
    partial.replace(path)
