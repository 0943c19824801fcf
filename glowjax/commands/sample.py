"""glowjax sample."""

from dataclasses import dataclass
from pathlib import Path

from glowjax import plots
from glowjax.commands.options import Weights, parse
from glowjax.runs import results


@dataclass(frozen=True, kw_only=True)
class Sample(Weights):
    """Draw images from a run's weights, as one PNG; of more than 3 channels, the first 3."""

    num: int = 64
    """How many images."""
    temperature: float = 0.7
    """Scale of the latents: 1 samples the model itself, less gives likelier, smoother images."""
    label: int | None = None
    """Class of all images, for a conditional model; default: as many of each,
    class by class: a row each of 10 classes, with 100 images."""
    seed: int = 0
    out: Path | None = None
    """The PNG; default: sampled.png in the run's folder."""


def sample(arguments: list[str]) -> None:
    """Draws images from a run's weights."""
    options = parse(Sample, "sample", arguments)
    images = results.sample(
        options.run,
        options.num,
        temperature=options.temperature,
        label=options.label,
        checkpoint=options.checkpoint,
        weights=options.weights,
        seed=options.seed,
    )
    path = options.path(options.out, "sampled.png")
    plots.image_grid(images).save(path)
    print(path)
