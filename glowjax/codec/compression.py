"""Images to bytes and back, by a model."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from glowjax.checks import check_labels, require
from glowjax.codec.batches import BatchCoder, made_with
from glowjax.codec.coder import Coder
from glowjax.codec.container import Header, pack, unpack
from glowjax.codec.streams import Batch, Stream, side_by_side
from glowjax.densities.density import Density
from glowjax.densities.quantization import check_images

ALONE = 512  # images, below which another stack would cost more seed than it saves time
NUMBERS_A_LANE = 2048  # of the images, so that the lanes' own bits are few beside theirs
LANES = (8, 1024)  # before the golden part of them is taken
GOLDEN = 0.618


def compress(
    model: Density,
    params: Any,
    images: np.ndarray,
    *,
    levels: int = 256,
    labels: np.ndarray | None = None,
    batch: int | None = None,
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
        batch: how many images nets see at a time; default: 8 on CPUs, and 64 on other devices. The
            first ones, which are few, are filled up to as many.
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
    batch = (8 if jax.default_backend() == "cpu" else 64) if batch is None else batch
    codec = BatchCoder(model, params, images.shape[1:], levels, batch)
    takes = labels is None or codec.conditional
    require(takes, "labels", labels, "None: the model is not conditional")
    parts = 1 if len(images) < ALONE else 2
    ends = np.linspace(0, len(images), parts + 1).astype(int).tolist()
    lanes = lanes_for(images.size // parts)
    streams = [
        Stream(codec, Coder.seeded(lanes), classes, start, end)
        for start, end in itertools.pairwise(ends)
    ]
    repeats = codec.repeats(classes, lanes)
    done = 0
    for count in side_by_side(lambda stream: stream.push(images, labels), streams):
        done += count
        if advance is not None:
            advance(done)
    header = Header(
        images=len(images),
        image_shape=images.shape[1:],
        levels=levels,
        classes=classes,
        batch=batch,
        batches=tuple(tuple(stream.batches) for stream in streams),
        checksums=tuple(tuple(stream.checksums) for stream in streams),
        raw=tuple(sorted(number for stream in streams for number in stream.raw)),
        lanes=lanes,
        seed_words=sum(stream.coder.seed_words for stream in streams),
        model=codec.identity(),
        repeats=repeats,
        made_with=made_with(),
    )
    return pack(header, [stream.coder.stored() for stream in streams])


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
    """`decompress` part by part, in any order; nothing comes of what it refuses.

    Args:
        model, params, data: as for `decompress`.

    Raises:
        ValueError: as for `decompress`.
    """
    header, stored = unpack(data)
    codec = BatchCoder(model, params, header.image_shape, header.levels, header.batch)
    _check_same(header, codec)
    streams, start = [], 0
    for one, batches, checksums in zip(stored, header.batches, header.checksums, strict=True):
        coder = Coder(one, turn=sum(map(len, batches)))
        end = start + sum(map(sum, batches))
        streams.append(
            Stream(codec, coder, header.classes, start, end, batches, checksums, header.raw)
        )
        start = end
    yield from side_by_side(Stream.pop, streams)
    only_seed = all(stream.coder.holds_only_seed() for stream in streams)
    require(only_seed, "data", "other bits too", "its images and the seed alone")


def lanes_for(numbers: int) -> int:
    """How many lanes there are for so many numbers.

    The sizes of images are mostly powers of two. The lanes are an odd number, and far from such: so
    a lane meets another place of each image, and all have as much to do.
    """
    power = int(np.log2(np.clip(numbers / NUMBERS_A_LANE, *LANES)))
    return int(2**power * GOLDEN) | 1


def _check_same(header: Header, codec: BatchCoder) -> None:
    """Refuses a file of another model, or of which the nets would not repeat what they put out."""
    identity = codec.identity()
    wanted = f"the file's, with the same weights ({header.model})"
    require(identity == header.model, "model", identity, wanted)
    if codec.repeats(header.classes, header.lanes, back=True) != header.repeats:
        there, here = (
            ", ".join(f"{name} {value}" for name, value in made.items())
            for made in (header.made_with, made_with())
        )
        wanted = f"one on which the nets round as where the file was made, by {there}"
        raise ValueError(f"device must be {wanted}, got {here}")
