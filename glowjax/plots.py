"""Pictures as PNG files: sheets of images, curves of training, densities, samples; animations."""

import io
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter
from numpy.typing import ArrayLike
from PIL import Image

from glowjax.arrays import check_integer, check_positive, require
from glowjax.targets import grid

INK, GREY, PALE, BLUE, RED = "#222222", "#777777", "#b5cde3", "#2a6aa5", "#c4452d"
COLOURS = BLUE, RED, "#e0a030", "#3f8f5f", "#8060a8"
# Placed so that lightness falls evenly.
DENSITY = LinearSegmentedColormap.from_list(
    "density", [(0, "white"), (0.22, PALE), (0.67, BLUE), (1, "#0b2545")]
)

LogDensity = Callable[[np.ndarray], ArrayLike] | ArrayLike


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
        real: `[N, H, W, C]` uint8, N at least 1; other channels than 1 or 3 as in `image_grid`.
        samples: `[M, H, W, C]` uint8.
        title: a line above them.

    Raises:
        ValueError: `real` or `samples` is of another dtype or shape, or the two differ in it.
    """
    shapes = [np.shape(images)[1:] for images in (real, samples)]
    real, samples = _checked("real", real), _checked("samples", samples)
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
    _save(figure, path)


def image_rows(path: str | os.PathLike, rows: Mapping[str, ArrayLike]) -> None:
    """Writes a PNG of rows of images, each with its name at the left.

    Args:
        path: the file, which appears whole or not at all.
        rows: name to `[N, H, W, C]` uint8, all of one shape; C as in `image_grid`.

    Raises:
        ValueError: there are no rows, or images are of another dtype or shape, or differ in it.
    """
    require(rows, "rows", rows, "one at least")
    images = [_checked(f"row {name!r}", row) for name, row in rows.items()]
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

    figure, axes = _one_panel()
    if len(train):
        _smoothed(axes, train, label="train")
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

    _dress(
        axes,
        xlabel="images seen" if per_step else "steps",
        ylabel="bits/dim",
        title=title,
        note=_left_out(values, high),
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    axes.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
    _save(figure, path)


def loss_curve(
    path: str | os.PathLike,
    values: ArrayLike,
    *,
    every: int = 1,
    ylabel: str = "loss",
    title: str | None = None,
) -> None:
    """Writes a PNG of a loss over steps, as it is and smoothed.

    Values that are not finite are left out, and those above the axis are told of, as in `curves`.

    Args:
        path: the file, which appears whole or not at all.
        values: `[n]`, the first at step `every`.
        every: steps between values.
        ylabel: what the values are.
        title: a line above the axes.

    Raises:
        ValueError: `values` are not `[n]`, or none is finite; `every` < 1.
    """
    values = np.asarray(values, float)
    check_positive(every=every)
    require(values.ndim == 1, "values", values.shape, "of shape [n]")
    finite = np.isfinite(values)
    require(finite.any(), "values", values, "finite, one at least")
    points = np.stack([every * np.arange(1, len(values) + 1), values], axis=-1)[finite]

    figure, axes = _one_panel()
    _smoothed(axes, points)
    low, high = _limits(points[:, 1], [])
    axes.set_ylim(low, high)
    note = _left_out(points[:, 1], high)
    _dress(axes, xlabel="steps", ylabel=ylabel, title=title, note=note)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    _save(figure, path)


def histogram_1d(
    path: str | os.PathLike,
    data: ArrayLike,
    grid: ArrayLike,
    curves: Mapping[str, LogDensity],
    *,
    outlines: Mapping[str, ArrayLike] | None = None,
    bins: int = 60,
    xlabel: str = "x",
    title: str | None = None,
) -> None:
    """Writes a PNG of a histogram of numbers, of area 1, under densities.

    Args:
        path: the file, which appears whole or not at all.
        data: `[n]`; what lies outside the grid counts, but is not seen.
        grid: `[m]`, increasing: where the densities are drawn.
        curves: name to log-density in nats: a function from `[m, 1]` to `[m]`, or values `[m]`.
        outlines: name to further numbers `[k]`, whose histograms are drawn as steps.
        bins: over the grid.
        xlabel, title: of the axes.

    Raises:
        ValueError: `data`, `grid` or values are of another shape; `grid` does not increase.
    """
    sets = {
        name: np.asarray(values, float)
        for name, values in [("data", data), *(outlines or {}).items()]
    }
    for name, values in sets.items():
        require(values.ndim == 1 and values.size, name, values.shape, "of shape [n]")
    grid = np.asarray(grid, float)
    ok = grid.ndim == 1 and grid.size > 1 and np.all(np.diff(grid) > 0)
    require(ok, "grid", grid, "of shape [m] and increasing")
    check_positive(bins=bins)
    edges = np.linspace(grid[0], grid[-1], bins + 1)
    colours = itertools.cycle(COLOURS)

    figure, axes = _one_panel()
    for name, values in sets.items():
        heights = np.histogram(values, edges)[0] / (values.size * np.diff(edges))
        if name == "data":
            axes.stairs(heights, edges, fill=True, color=PALE, label=name)
        else:
            axes.stairs(heights, edges, color=next(colours), linewidth=1.2, label=name)
    for name, log_density in curves.items():
        density = np.exp(_values(name, log_density, grid[:, None], grid.shape))
        axes.plot(grid, density, color=next(colours), linewidth=1.8, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlim(grid[0], grid[-1])
    _dress(axes, xlabel=xlabel, ylabel="density", title=title)
    axes.legend(loc="best", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
    _save(figure, path)


def intervals(
    path: str | os.PathLike,
    values: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    title: str | None = None,
    reference: float | None = None,
) -> None:
    """Writes a PNG of numbers with their errors: names from top to bottom, each a dot and a bar.

    Args:
        path: the file, which appears whole or not at all.
        values: name to (number, error); the bar goes from number - error to number + error.
        xlabel: what the numbers are.
        title: a line above the axes.
        reference: a number, drawn as a dashed line.

    Raises:
        ValueError: there are no values, or one is not finite; an error is negative.
    """
    require(values, "values", "none", "one at least")
    for name, (number, error) in values.items():
        ok = math.isfinite(number) and 0 <= error < math.inf
        require(ok, f"value {name!r}", (number, error), "finite, with an error of at least 0")
    figure = Figure((8, 1.2 + 0.42 * len(values)), 160, facecolor="white", layout="constrained")
    axes = figure.subplots()
    if reference is not None:
        axes.axvline(reference, color=GREY, linestyle="--", linewidth=1, zorder=1)
    rows = range(len(values))
    numbers, errors = zip(*values.values(), strict=True)
    axes.errorbar(
        numbers, rows, xerr=errors, fmt="o", color=BLUE, markersize=6, capsize=4, linewidth=1.6
    )
    for row, number in zip(rows, numbers, strict=True):
        axes.annotate(
            f"{number:.2f}", (number, row), (0, 6), textcoords="offset points", ha="center",
            color=INK, size=8.5,
        )  # fmt: skip
    axes.set_yticks(rows, list(values))
    axes.set_ylim(len(values) - 0.5, -0.7)
    _dress(axes, xlabel=xlabel, ylabel="", title=title)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _save(figure, path)


def histograms(
    path: str | os.PathLike,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    bins: int = 60,
    columns: int | None = None,
) -> None:
    """Writes a PNG of panels, each of several sets of numbers as histograms of area 1.

    An axis leaves out the half per cent of numbers at either end of its panel.

    Args:
        path: the file, which appears whole or not at all.
        panels: title to name to `[n]`; a name has one colour in all panels, and one legend.
        bins: of each panel.
        columns: panels in a row; by default all.

    Raises:
        ValueError: there are no panels, or no sets in one; numbers are not `[n]`.
    """
    require(panels, "panels", panels, "one at least")
    columns = min(len(panels), len(panels) if columns is None else columns)
    check_positive(bins=bins, columns=columns)
    rows = math.ceil(len(panels) / columns)
    size = (0.4 + 3.0 * columns, 0.4 + 2.1 * rows)
    figure = Figure(size, 200, facecolor="white", layout="constrained")
    colours: dict[str, str] = {}
    handles = {}
    for i, (title, sets) in enumerate(panels.items()):
        require(sets, f"panel {title!r}", sets, "of one set at least")
        for name, values in sets.items():
            values = np.asarray(values, float)
            require(values.ndim == 1 and values.size, f"set {name!r}", values.shape, "of shape [n]")
            colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
        pooled = np.concatenate([np.asarray(values, float) for values in sets.values()])
        low, high = np.percentile(pooled, [0.5, 99.5])
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        axes = figure.add_subplot(rows, columns, i + 1)
        for name, values in sets.items():
            heights = np.histogram(values, edges)[0] / (np.size(values) * np.diff(edges))
            style: dict = {"color": colours[name], "fill": True, "alpha": 0.45, "label": name}
            handles[name] = axes.stairs(heights, edges, **style)
        axes.set(yticks=[], xlim=(edges[0], edges[-1]))
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_title(title, color=INK, fontsize=9)
        axes.tick_params(labelsize=8)
    place = {"loc": "outside lower center", "ncols": len(handles)}
    figure.legend(handles=list(handles.values()), frameon=False, fontsize=9, **place)
    _save(figure, path)


def lines(
    path: str | os.PathLike,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    columns: int | None = None,
) -> None:
    """Writes a PNG of named curves, in one panel or several, with error bars where there are any.

    Args:
        path: the file, which appears whole or not at all.
        panels: title to name to `[n, 2]`, x and y, or `[n, 3]`, the last the error of y. A name has
            one colour in all panels.
        xlabel, ylabel: of all panels.
        levels: title to a value, drawn as a dashed line: the truth, say.
        limits: title to (low, high) of its vertical axis.
        log_x: a logarithmic horizontal axis; curves with errors are moved aside a little there.
        log_y: a logarithmic vertical axis; what is not above 0 is left out.
        columns: panels in a row; by default all.

    Raises:
        ValueError: there are no panels; a curve of another shape; a level or limits for no panel.
    """
    require(panels, "panels", "none", "one at least")
    levels, limits = dict(levels or {}), dict(limits or {})
    for title in [*levels, *limits]:
        require(title in panels, "levels and limits", title, f"for a panel, {list(panels)}")
    columns = len(panels) if columns is None else columns
    check_positive(columns=columns)
    columns = min(columns, len(panels))
    rows, names = math.ceil(len(panels) / columns), list({n: 0 for p in panels.values() for n in p})
    size = (8, 4.5) if len(panels) == 1 else (3.2 * columns, 2.6 * rows + 0.4)
    figure = Figure(size, 160, facecolor="white", layout="constrained")
    frames = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in frames[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, curves) in zip(frames, panels.items(), strict=False):
        for name, points in curves.items():
            _line(axes, name, points, names.index(name), len(names), log_x)
        if title in levels:
            axes.axhline(levels[title], color=GREY, linestyle="--", linewidth=1, zorder=1)
        axes.set_ylim(limits.get(title))
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if log_y:
            axes.set_yscale("log")
        _dress(axes, xlabel=xlabel, ylabel=ylabel, title=title)
    handles = {n: h for a in frames for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    if len(panels) == 1:
        frames[0].legend(loc="best", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
    else:
        place = {"loc": "outside lower center", "ncols": max(1, len(names)), "frameon": False}
        figure.legend([handles[n] for n in names], names, **place)
    _save(figure, path)


def _line(axes, name: str, points: ArrayLike, number: int, count: int, log_x: bool) -> None:
    """One curve of `lines`."""
    points = np.asarray(points, float)
    ok = points.ndim == 2 and points.shape[1] in (2, 3)
    require(ok, f"curve {name!r}", points.shape, "of shape [n, 2] or [n, 3]")
    style = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.4, "label": name}
    if points.shape[1] == 2:
        axes.plot(*points.T, **style)
        return
    aside = 1.12 ** (number - (count - 1) / 2) if log_x else 1.0
    axes.errorbar(aside * points[:, 0], *points[:, 1:].T, fmt="o-", ms=3, capsize=2, **style)


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
    _save(_density_figure(values, extent, samples or {}, columns, curves or {}), path)


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
    _save(figure, path)


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
    images = _checked("frames", np.stack([np.asarray(frame) for frame in frames]))

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
    _write(gif.getvalue(), path)


def _checked(name: str, images: ArrayLike) -> np.ndarray:
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


def _values(name: str, log_density: LogDensity, x: np.ndarray, shape: tuple[int, ...]):
    """Values of a log-density at `x: [N, D]`, of `shape`, or `ValueError`."""
    given = callable(log_density)
    values = np.asarray(log_density(x) if callable(log_density) else log_density, float)
    wanted = x.shape[:1] if given else shape
    what = f"[{', '.join(map(str, wanted))}]"
    require(values.shape == wanted, f"log-density {name!r}", values.shape, f"of shape {what}")
    return values.reshape(shape)


def _grid_values(title: str, log_density: LogDensity, extent, points: int) -> np.ndarray:
    x = np.asarray(grid(extent, points)[0])
    return _values(title, log_density, x, (points, points))


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


def _one_panel():
    figure = Figure((8, 4.5), 160, facecolor="white", layout="constrained")
    return figure, figure.subplots()


def _smoothed(axes, points: np.ndarray, **line) -> None:
    """A noisy curve `[n, 2]`, pale, and its running mean of running medians."""
    reach = len(points) // 80
    smooth = _running(np.mean, _running(np.median, points[:, 1], reach), reach)
    axes.plot(*points.T, color=PALE, linewidth=0.8)
    axes.plot(points[:, 0], smooth, color=BLUE, linewidth=1.8, **line)


def _left_out(values: np.ndarray, high: float) -> str | None:
    return f"values up to {values.max():.3g} lie above" if values.max() > high else None


def _dress(axes, *, xlabel: str, ylabel: str, title: str | None, note: str | None = None) -> None:
    """Labels, title, a note at the right, lines across, and no box."""
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, loc="left", fontweight="bold", color=INK)
    if note:
        axes.set_title(note, loc="right", size=9, color=GREY)


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
    png = io.BytesIO()
    figure.savefig(png, format="png")
    _write(png.getvalue(), path)


def _write(content: bytes, path: str | os.PathLike) -> None:
    """Writes the file beside `path` first, so that `path` is never a broken one."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
