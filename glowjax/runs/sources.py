"""The splits of data that a run's config names."""

import sys
from collections.abc import Iterator, Mapping

import numpy as np

from glowjax import data
from glowjax.checks import check_choice
from glowjax.progress import CONSOLE
from glowjax.runs.config import Config
from glowjax.runs.hosts import host_shard

Sources = Mapping[str, data.Source]  # splits of data by name


def load_split(config: Config, split: str, sources: Sources | None = None) -> data.Source:
    """A split of the experiment's data, or of `sources` if they are given."""
    if sources is not None:
        check_choice("split", split, sources)
        return sources[split]
    d = config.data
    return data.load(
        d.name,
        split,
        data_dir=d.data_dir,
        archives=d.archives,
        validation=d.validation,
        resize=d.resize,
        progress=sys.stderr.isatty(),
    )


def size_of(fingerprint: str) -> str:
    """How many images of which shape a `Source.fingerprint` is of."""
    return fingerprint.split(", sha256")[0]


def warn_of_others(split: str, before: Mapping[str, str], found: str) -> None:
    """Says so if a split's fingerprint is not the one that it had when the run began.

    The pixels of JPEG files may differ between versions of Pillow.
    """
    if found != before.get(split, found):
        CONSOLE.print(
            f"warning: the images of {split} are not those that the run began with; they are"
            f" {found}, and were {before[split]}"
        )


def whole(source: data.Source, config: Config, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """This host's part of every example of a split, once."""
    return data.eval_batches(
        source, batch_size=batch_size, transform=config.data.transform, shard=host_shard()
    )
