"""What a run has left in its folder, for comparison."""

import contextlib
import json
from typing import Any

import jax

from glowjax.runs.folder import Run
from glowjax.runs.loading import load
from glowjax.runs.pictures import draw
from glowjax.runs.steps import abstract_state, make_trainer


@contextlib.contextmanager
def opened(folder):
    """A run and the shapes of its state."""
    with contextlib.closing(Run.open(folder, read_only=True)) as run:
        yield run, abstract_state(make_trainer(run.config, **run.images), run.images)


def state_of(folder, which: Any = "latest"):
    """A checkpoint as plain arrays, whatever its structure."""
    with opened(folder) as (run, shapes):
        return jax.device_get(run.checkpoints.restore(shapes, which))


def rows_of(folder):
    """The rows of metrics.jsonl, less what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(s).items() if k != "images_per_second"} for s in lines]


def steps_of(folder):
    """Steps of the checkpoints."""
    return sorted(int(f.name) for f in (folder / "checkpoints").iterdir() if f.name.isdigit())


def sampled(folder, num, *, checkpoint="best", weights=None, **options):
    """8-bit images drawn from a run."""
    return draw(*load(folder, checkpoint=checkpoint, weights=weights), num, **options)
