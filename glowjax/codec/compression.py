"""Images to bytes and back, by a model."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from glowjax.checks import check_labels, require
from glowjax.codec.batches import BatchCoder, made_with
from glowjax.codec.coder import Coder
from glowjax.codec.container import Header, pack, unpack
from glowjax.densities.density import Density
from glowjax.densities.quantization import check_images

NUMBERS_A_LANE = 2048  # of the images, so that the lanes' own bits are few beside theirs
LANES = (8, 1024)  # before the golden part of them is taken
GOLDEN = 0.618


class Batch(NamedTuple):
    """Images `[N, H, W, C]`, uint8, and labels `[N]` or None; the first is number `start`."""

    start: int
    images: np.ndarray
    labels: np.ndarray | None


def compress(
    model: Density,
    params: Any,
    images: np.ndarray,
    *,
    levels: int = 256,
    labels: np.ndarray | None = None,
    batch: int = 64,
    advance: Callable[[int], None] | None = None,
) -> bytes:
    """The content of a file that holds images in -Σ log₂ p(image) bits, a header and a seed.

    p is the model's, of dequantized images. Each image comes back bit for bit, also one that the
    model finds impossible: it is stored pixel by pixel. `decompress` needs the same model and
    weights. What nets put out is rounded such that another device or version rounds alike.

    Args:
        model: a density on the standard normal of `[B, H, W, C]` floats in (-½, ½). Its flow is
            made of affine and additive couplings, ActNorms, 1×1 convolutions, permutations,
            squeezes, splits, the top prior and the logit, as `glow` and `realnvp` are.
        params: its weights.
        images: `[N, H, W, C]`, N at least 1, integers in 0 … levels - 1.
        levels: grey levels.
        labels: `[N]` integers, for a conditional model; they are stored too.
        batch: how many images nets see at a time.
        advance: is told how many images are done.

    Raises:
        ValueError: an argument is not as above; a part of the model has no exact form in integers.

    Sources: Ho et al. 2019, Compression with flows via local bits-back coding; Li et al. 2021,
    iFlow: numerically invertible flows for efficient lossless compression.
    """
    images = np.asarray(images)
    check_images(images, levels)
    require(images.ndim == 4 and images.size, "images", images.shape, "[N, H, W, C], one at least")
    classes = None
    if labels is not None:
        labels = np.asarray(labels)
        classes = int(np.max(labels, initial=0)) + 1
        check_labels(labels, classes, len(images))
    codec = BatchCoder(model, params, images.shape[1:], levels, batch)
    takes = labels is None or codec.conditional
    require(takes, "labels", labels, "None: the model is not conditional")
    coder = Coder.seeded(_lanes(images.size))
    repeats = codec.repeats(classes, len(coder.lanes))
    sizes, checksums, raw, done = [], [], [], 0
    while done < len(images):
        rows = slice(done, done + codec.affordable(coder))
        some = Batch(done, images[rows], None if labels is None else labels[rows])
        escaped = codec.push(some.images, some.labels, classes, coder)
        raw += (done + escaped).tolist()
        sizes.append(len(some.images))
        checksums.append(_checksum(some))
        done += len(some.images)
        if advance is not None:
            advance(done)
    header = Header(
        images=len(images),
        image_shape=images.shape[1:],
        levels=levels,
        classes=classes,
        batch=batch,
        batches=tuple(sizes),
        checksums=tuple(checksums),
        raw=tuple(raw),
        lanes=len(coder.lanes),
        seed_words=coder.seed_words,
        model=codec.identity(),
        repeats=repeats,
        made_with=made_with(),
    )
    return pack(header, coder.stored())


def decompress(model: Density, params: Any, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and their labels, of what `compress` returned.

    Args:
        model, params: as they were given to `compress`.
        data: a file's content.

    Returns:
        `(images, labels)`: uint8 `[N, H, W, C]`, and integers `[N]` or None.

    Raises:
        ValueError: `data` is damaged; it is of another model or of other weights; this device
            rounds what the nets put out otherwise than that on which the file was made.
    """
    batches = sorted(decompressed(model, params, data), key=lambda batch: batch.start)
    images = np.concatenate([batch.images for batch in batches])
    labelled = batches[0].labels is not None
    return images, np.concatenate([batch.labels for batch in batches]) if labelled else None


def decompressed(model: Density, params: Any, data: bytes) -> Iterator[Batch]:
    """`decompress` batch by batch, the last images first; nothing comes of what it refuses.

    Args:
        model, params, data: as for `decompress`.

    Raises:
        ValueError: as for `decompress`.
    """
    header, stored = unpack(data)
    codec = BatchCoder(model, params, header.image_shape, header.levels, header.batch)
    _check_same(header, codec)
    coder = Coder(stored, turn=len(header.batches))
    end, raw = header.images, np.array(header.raw, np.int64)
    for size, checksum in zip(reversed(header.batches), reversed(header.checksums), strict=True):
        start = end - size
        escaped = raw[(raw >= start) & (raw < end)] - start
        batch = Batch(start, *codec.pop(size, escaped, header.classes, coder))
        wanted = f"those of numbers {start} to {end - 1} that were compressed: nets did not repeat"
        require(_checksum(batch) == checksum, "images", "others", wanted)
        yield batch
        end = start
    require(coder.holds_only_seed(), "data", "other bits too", "its images and the seed alone")


def _lanes(numbers: int) -> int:
    """How many lanes there are for so many numbers.

    The sizes of images are mostly powers of two. The lanes are an odd number, and far from such: so
    a lane meets another place of each image, and all have as much to do.
    """
    power = int(np.log2(np.clip(numbers / NUMBERS_A_LANE, *LANES)))
    return int(2**power * GOLDEN) | 1


def _check_same(header: Header, codec: BatchCoder) -> None:
    """Refuses a file of another model, or of which the nets would not repeat what they put out."""
    identity = codec.identity()
    require(identity == header.model, "model", identity, f"the file's, {header.model}")
    if codec.repeats(header.classes, header.lanes) != header.repeats:
        there, here = (
            ", ".join(f"{name} {value}" for name, value in made.items())
            for made in (header.made_with, made_with())
        )
        wanted = f"one on which the nets round as where the file was made, by {there}"
        raise ValueError(f"device must be {wanted}, got {here}")


def _checksum(batch: Batch) -> int:
    """CRC-32 of images and labels."""
    labels = b"" if batch.labels is None else batch.labels.astype("<i8").tobytes()
    return zlib.crc32(labels, zlib.crc32(batch.images.astype(np.uint8).tobytes()))
