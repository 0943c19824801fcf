"""glowjax compress and decompress."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from glowjax import codec, plots
from glowjax.checks import require
from glowjax.commands.options import PAUSE, Images, Weights, check_file, check_out, is_folder, parse
from glowjax.data.images import channels_of, decode, frames_of
from glowjax.densities.quantization import to_uint8
from glowjax.files import write_whole
from glowjax.progress import progress
from glowjax.runs.given import Given
from glowjax.runs.trained import ImageModel

Out = Annotated[Path | None, tyro.conf.arg(aliases=("-o",))]


@dataclass(frozen=True, kw_only=True)
class Compress(Images):
    """Write images to one file, in as many bits as the model's bits/dim say. Nothing is lost."""

    num: int | None = None
    """How many images of the split; default: all."""
    batch: int | None = None
    """How many images the nets see at a time; default: 8 on CPUs, and 64 on other devices."""
    check: bool = True
    """Whether to decompress everything once, before the file is written."""
    out: Out = None
    """The file; default: compressed.glow in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Decompress(Weights):
    """Read the images that `glowjax compress` wrote, with the same weights."""

    file: tyro.conf.Positional[Path]
    """What `glowjax compress` wrote."""
    out: Out = None
    """A .npy, the images as uint8 [N, H, W, C] in the model's grey levels; or a folder, new or
    empty, for a PNG of each image. Default: decompressed in the run's folder, or decompressed.npy
    where images have other than 1 or 3 channels."""


def compress(arguments: list[str]) -> None:
    """Compresses images by a run's weights."""
    options = parse(Compress, "compress", arguments)
    path = options.path(options.out, "compressed.glow")
    check_file(path)
    model, params = options.load()
    given = options.images(model, options.num)
    if options.files:
        _check_unchanged(options.files, given, model)
    labels = given.labels if model.conditional else None
    with progress(len(given.images), what="image", text="compiling", pause=PAUSE) as advance:
        data = codec.compress(
            model.density,
            params,
            given.images,
            levels=model.levels,
            labels=labels,
            batch=options.batch,
            advance=lambda done: advance(done, "compressing"),
        )
    if options.check:
        _check_comes_back(model, params, data, given.images, labels)
    write_whole(path, data)
    numbers, sizes = given.images.size, codec.sizes(data)
    parts = ", ".join(f"{name} {bits / numbers:.4f}" for name, bits in sizes._asdict().items())
    print(f"{len(given.images):,} images: {8 * len(data) / numbers:.4f} bits/dim ({parts})")
    print(f"{path}  {len(data):,} bytes")


def decompress(arguments: list[str]) -> None:
    """Decompresses what a run's weights compressed."""
    options = parse(Decompress, "decompress", arguments)
    data = options.file.expanduser().read_bytes()
    header = _header(options.file, data)
    as_pictures = header.image_shape[-1] in (1, 3)
    out = options.path(options.out, "decompressed" if as_pictures else "decompressed.npy")
    check_out(out, ".npy")
    wanted = f"a .npy for images of {header.image_shape[-1]} channels"
    require(as_pictures or not is_folder(out), "out", str(out), wanted)
    model, params = options.load()
    batches = codec.decompressed(model.density, params, data)
    with progress(header.images, what="image", text="compiling", pause=PAUSE) as advance:
        if is_folder(out):
            _write_each(out, batches, model, advance)
        else:
            _write_array(out, batches, header, advance)
    print(f"{out}  {header.images:,} images")


def _header(file: Path, data: bytes) -> codec.Header:
    """What a file says of itself; a damaged one is named."""
    try:
        return codec.about(data)
    except ValueError as error:
        raise ValueError(f"file {file} cannot be decompressed: {error}") from error


def _check_unchanged(files: Iterable[Path], given: Given, model: ImageModel) -> None:
    """Refuses files that the model sees otherwise than they are: they would not come back."""
    seen = np.asarray(to_uint8(given.images, levels=model.levels))
    height, width, channels = model.image_shape
    for path, image in zip(files, seen, strict=True):
        path = path.expanduser()
        for what, most, has in (
            ("channels", channels, channels_of(path)),
            ("pictures", 1, frames_of(path)),
        ):
            wanted = f"one of {most} {what} at most, or it is not lossless"
            require(has <= most, "file", f"{path}, of {has}", wanted)
        pixels = decode(path.read_bytes(), channels)
        wanted = f"{height}×{width}×{channels} of {model.levels} grey levels, or it is not lossless"
        size = "×".join(map(str, pixels.shape))
        require(np.array_equal(pixels, image), "file", f"{path}, which is {size}", wanted)


def _check_comes_back(model: ImageModel, params, data: bytes, images, labels) -> None:
    """Decompresses what was compressed, and refuses to write what does not come back."""
    with progress(len(images), what="image", text="compiling", pause=PAUSE) as advance:
        for batch in _told(codec.decompressed(model.density, params, data), advance, "checking"):
            end = batch.start + len(batch.images)
            same = np.array_equal(batch.images, images[batch.start : end])
            if batch.labels is not None:
                same &= np.array_equal(batch.labels, labels[batch.start : end])
            wanted = f"those of numbers {batch.start} to {end - 1} that were compressed"
            require(same, "images", "others back", wanted)


def _told(batches: Iterable[codec.Batch], advance, text: str) -> Iterator[codec.Batch]:
    """The batches; after each, `advance` is told how many images are done."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.images)
        advance(done, text)


def _write_each(folder: Path, batches: Iterable[codec.Batch], model: ImageModel, advance) -> None:
    """A PNG of each image, named by its number."""
    for batch in _told(batches, advance, "decompressing"):
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(np.asarray(to_uint8(batch.images, levels=model.levels))):
            plots.image_grid(image[None], scale=1).save(folder / f"{batch.start + i:05}.png")


def _write_array(path: Path, batches: Iterable[codec.Batch], header: codec.Header, advance) -> None:
    images = np.empty((header.images, *header.image_shape), np.uint8)
    for batch in _told(batches, advance, "decompressing"):
        images[batch.start : batch.start + len(batch.images)] = batch.images
    content = io.BytesIO()
    np.save(content, images)
    write_whole(path, content.getvalue())
