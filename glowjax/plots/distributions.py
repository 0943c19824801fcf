"""Histograms, densities of one number, and numbers with their errors."""

import itertools
import math
import os
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from glowjax.checks import check_positive, require
from glowjax.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    PALE,
    dress,
    one_panel,
    save,
)

LogDensity = Callable[[np.ndarray], ArrayLike] | ArrayLike


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


def evaluated(
    name: str, log_density: LogDensity, x: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Values of a log-density at `x: [N, D]`, of `shape`, or `ValueError`."""
    given = callable(log_density)
    values = np.asarray(log_density(x) if callable(log_density) else log_density, float)
    wanted = x.shape[:1] if given else shape
    what = f"[{', '.join(map(str, wanted))}]"
    require(values.shape == wanted, f"log-density {name!r}", values.shape, f"of shape {what}")
    return values.reshape(shape)
