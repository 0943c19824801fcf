"""Curves, histograms and lines."""

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter
from numpy.typing import ArrayLike

from glowjax.checks import check_positive, require
from glowjax.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    PALE,
    RED,
    dress,
    left_out,
    one_panel,
    save,
)

LogDensity = Callable[[np.ndarray], ArrayLike] | ArrayLike


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

    figure, axes = one_panel()
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

    dress(
        axes,
        xlabel="images seen" if per_step else "steps",
        ylabel="bits/dim",
        title=title,
        note=left_out(values, high),
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    axes.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
    save(figure, path)


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

    figure, axes = one_panel()
    _smoothed(axes, points)
    low, high = _limits(points[:, 1], [])
    axes.set_ylim(low, high)
    note = left_out(points[:, 1], high)
    dress(axes, xlabel="steps", ylabel=ylabel, title=title, note=note)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    save(figure, path)


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

    figure, axes = one_panel()
    for name, values in sets.items():
        heights = np.histogram(values, edges)[0] / (values.size * np.diff(edges))
        if name == "data":
            axes.stairs(heights, edges, fill=True, color=PALE, label=name)
        else:
            axes.stairs(heights, edges, color=next(colours), linewidth=1.2, label=name)
    for name, log_density in curves.items():
        density = np.exp(evaluated(name, log_density, grid[:, None], grid.shape))
        axes.plot(grid, density, color=next(colours), linewidth=1.8, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlim(grid[0], grid[-1])
    dress(axes, xlabel=xlabel, ylabel="density", title=title)
    axes.legend(loc="best", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
    save(figure, path)


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
    dress(axes, xlabel=xlabel, ylabel="", title=title)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    save(figure, path)


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
    save(figure, path)


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
        dress(axes, xlabel=xlabel, ylabel=ylabel, title=title)
    handles = {n: h for a in frames for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    if len(panels) == 1:
        frames[0].legend(loc="best", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
    else:
        place = {"loc": "outside lower center", "ncols": max(1, len(names)), "frameon": False}
        figure.legend([handles[n] for n in names], names, **place)
    save(figure, path)


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


def evaluated(name: str, log_density: LogDensity, x: np.ndarray, shape: tuple[int, ...]):
    """Values of a log-density at `x: [N, D]`, of `shape`, or `ValueError`."""
    given = callable(log_density)
    values = np.asarray(log_density(x) if callable(log_density) else log_density, float)
    wanted = x.shape[:1] if given else shape
    what = f"[{', '.join(map(str, wanted))}]"
    require(values.shape == wanted, f"log-density {name!r}", values.shape, f"of shape {what}")
    return values.reshape(shape)


def _smoothed(axes, points: np.ndarray, **line) -> None:
    """A noisy curve `[n, 2]`, pale, and its running mean of running medians."""
    reach = len(points) // 80
    smooth = _running(np.mean, _running(np.median, points[:, 1], reach), reach)
    axes.plot(*points.T, color=PALE, linewidth=0.8)
    axes.plot(points[:, 0], smooth, color=BLUE, linewidth=1.8, **line)


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
