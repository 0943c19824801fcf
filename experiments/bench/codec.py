"""Sizes and speeds of images as files: by a run's model, and by PNG, WebP and JPEG XL."""

import contextlib
import importlib
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import glowjax
from glowjax import codec
from glowjax.codec.batches import BatchCoder
from glowjax.codec.coder import Coder
from glowjax.codec.compression import lanes_for
from glowjax.codec.fixed_point import FRACTION
from glowjax.runs.given import read_split
from glowjax.runs.trained import ImageModel

LANES = 79  # as for 1,000 images of this size, in two streams
REPETITIONS = 5
BATCHES = 5  # in a row, for a speed
OTHERS = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP": {"format": "WEBP", "lossless": True, "quality": 100, "method": 6},
    "JPEG XL": {"format": "JXL", "lossless": True, "effort": 9},
}


def main(
    run: Path | None = None, *, images: int | None = None, batch: int = 8, draws: int = 16
) -> None:
    """Prints bits/dim, bytes and MB/s of a run's test images; MB are of numbers, a byte each.

    The speed is by the clock, and beside it MB for each second of a core.

    Args:
        run: a run's folder; without, the speed of drawn weights of the size of
            `glow_mnist_conditional`.
        images: how many of a run's; default: all.
        batch: images that the nets see at a time.
        draws: of the noise, for the claimed bits/dim; 2 at least.
    """
    if run is None:
        drawn(batch)
        return
    model, params = glowjax.load(run)
    given = read_split(model, "test", num=images)
    labels = given.labels if model.conditional else None
    table = Table("", "bits/dim", "bytes", "MB/s in", "MB/s out")
    each = [
        np.mean(model.bits_per_dim(params, given.images, jax.random.key(i), labels))
        for i in range(draws)
    ]
    error = np.std(each, ddof=1) / np.sqrt(draws)
    table.add_row("claimed by the model", f"{np.mean(each):.4f} ± {error:.4f}", "", "", "")
    in_file, claimed = at_one_noise(model, params, given.images, labels, batch)
    table.add_row("claimed at one draw", f"{claimed:.4f}", "", "", "")
    table.add_row("coded at that draw", f"{in_file:.4f}", "", "", "")
    add_ours(table, model, params, given.images, labels, batch)
    size = given.images.size
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("pillow_jxl")  # of the package pillow-jxl-plugin
    for name, options in OTHERS.items():
        if options["format"] in Image.registered_extensions().values():
            add_other(table, f"{name}, one sheet", [sheet(given.images)], size, options)
            add_other(table, f"{name}, a file each", [*given.images], size, options)
    Console(width=100).print(table)


def drawn(batch: int) -> None:
    """Speeds of batches of noise when all is compiled: one stack, and two on two threads."""
    shape = (32, 32, 1)
    flow = glowjax.glow(
        levels=3, steps=16, width=256, scale="floor", output_init=jax.nn.initializers.normal(0.002)
    )
    model = glowjax.density(flow, shape)
    noise = np.random.default_rng(0).integers(0, 256, (batch, *shape))
    params = jax.jit(model.init)(jax.random.key(0), glowjax.bin_centres(noise))
    images = BatchCoder(model, params, shape, 256, batch)
    coders = [Coder.seeded(LANES) for _ in range(2)]

    def push(coder):
        for _ in range(BATCHES):
            images.push(noise, None, None, coder)

    def pop(coder):
        for _ in range(BATCHES):
            images.pop(batch, np.zeros(0, np.int64), None, coder)

    push(coders[0])
    pop(coders[0])  # so that all is compiled
    with ThreadPoolExecutor(2) as threads:
        for some in (coders[:1], coders):
            times = [
                [seconds(lambda f=f, on=some: list(threads.map(f, on))) for f in (push, pop)]
                for _ in range(REPETITIONS)
            ]
            megabytes = len(some) * BATCHES * noise.size / 1e6
            into, out = (speed(megabytes, t) for t in np.median(times, axis=0))
            print(f"{len(some)} at a time: {into} in, {out} out")
    assert all(coder.holds_only_seed() for coder in coders)
    print(f"MB/s, median of {REPETITIONS}, {jax.devices()[0].device_kind}")


def at_one_noise(model: ImageModel, params, images, labels, batch) -> tuple[float, float]:
    """Bits/dim on the coder's stack, and those that the model claims at the noise popped there."""
    images_coder = BatchCoder(model.density, params, model.image_shape, model.levels, batch)
    coder, nats = Coder.seeded(lanes_for(images.size)), 0.0
    log_prob = jax.jit(model.density.log_prob)
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        context = None if labels is None else labels[start : start + batch]
        # In the middle of what the coder takes for one number: a logit moves its ends far apart.
        x = (images_coder.dequantized(some, coder) + 0.5) / 2**FRACTION
        nats -= float(log_prob(params, x.astype(np.float32), context).sum())
        assert not images_coder.push(some, context, None, coder).size
    return coder.bits / images.size, nats / np.log(2) / images.size + np.log2(model.levels)


def add_ours(table, model: ImageModel, params, images, labels, batch) -> None:
    """Rows of our file and its parts, timed when all is compiled."""

    def pack():
        return codec.compress(
            model.density, params, images, levels=model.levels, labels=labels, batch=batch
        )

    def unpack():
        return codec.decompress(model.density, params, data)

    data = pack()
    unpack()
    speeds = [speed(images.size / 1e6, seconds(f)) for f in (pack, unpack)]
    assert np.array_equal(unpack()[0], images)
    sizes = codec.sizes(data)
    for name, bits in sizes._asdict().items():
        table.add_row(f"  of it {name}", f"{bits / images.size:.4f}", f"{bits / 8:,.0f}", "", "")
    add(table, "glowjax", len(data), images.size, speeds)


def add_other(table, name: str, pictures: Sequence[np.ndarray], numbers: int, options) -> None:
    """A row of a format of Pillow, timed at one thread."""
    encoded: list[bytes] = []

    def encode():
        encoded[:] = [encode_one(picture, options) for picture in pictures]

    def decode():
        return [np.asarray(Image.open(io.BytesIO(content))) for content in encoded]

    speeds = [speed(numbers / 1e6, seconds(f)) for f in (encode, decode)]
    add(table, name, sum(map(len, encoded)), numbers, speeds)


def encode_one(picture: np.ndarray, options) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
        content, **options
    )
    return content.getvalue()


def sheet(images: np.ndarray) -> np.ndarray:
    """All images as one picture, about square; the last row is filled by black ones."""
    count, height, width, channels = images.shape
    columns = round(np.sqrt(count * height / width))
    rows = -(-count // columns)
    filled = np.zeros((rows * columns, height, width, channels), np.uint8)
    filled[:count] = images
    grid = filled.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)


def seconds(f: Callable[[], object]) -> tuple[float, float]:
    """Of the clock, and of cores."""
    start, used = time.perf_counter(), time.process_time()
    f()
    return time.perf_counter() - start, time.process_time() - used


def speed(megabytes: float, times: Sequence[float]) -> str:
    """MB for each second of the clock, and of a core."""
    clock, cores = times
    return f"{megabytes / clock:.3g} ({megabytes / cores:.3g})"


def add(table, name: str, size: int, numbers: int, speeds: Sequence[str]) -> None:
    table.add_row(name, f"{8 * size / numbers:.4f}", f"{size:,}", *speeds)
