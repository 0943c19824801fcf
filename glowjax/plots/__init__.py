"""Pictures, written whole or not at all."""

from glowjax.extras import extra

with extra("train", "glowjax.plots"):
    from glowjax.plots.charts import curves, lines, loss_curve
    from glowjax.plots.distributions import histogram_1d, histograms, intervals
    from glowjax.plots.images import image_grid, image_rows, sample_sheet
    from glowjax.plots.plane import animation, density_2d, density_frame, scatter_2d
    from glowjax.plots.style import BLUE, COLOURS, RED

__all__ = [
    "BLUE",
    "COLOURS",
    "RED",
    "animation",
    "curves",
    "density_2d",
    "density_frame",
    "histogram_1d",
    "histograms",
    "image_grid",
    "image_rows",
    "intervals",
    "lines",
    "loss_curve",
    "sample_sheet",
    "scatter_2d",
]
