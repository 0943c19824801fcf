"""Which images of a data set have an attribute."""

from __future__ import annotations

from typing import Any

import numpy as np

from glowjax.checks import require
from glowjax.data.class_names import class_number
from glowjax.data.stored import keys, part, undecoded
from glowjax.extras import extra


def load_attribute(about: Any, split: str, attribute: str, num: int) -> np.ndarray:
    """Whether the first images of a split have an attribute: booleans `[min(num, N)]`.

    Args:
      about: a config's data: name, data_dir, archives and validation.
      split: "train", "validation" or "test".
      attribute: a label, by its name or number; or the name of a boolean feature, of the record or
        of its feature "attributes", as in `celeb_a`.
      num: how many.

    Raises:
      ValueError: the data set has no such attribute; the message lists those it has.
    """
    with extra("train", "loading a data set"):
        from glowjax.data.prepare import prepare, quiet

    with quiet():
        builder = prepare(about.name, data_dir=about.data_dir, archives=about.archives)
        features = builder.info.features
        image, label = keys(about.name, features)
        classes = [] if label is None else features[label].names
        flags = _flags(features)
        wanted = class_number(attribute, classes)
        known = wanted is not None or attribute in flags
        shown = [*classes, *flags] or "none"
        require(known, "attribute", attribute, f"one of {about.name}'s: {shown}")
        sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
        stored, start, stop = part(about.name, sizes, split, about.validation)
        records = undecoded(builder, f"{stored}[{start}:{min(stop, start + num)}]", image)
    if attribute in flags:
        return np.array([bool(_of(records[i], flags[attribute])) for i in range(len(records))])
    return np.array([int(records[i][label]) == wanted for i in range(len(records))])


def _flags(features) -> dict[str, tuple[str, ...]]:
    """The boolean features, by name, with the way to each."""
    own = {key: (key,) for key, feature in features.items() if _is_flag(feature)}
    inner = dict(features.items()).get("attributes", {})
    inside = inner.items() if hasattr(inner, "items") else ()
    return own | {key: ("attributes", key) for key, feature in inside if _is_flag(feature)}


def _is_flag(feature) -> bool:
    return getattr(feature, "np_dtype", None) == np.bool_ and feature.shape == ()


def _of(record, way):
    for key in way:
        record = record[key]
    return record
