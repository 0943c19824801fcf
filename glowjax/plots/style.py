"""What all pictures share: colours, axes, and writing."""

import io
import os
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from glowjax.files import write_whole

INK, GREY, PALE, BLUE, RED = "#222222", "#777777", "#b5cde3", "#2a6aa5", "#c4452d"


COLOURS = BLUE, RED, "#e0a030", "#3f8f5f", "#8060a8"


def one_panel() -> tuple[Figure, Any]:
    """A figure, and its only axes."""
    figure = Figure((8, 4.5), 160, facecolor="white", layout="constrained")
    return figure, figure.subplots()


def left_out(values: np.ndarray, high: float) -> str | None:
    """A note on the values above the end of an axis, if there are any."""
    return f"values up to {values.max():.3g} lie above" if values.max() > high else None


def dress(axes, *, xlabel: str, ylabel: str, title: str | None, note: str | None = None) -> None:
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


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as PNG, whole or not at all."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_whole(path, png.getvalue())
