"""Curves and lines."""

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
    _draw_baselines(axes, baselines, apart=0.05 * (high - low))
    dress(
        axes,
        xlabel="images seen" if per_step else "steps",
        ylabel="bits/dim",
        title=title,
        note=left_out(values, high),
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.02)
    axes.legend(loc="best", frameon=True, framealpha=1, edgecolor="none", fontsize=9)
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

    Values that are not finite are left out, and those above the axis are noted, as in `curves`.

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
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if log_y:
            axes.set_yscale("log")
        if title in limits:
            axes.set_ylim(limits[title])
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
    shift = 1.12 ** (number - (count - 1) / 2) if log_x else 1.0
    axes.errorbar(shift * points[:, 0], *points[:, 1:].T, fmt="o-", ms=3, capsize=2, **style)


def _smoothed(axes, points: np.ndarray, **line) -> None:
    """A noisy curve `[n, 2]`, pale, and its running mean of running medians."""
    reach = len(points) // 80
    smooth = _running(np.mean, _running(np.median, points[:, 1], reach), reach)
    axes.plot(*points.T, color=PALE, linewidth=0.8)
    axes.plot(points[:, 0], smooth, color=BLUE, linewidth=1.8, **line)


def _draw_baselines(axes, baselines: Mapping[str, float], apart: float) -> None:
    """Dashed lines at rising values, with names beside the axes that do not overlap."""
    beside = -math.inf
    for name, value in baselines.items():
        axes.axhline(value, color=GREY, linestyle="--", linewidth=1, zorder=1)
        beside = max(value, beside + apart)
        place = axes.get_yaxis_transform()
        axes.text(
            1.01, beside, f"{name} {value:.2f}", transform=place, va="center", color=GREY, size=9
        )


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
