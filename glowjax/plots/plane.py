"""Densities and samples of the plane, still and moving."""

import io
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from glowjax.checks import check_positive, require
from glowjax.densities.targets import grid
from glowjax.files import write_whole
from glowjax.plots.distributions import LogDensity, evaluated
from glowjax.plots.images import checked
from glowjax.plots.style import BLUE, COLOURS, INK, PALE, RED, save

# Placed so that lightness falls evenly.
DENSITY = LinearSegmentedColormap.from_list(
    "density", [(0, "white"), (0.22, PALE), (0.67, BLUE), (1, "#0b2545")]
)


def density_2d(
    path: str | os.PathLike,
    panels: Mapping[str, LogDensity],
    *,
    extent: tuple[float, float],
    samples: Mapping[str, ArrayLike] | None = None,
    curves: Mapping[str, Sequence[ArrayLike]] | None = None,
    points: int = 400,
    columns: int | None = None,
) -> None:
    """Writes a PNG of densities of the plane side by side, each dark where it is highest.

    Args:
        path: the file, which appears whole or not at all.
        panels: title to log-density in nats, up to a constant: a function from `[N, 2]` to `[N]`,
            or values `[points, points]` at `glowjax.targets.grid(extent, points)`.
        extent: (low, high) of both axes.
        samples: title to `[n, 2]`, dots on the panel of that title.
        curves: title to several `[m, 2]`, lines on the panel of that title.
        points: of the grid along each axis.
        columns: panels in a row; by default all.

    Raises:
        ValueError: there are no panels; values, samples or curves are of another shape, or for no
            panel; an `extent` without low < high.
    """
    values = {title: _grid_values(title, f, extent, points) for title, f in panels.items()}
    save(_density_figure(values, extent, samples or {}, columns, curves or {}), path)


def density_frame(
    panels: Mapping[str, ArrayLike],
    *,
    extent: tuple[float, float],
    samples: Mapping[str, ArrayLike] | None = None,
    columns: int | None = None,
    dpi: int = 100,
) -> np.ndarray:
    """The picture of `density_2d` as `[H, W, 3]` uint8: a frame of an `animation`.

    Args:
        panels: title to values of the log-density, `[points, points]`, rows from low to high.
        extent, samples, columns: as for `density_2d`.
        dpi: pixels an inch; a panel is 2.4 inches wide.

    Raises:
        ValueError: as `density_2d`.
    """
    values = {
        title: _grid_values(title, array, extent, np.shape(array)[0])
        for title, array in panels.items()
    }
    figure = _density_figure(values, extent, samples or {}, columns, {})
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def scatter_2d(
    path: str | os.PathLike,
    panels: Mapping[str, ArrayLike],
    *,
    groups: Mapping[str, ArrayLike] | None = None,
    extent: tuple[float, float] | None = None,
    columns: int | None = None,
) -> None:
    """Writes a PNG of sets of points of the plane side by side, on axes of one scale.

    Args:
        path: the file, which appears whole or not at all.
        panels: title to `[n, 2]`.
        groups: title to whole numbers `[n]`, by which the points of that panel are coloured.
        extent: (low, high) of both axes; by default what holds 99.8 % of all points.
        columns: panels in a row; by default all.

    Raises:
        ValueError: there are no panels; points are not `[n, 2]`, or groups not `[n]`; an `extent`
            without low < high.
    """
    clouds = {title: _cloud(title, points) for title, points in panels.items()}
    if extent is None and clouds:
        extent = _square(np.concatenate(list(clouds.values())))
    figure, frames = _panels(list(clouds), extent, columns)
    for axes, (title, points) in zip(frames, clouds.items(), strict=True):
        group = np.asarray((groups or {}).get(title, np.zeros(len(points), int)))
        require(group.shape == (len(points),), f"groups {title!r}", group.shape, "of shape [n]")
        _dots(axes, points, np.array(COLOURS)[group % len(COLOURS)])
    save(figure, path)


