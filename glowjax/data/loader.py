"""From data sets to uint8 batches that depend on nothing but (seed, step).

`batch` is a pure function of a source and a step, so the step is all the state there is: a run
resumes exactly, on any number of hosts. `batches` prefetches it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from glowjax.checks import check_integer, require
from glowjax.data.shuffle import draws, stream
from glowjax.data.source import Source
from glowjax.data.transform import Transform
from glowjax.extras import extra

THREADS, PREFETCH = 4, 8  # batches made at once, batches kept ready


def batch(
    source: Source,
    step: int,
    *,
    batch_size: int,
    seed: int,
    transform: Transform = Transform(),
    shard: tuple[int, int] = (0, 1),
) -> dict[str, np.ndarray]:
    """The training batch of a step: a pure function of its arguments.

    Example i of step t is position p = t * batch_size + i of an endless stream that visits every
    example once an epoch, reshuffled each epoch by (seed, epoch); batches run across epochs. Its
    augmentation is drawn by (seed, p). Both come from Philox's raw bits, which no NumPy changes.

    Args:
      batch_size: of the global batch.
      shard: (index, count): this host's place among all; it gets its contiguous part of the batch.

    Returns:
      image: uint8 [b, H, W, C], and with labels label: int32 [b]; b = batch_size / count.

    Raises:
      ValueError: an argument out of range, or count does not divide batch_size.
    """
    _check(source, batch_size, transform, shard, seed=seed, step=step)
    n = batch_size // shard[1]
    start = step * batch_size + shard[0] * n
    index = stream(len(source), seed, start, n)
    out = {"image": transform.at(step)(source.images[index], draws(seed, start, n))}
    return out if source.labels is None else out | {"label": source.labels[index]}


def batches(
    source: Source,
    start_step: int,
    stop_step: int,
    *,
    batch_size: int,
    seed: int,
    transform: Transform = Transform(),
    shard: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Yields `batch` of steps start_step, ..., stop_step - 1, made ahead in background threads."""
    _check(source, batch_size, transform, shard, seed=seed, start_step=start_step)
    check_integer("stop_step", stop_step, start_step)
    if start_step == stop_step:
        return iter(())
    with extra("train", "data.batches"):  # grain is slow to import
        import grain

    make = functools.partial(
        batch, source, batch_size=batch_size, seed=seed, transform=transform, shard=shard
    )
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=PREFETCH)
    steps = grain.MapDataset.range(start_step, stop_step)
    return iter(steps.map(make).to_iter_dataset(options))


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    transform: Transform = Transform(),
    shard: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Yields every example exactly once, in stored order and without random transforms.

    The last batch is filled up by starting again from the first example; weight is 0 there. Every
    shard yields as many batches of as many examples.

    Returns:
      As `batch`, and weight: float32 [b], 1 or 0; index: int64 [b], which example it is.

    Raises:
      ValueError: as `batch`.
    """
    _check(source, batch_size, transform, shard)
    n = batch_size // shard[1]

    def generate():
        for start in range(0, len(source), batch_size):
            position = start + shard[0] * n + np.arange(n)
            index = position % len(source)
            out = {"image": transform(source.images[index])}
            if source.labels is not None:
                out["label"] = source.labels[index]
            weight = (position < len(source)).astype(np.float32)
            yield out | {"weight": weight, "index": index}

    return generate()


def _check(source, batch_size, transform, shard, **counts):
    require(len(source) > 0, "source", source.name, "at least one example")
    check_integer("batch_size", batch_size, 1)
    for name, value in counts.items():
        check_integer(name, value, 0, 2**63 - 1)
    index, count = shard
    check_integer("shard", count, 1)
    check_integer("shard", index, 0, count - 1)
    require(batch_size % count == 0, "batch_size", batch_size, f"a multiple of {count} shards")
    transform.image_shape(source)
    transform.levels(source)
