"""From prepared data sets to uint8 batches that depend on nothing but (seed, step).

`load` gives a `Source`; `batch` is a pure function of a source and a step, so the step is all the
state there is: a run resumes exactly, on any number of hosts. `batches` prefetches it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from glowjax.arrays import check_choice, check_in, check_integer, require

MAX_HELD_OUT = 5000
CHUNK = 1024  # records read at a time when a split is loaded into memory
THREADS, PREFETCH = 4, 8  # batches made at once, batches kept ready


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One split of a data set.

    Attributes:
      name, split: where it comes from.
      images: uint8 [N, H, W, C], an array or something that an integer index array reads like one.
      labels: int32 [N], likewise, or None.
      num_classes: labels lie in [0, num_classes); None without labels.
      levels: grey levels; images lie in [0, levels).

    Raises:
      ValueError: images or labels of another dtype or shape.
    """

    name: str
    split: str
    images: Any
    labels: Any = None
    num_classes: int | None = None
    levels: int = 256

    def __post_init__(self):
        dtype, shape = self.images.dtype, tuple(self.images.shape)
        wanted = "uint8 of shape [N, H, W, C] (deeper ones must be brought to 8 bits first)"
        ok = dtype == np.uint8 and len(shape) == 4
        require(ok, f"images of {self.name}", f"{dtype} of shape {shape}", wanted)
        if self.labels is not None:
            dtype, labels = self.labels.dtype, tuple(self.labels.shape)
            ok = np.issubdtype(dtype, np.integer) and labels == shape[:1]
            wanted = f"integers of shape {shape[:1]}, one an image"
            require(ok, f"labels of {self.name}", f"{dtype} of shape {labels}", wanted)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return tuple(self.images.shape[1:])

    def fingerprint(self) -> str:
        """Tells data sets apart: their size, and SHA-256 of up to 16 examples all over."""
        few = np.linspace(0, len(self) - 1, min(16, len(self))).astype(int)
        sha = hashlib.sha256(np.ascontiguousarray(self.images[few]).data)
        if self.labels is not None:
            sha.update(np.ascontiguousarray(self.labels[few]).data)
        about = f"{len(self):,} images of {self.image_shape}, {self.levels} levels"
        return f"{about}, sha256 {sha.hexdigest()}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform:
    """What happens to images between source and model, in this order.

    Attributes:
      pad: zeros added, in pixels: so many on every side; or (above and below, left and right), each
        one number or two.
      crop: side of a square, or (height, width) of a rectangle, cut out: at random in training,
        from the centre in evaluation.
      shift: training only: whole-pixel shifts, uniform up to this fraction of height and width in
        each direction.
      shift_edge: what is shifted in: "repeat" repeats the edge, as in Glow's released code;
        "reflect" mirrors the image about its outermost pixels.
      shift_steps: shifts end after this many steps of training, so that the last ones see the
        images as they are; None: they never end.
      flip: training only: mirrors left and right with probability one half.
      bits: keeps the highest bits of 8-bit images: floor(x / 2^(8 - bits)), in [0, 2^bits).
      channels: repeats a single grey channel so often.

    Raises:
      ValueError: a value out of range, here or against a source where it is used.
    """

    pad: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] = 0
    crop: int | tuple[int, int] | None = None
    shift: float = 0.0
    shift_edge: Literal["repeat", "reflect"] = "repeat"
    shift_steps: int | None = None
    flip: bool = False
    bits: int | None = None
    channels: int | None = None

    def __post_init__(self):
        for side in _pair("pad", self.pad):
            for pixels in _pair("pad", side):
                check_integer("pad", pixels, 0)
        if self.crop is not None:
            check_positive_pair("crop", self.crop)
        check_in("[0, 0.5]", shift=self.shift)
        check_choice("shift_edge", self.shift_edge, ("repeat", "reflect"))
        if self.shift_steps is not None:
            check_integer("shift_steps", self.shift_steps, 0)
        for name, value, high in [("bits", self.bits, 8), ("channels", self.channels, None)]:
            if value is not None:
                check_integer(name, value, 1, high)

    def image_shape(self, source: Source) -> tuple[int, int, int]:
        """(H, W, C) of transformed images."""
        height, width, channels = source.image_shape
        down, right = self._sides()
        height, width = height + sum(down), width + sum(right)
        if self.crop is not None:
            size = _pair("crop", self.crop)
            wanted = f"at most {height}×{width}, the height and width of {source.name}'s images"
            require(size[0] <= height and size[1] <= width, "crop", self.crop, wanted)
            height, width = size
        if self.channels is not None:
            wanted = f"{channels}, the channels of {source.name}"
            require(channels in (1, self.channels), "channels", self.channels, wanted)
            channels = self.channels
        pixels, wanted = self.shift * max(height, width), "0, or enough for a pixel of the image"
        require(not self.shift or pixels >= 1, "shift", self.shift, wanted)
        return height, width, channels

    def levels(self, source: Source) -> int:
        """Grey levels of transformed images."""
        if self.bits is None:
            return source.levels
        wanted = f"None: {source.name} has {source.levels} grey levels, not 256"
        require(source.levels == 256, "bits", self.bits, wanted)
        return 2**self.bits

    def at(self, step: int) -> Transform:
        """The transform of one step of training, 0 the first: this, or without shifts if over."""
        over = self.shift_steps is not None and step >= self.shift_steps
        return dataclasses.replace(self, shift=0.0) if over else self

    def __call__(self, images: np.ndarray, draws: np.ndarray | None = None) -> np.ndarray:
        """Transforms uint8 images [n, H, W, C]; draws: uint32 [n, 8] to train, None to evaluate."""
        if self.pad:
            images = np.pad(images, ((0, 0), *self._sides(), (0, 0)))
        if self.crop or (draws is not None and (self.shift or self.flip)):
            images = self._gather(images, draws)
        if self.bits is not None:
            images = images >> np.uint8(8 - self.bits)
        if self.channels is not None and images.shape[-1] == 1:
            images = np.repeat(images, self.channels, axis=-1)
        return images

    def _sides(self):
        """((top, bottom), (left, right)) of the padding."""
        down, right = _pair("pad", self.pad)
        return _pair("pad", down), _pair("pad", right)

    def _gather(self, images, draws):
        """Crop, shift and flip at once: pixel (i, j) of a result is pixel (rows[i], columns[j])."""
        n, height, width, channels = images.shape
        down, right = (height, width) if self.crop is None else _pair("crop", self.crop)
        rows = self._coordinates(height, down, None if draws is None else draws[:, 0:2])
        columns = self._coordinates(width, right, None if draws is None else draws[:, 2:4])
        if self.flip and draws is not None:
            columns = np.where(_below(draws[:, 4:5], 2) == 1, columns[:, ::-1], columns)
        pixels = (np.arange(n)[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
        return np.take(images.reshape(-1, channels), pixels, axis=0)

    def _coordinates(self, size, side, draws):
        """Source coordinates [n or 1, side] along one axis."""
        room, reach = size - side, int(self.shift * side)
        if draws is None:
            return room // 2 + np.arange(side)[None]
        start, offset = (
            _below(draws[:, 0:1], room + 1),
            _below(draws[:, 1:2], 2 * reach + 1) - reach,
        )
        inside, last = np.arange(side) - offset, side - 1
        if self.shift_edge == "reflect":
            return start + last - np.abs(last - np.abs(inside))
        return start + np.clip(inside, 0, last)


def check_positive_pair(name: str, size: Any) -> None:
    """Raises `ValueError` unless `size` is one or two whole numbers of at least 1."""
    for side in _pair(name, size):
        check_integer(name, side, 1)


def _pair(name, size):
    """(vertical, horizontal) of a size: one for both, or each its own."""
    if not isinstance(size, tuple | list):
        return size, size
    require(len(size) == 2, name, size, "one for height and width, or two: (height, width)")
    return tuple(size)


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
      name, data_dir, archives, progress: as in `glowjax.datasets.prepare`.
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
    from glowjax import datasets  # tensorflow_datasets: slow to import, so only here

    with datasets.quiet(progress):
        builder = datasets.prepare(name, data_dir=data_dir, archives=archives, progress=progress)
        sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
        stored, start, stop = _part(name, sizes, split, validation)
        image_key, label_key = _keys(name, builder.info.features)
        read = functools.partial(_Stored, builder, f"{stored}[{start}:{stop}]", image_key)
        images = read(image_key, resize)
        labels = None if label_key is None else read(label_key)
        if images.nbytes <= memory:
            images, labels = _in_memory(images, labels)
    return Source(
        name=name,
        split=split,
        images=images,
        labels=labels,
        num_classes=label_key and builder.info.features[label_key].num_classes,
        levels=17 if builder.name == "digits" else 256,
    )


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
    out = {"image": transform.at(step)(source.images[index], _draws(seed, start, n))}
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
    import grain  # slow to import, so only here

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


class _Stored:
    """One feature of a prepared split, read from disk when indexed by an array of integers."""

    def __init__(self, builder, split, image_key, key, resize=None):
        import tensorflow_datasets as tfds

        # Images are decoded here, not by tensorflow-datasets, which without TensorFlow takes
        # 16 bits modulo 256, and places in a palette for grey levels.
        decoders = {image_key: tfds.decode.SkipDecoding()}
        self._records = builder.as_data_source(split=split, decoders=decoders)
        self._name, self._key, self._resize = builder.name, key, resize
        self._feature_shape = builder.info.features[key].shape
        self._where = f"{split!r} in {builder.data_dir}"
        self.dtype = np.uint8 if key == image_key else np.int32
        self.shape = ()
        first = self.values([0], self.records([0]))
        self.shape = (len(self._records), *first.shape[1:])

    @property
    def nbytes(self):
        return np.prod(self.shape, dtype=int) * np.dtype(self.dtype).itemsize

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self.values(index, self.records(index))

    def records(self, index):
        index = [int(i) for i in index]
        try:
            return self._records.__getitems__(index)
        except Exception:  # array_record's are of all kinds
            for i in index:
                self._naming(i, self._records.__getitem__, i)  # raises, with its number
            raise

    def values(self, index, records):
        """This feature of the records at an index, stacked."""
        values = [self._naming(i, self._value, r) for i, r in zip(index, records, strict=True)]
        due = self.shape[1:] or values[0].shape
        for value in values:
            if value.shape != due:
                raise ValueError(
                    f"{self._name}: images vary in size, {value.shape} and {due}:"
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
            from glowjax import datasets

            value = datasets.decode(value, self._feature_shape[-1])
        value = np.asarray(value)
        return value if self._resize is None else _resized(value, self._resize)


def _in_memory(*features):
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


def _resized(image, size):
    """The central region of an image [H, W, C], of the shape of `size`, averaged to that size."""
    import PIL.Image

    (height, width), (down, right) = image.shape[:2], _pair("resize", size)
    # The largest region of that shape, to the pixel: all of the height, or all of the width.
    tall = max(1, min(height, width * down // right))
    wide = max(1, min(width, height * right // down))
    left, top = (width - wide) // 2, (height - tall) // 2
    box, how = (left, top, left + wide, top + tall), PIL.Image.Resampling.BOX

    def one(plane):  # Pillow would weigh colours by a fourth channel, as if it were opacity
        return np.asarray(PIL.Image.fromarray(plane).resize((right, down), how, box=box))

    if image.shape[2] == 3:
        return one(image)
    return np.stack([one(image[..., c]) for c in range(image.shape[2])], axis=-1)


def _keys(name, features):
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


def _part(name, sizes, split, validation):
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
    require(starts[split] < ends[split], "split", split, "one that is not empty")
    return "train", starts[split], ends[split]


def stream(n: int, seed: int, start: int, count: int) -> np.ndarray:
    """Examples at positions start, ..., start + count - 1 of the training stream."""
    position = np.arange(start, start + count)
    epochs = range(start // n, (start + count - 1) // n + 1)
    return np.concatenate([_order(n, seed, e)[position[position // n == e] % n] for e in epochs])


@functools.lru_cache(maxsize=4)
def _order(n, seed, epoch):
    """Permutation of n for one epoch."""
    bits = np.random.Philox(key=np.array([seed, epoch + 1], np.uint64)).random_raw(n)
    return np.argsort(bits, kind="stable")


def _draws(seed, start, count):
    """Random uint32 [count, 8]: one Philox block an example, counted by its stream position."""
    # Key 0 is no epoch's; 4 words of 64 bits make a block.
    philox = np.random.Philox(key=np.array([seed, 0], np.uint64), counter=[start, 0, 0, 0])
    return philox.random_raw(4 * count).view(np.uint32).reshape(count, 8)


def _below(bits, bound):
    """Uniform integers in [0, bound) from uint32 bits."""
    return ((bits.astype(np.uint64) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


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