def animation(
    path: str | os.PathLike,
    frames: Sequence[ArrayLike],
    *,
    fps: float = 20,
    hold: float = 1.0,
) -> None:
    """Writes a GIF, played for ever, of frames `[H, W, 3]` uint8, with one palette for all.

    Args:
        path: the file, which appears whole or not at all.
        frames: one at least, of one shape.
        fps: frames a second; a GIF counts in hundredths of a second.
        hold: seconds for which the last frame stays.

    Raises:
        ValueError: there are no frames, or they are of another dtype or of two shapes; `fps` is
            not in 1 … 50, or `hold` is negative.
    """
    require(len(frames), "frames", len(frames), "one at least")
    require(1 <= fps <= 50, "fps", fps, "in 1..50")
    require(hold >= 0, "hold", hold, "at least 0")
    shapes = sorted({np.shape(frame) for frame in frames})
    require(len(shapes) == 1, "frames", shapes, "of one shape")
    require(shapes[0][2:] == (3,), "frames", shapes[0], "of shape [H, W, 3]")
    images = checked("frames", np.stack([np.asarray(frame) for frame in frames]))

    palette = _palette(images[np.linspace(0, len(images) - 1, min(len(images), 8)).astype(int)])
    pictures = [
        Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE)
        for image in images
    ]
    step = 10 * round(100 / fps)
    durations = [step] * (len(images) - 1) + [step + round(1000 * hold)]
    gif = io.BytesIO()
    pictures[0].save(
        gif, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0
    )
    write_whole(path, gif.getvalue())


def _grid_values(title: str, log_density: LogDensity, extent, points: int) -> np.ndarray:
    x = np.asarray(grid(extent, points)[0])
    return evaluated(title, log_density, x, (points, points))


def _cloud(title: str, points: ArrayLike) -> np.ndarray:
    points = np.asarray(points)
    require(
        points.ndim == 2 and points.shape[1] == 2,
        f"points {title!r}",
        points.shape,
        "of shape [n, 2]",
    )
    return points


def _square(points: np.ndarray) -> tuple[float, float]:
    """(low, high) of both axes that hold nearly all points."""
    low, high = np.percentile(points, 0.1), np.percentile(points, 99.9)
    space = 0.08 * (high - low) or 1.0
    return low - space, high + space


def _density_figure(values, extent, samples, columns, curves) -> Figure:
    figure, frames = _panels(list(values), extent, columns)
    for name, marks in {"samples": samples, "curves": curves}.items():
        for title in marks:
            require(title in values, name, title, f"for one of the panels, {list(values)}")
    for axes, (title, log_density) in zip(frames, values.items(), strict=True):
        top = np.max(log_density, where=np.isfinite(log_density), initial=-np.inf)
        density = np.exp(log_density - top) if np.isfinite(top) else np.zeros_like(log_density)
        axes.imshow(
            density,
            cmap=DENSITY,
            extent=(*extent, *extent),
            origin="lower",
            interpolation="bilinear",
            vmin=0,
            vmax=1,
        )
        if title in samples:
            _dots(axes, _cloud(title, samples[title]), RED)
        for curve in curves.get(title, ()):
            axes.plot(*_cloud(title, curve).T, color=RED, linewidth=0.8)
    return figure


def _dots(axes, points: np.ndarray, color: str | np.ndarray) -> None:
    """Points, the smaller and the paler the more there are."""
    crowd = min(1.0, 1000 / max(len(points), 1))
    size, alpha = 0.4 + 3.6 * crowd, 0.25 + 0.45 * crowd
    axes.scatter(*points.T, s=size, color=color, alpha=alpha, linewidths=0, rasterized=True)


def _panels(titles: Sequence[str], extent, columns: int | None):
    """A figure of square frames under titles, every length fixed, and their axes."""
    require(titles, "panels", "none", "one at least")
    columns = len(titles) if columns is None else columns
    check_positive(columns=columns)
    grid(extent, 1)  # checks extent
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    side, gap, heading = 2.4, 0.12, 0.32  # inches
    width, height = columns * (side + gap) + gap, rows * (side + heading) + gap
    figure = Figure((width, height), 200, facecolor="white")
    frames = []
    for i, title in enumerate(titles):
        left = gap + i % columns * (side + gap)
        top = i // columns * (side + heading) + heading
        place = (left / width, 1 - (top + side) / height, side / width, side / height)
        axes = figure.add_axes(place, xlim=extent, ylim=extent, xticks=[], yticks=[])
        axes.spines[:].set(color="#cccccc", linewidth=0.6)
        axes.set_title(title, color=INK, fontsize=10, pad=5)
        frames.append(axes)
    return figure, frames


def _palette(frames: np.ndarray) -> Image.Image:
    """256 colours for frames `[N, H, W, 3]`, with the commonest one, the background, exact."""
    mosaic = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))
    chosen = mosaic.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3).getpalette()
    colours, counts = np.unique(frames.reshape(-1, 3), axis=0, return_counts=True)
    chosen = np.array(chosen).reshape(-1, 3)
    common = colours[counts.argmax()]
    distance = np.abs(chosen - common.astype(int)).max(-1)
    chosen[distance < 8] = common  # all near ones, as Pillow looks colours up in steps of 4
    palette = Image.new("P", (1, 1))
    palette.putpalette(chosen.ravel().tolist())
    return palette
