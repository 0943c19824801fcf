"""The splits of data that a run's config names."""

import sys
from collections.abc import Iterator, Mapping

import numpy as np

from glowjax import data
from glowjax.checks import check_choice
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


def whole(source: data.Source, config: Config, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """This host's part of every example of a split, once."""
    return data.eval_batches(
        source, batch_size=batch_size, transform=config.data.transform, shard=host_shard()
    )
