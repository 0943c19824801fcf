"""Prepared sets: which examples are a split, and how they are read, record by record."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from glowjax.checks import check_integer, require
from glowjax.data.source import MAX_HELD_OUT, Source
from glowjax.data.transform import check_positive_pair
from glowjax.extras import extra
from glowjax.progress import CONSOLE

CHUNK = 1024  # records read at a time when a split is loaded into memory


def load(
    name: str,
    split: str,
    *,
    data_dir=None,
    archives=None,
    validation: int | None = None,
    resize: int | tuple[int, int] | None = None,
    memory: int = 2**31,
    progress: bool = False,
) -> Source:
    """Loads one split of a data set, preparing it first where needed.

    Args:
      name, data_dir, archives, progress: as in `glowjax.data.prepare.prepare`.
      split: "train", "validation" or "test". Where a data set lacks them they are held out of the
        end of its train split, in stored order: first what stays train, then validation, then test.
        Each is min(n // 10, 5000) examples of the n stored ones. A data set with a validation but
        no test split (the downsampled ImageNets) is tested on the former, as papers do, and
        validated on a part of train. So the three never overlap.
      validation: size of a held-out validation split; 0 holds nothing out for it.
      resize: cuts the central region of this shape out, a square for one number or (height,
        width), and averages it down (or up) to so many pixels; needed where images vary in size.
      memory: bytes up to which images are kept in memory; more are read from disk batch by batch.

    Raises:
      ValueError: unknown name or split, an impossible `validation`, no image feature, images that
        vary in size without `resize`, records that cannot be read, and whatever `prepare` raises.
    """
    require(split in ("train", "validation", "test"), "split", split, "train, validation or test")
    if resize is not None:
        check_positive_pair("resize", resize)
    with extra("train", "loading a data set"):  # tensorflow_datasets is slow to import
        from glowjax.data.prepare import prepare, quiet

    with quiet(progress):
        builder = prepare(name, data_dir=data_dir, archives=archives, progress=progress)
        sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
        stored, start, stop = part(name, sizes, split, validation)
        image_key, label_key = keys(name, builder.info.features)
        read = functools.partial(Stored, builder, f"{stored}[{start}:{stop}]", image_key)
        images = read(image_key, resize)
        if split == "train" and resize is not None:
            _say_if_enlarged(name, read(image_key).shape, images.shape)
        labels = None if label_key is None else read(label_key)
        if images.nbytes <= memory:
            images, labels = in_memory(images, labels)
    classes = builder.info.features[label_key] if label_key else None
    return Source(
        name=name,
        split=split,
        images=images,
        labels=labels,
        num_classes=classes.num_classes if classes else None,
        class_names=tuple(classes.names) if classes else None,
        levels=17 if builder.name == "digits" else 256,
    )


def _say_if_enlarged(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    if before[1] < after[1] or before[2] < after[2]:
        sizes = f"{before[1]}×{before[2]} pixels are enlarged to {after[1]}×{after[2]}"
        CONSOLE.print(f"{name}: images of {sizes}; --data.resize None leaves them as they are")


def part(name, sizes, split, validation) -> tuple[str, int, int]:
    """(stored split, start, stop) of a split; see `load`."""
    require("train" in sizes, "name", name, f"a data set with a train split; it has {list(sizes)}")
    total = sizes["train"]
    usual = min(total // 10, MAX_HELD_OUT)
    if "test" not in sizes and "validation" in sizes:
        own = {"test": "validation"}
    else:
        own = {s: s for s in ("validation", "test") if s in sizes}
    if validation is not None:
        wanted = f"None: {name} has a validation split of its own"
        require("validation" not in own, "validation", validation, wanted)
        check_integer("validation", validation, 0)
    if split in own:
        return own[split], 0, sizes[own[split]]
    test = 0 if "test" in own else usual
    held = 0 if "validation" in own else usual if validation is None else validation
    ends = {"train": total - test - held, "validation": total - test, "test": total}
    starts = {"train": 0, "validation": ends["train"], "test": ends["validation"]}
    wanted = f"less than {total - test}, the examples there are"
    require(ends["train"] > 0, "validation", validation, wanted)
    if starts[split] == ends[split] and validation is None:
        wanted = f"of 10 examples at least, a tenth of which is the {split}, or have one of its own"
        raise ValueError(f"data set {name} must be {wanted}, got {total}")
    require(starts[split] < ends[split], "split", split, "one that is not empty")
    return "train", starts[split], ends[split]


class Stored:
    """One feature of a prepared split, read from disk when indexed by an array of integers."""

    def __init__(self, builder, split, image_key, key, resize=None):
        self._records = undecoded(builder, split, image_key)
        self._name, self._key, self._resize = builder.name, key, resize
        self._feature_shape = builder.info.features[key].shape
        self._where = f"{split!r} in {builder.data_dir}"
        self.dtype = np.uint8 if key == image_key else np.int32
        self.shape = ()
        first = self.values([0], self.records([0]))
        self.shape = (len(self._records), *first.shape[1:])

    @property
    def nbytes(self) -> int:
        return np.prod(self.shape, dtype=int) * np.dtype(self.dtype).itemsize

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self.values(index, self.records(index))

    def records(self, index) -> list[dict[str, Any]]:
        index = [int(i) for i in index]
        try:
            return self._records.__getitems__(index)
        except Exception:  # array_record's are of all kinds
            for i in index:
                self._naming(i, self._records.__getitem__, i)  # raises, with its number
            raise

    def values(self, index, records) -> np.ndarray:
        """This feature of the records at an index, stacked."""
        values = [self._naming(i, self._value, r) for i, r in zip(index, records, strict=True)]
        expected = self.shape[1:] or values[0].shape
        for value in values:
            if value.shape != expected:
                raise ValueError(
                    f"{self._name}: images vary in size, {value.shape} and {expected}:"
                    " give a size to bring them to, load(..., resize=) or --data.resize"
                )
        return np.stack(values).astype(self.dtype, copy=False)

    def _naming(self, i, read, argument):
        try:
            return read(argument)
        except Exception as error:  # PIL's are of all kinds, too
            raise ValueError(
                f"{self._name}: example {i} of {self._where} cannot be read: {error};"
                " to have it prepared again, remove that folder"
            ) from error

    def _value(self, record):
        value = record[self._key]
        if isinstance(value, bytes):
            from glowjax.data.images import decode  # Pillow is slow to import

            value = decode(value, self._feature_shape[-1])
        value = np.asarray(value)
        if self._resize is None:
            return value
        from glowjax.data.images import resized

        return resized(value, self._resize)


def in_memory(*features) -> list[np.ndarray | None]:
    """Arrays of features (or None) of the same records, which are read once, chunk by chunk."""
    first = features[0]
    arrays = [None if f is None else np.empty(f.shape, f.dtype) for f in features]
    for start in range(0, len(first), CHUNK):
        part = slice(start, min(start + CHUNK, len(first)))
        records = first.records(range(part.start, part.stop))
        for feature, array in zip(features, arrays, strict=True):
            if array is not None:
                array[part] = feature.values(range(part.start, part.stop), records)
    return arrays


def undecoded(builder, split: str, image_key: str) -> Any:
    """The records of a split, their images as they are stored.

    tensorflow-datasets does not decode them: without TensorFlow it takes 16 bits modulo 256, and
    places in a palette for grey levels.
    """
    import tensorflow_datasets as tfds

    return builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})


def keys(name, features) -> tuple[str, str | None]:
    """Names of the image feature and of the label feature, the latter None where there is none."""
    import tensorflow_datasets as tfds

    bytes_ = {k: f for k, f in features.items() if f.np_dtype == np.uint8}
    images = [k for k, f in bytes_.items() if isinstance(f, tfds.features.Image)]
    images = images or [
        k for k, f in bytes_.items() if len(f.shape) == 3
    ]  # arrays, of any channels
    require(images, "name", name, f"a data set with 8-bit images; its features: {list(features)}")
    label = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    return ("image" if "image" in images else images[0]), ("label" if label else None)
