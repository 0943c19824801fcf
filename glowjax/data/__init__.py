"""Prepared data sets to batches of images."""

from glowjax.data.loader import batch, batches, eval_batches
from glowjax.data.shuffle import stream
from glowjax.data.source import Source
from glowjax.data.stored import MAX_HELD_OUT, load
from glowjax.data.transform import Transform

__all__ = [
    "MAX_HELD_OUT",
    "Source",
    "Transform",
    "batch",
    "batches",
    "eval_batches",
    "load",
    "stream",
]
