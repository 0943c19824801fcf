"""glowjax interpolate | reconstruct | edit."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glowjax import plots
from glowjax.checks import check_integer, check_positive, require
from glowjax.commands.options import Images, check_file, in_chunks, parse
from glowjax.data.attributes import load_attribute
from glowjax.densities import latents
from glowjax.densities.quantization import to_uint8
from glowjax.runs.given import Given, read_split
from glowjax.runs.pictures import eight_bits
from glowjax.runs.trained import ImageModel

LOOKED_AT = 40  # images for each pair, among which two of one class are found


@dataclass(frozen=True, kw_only=True)
class Interpolate(Images):
    """Draw the way from one image to another through the latents: a row for each pair.

    Files are taken two by two. Pairs of a conditional model are of one class.
    """

    pairs: int = 6
    """How many pairs of the split."""
    steps: int = 9
    """Images in a row, both ends included."""
    path_kind: latents.Path = "spherical"
    """The way: on the sphere on which latents lie, or straight."""
    animation: bool = False
    """Also write an animation, a GIF beside the picture, there and back."""


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Images):
    """Draw images whose lower levels are drawn anew: what does each level hold?

    The first row has the images. In the next ones level 1 is drawn anew, then levels 1 and 2, and
    so on.
    """

    num: int = 10
    """How many images of the split."""
    temperature: float = 0.7
    """Of what is drawn."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Edit(Images):
    """Draw images with more and less of an attribute, by a direction in the latents.

    The direction is the mean of the latents with the attribute less that of those without, over
    training images.
    """

    attribute: str
    """A label's name or number; or an attribute of the data set, such as Smiling of celeb_a."""
    num: int = 6
    """How many images of the split."""
    strengths: tuple[float, ...] = (-1.6, -0.8, 0.0, 0.8, 1.6)
    """How much of the direction is added, a column each."""
    examples: int = 2000
    """Training images that give the direction."""


def interpolate(arguments: list[str]) -> None:
    """Draws images between pairs of images."""
    options = parse(Interpolate, "interpolate", arguments)
    check_positive(pairs=options.pairs)
    path = options.path(options.out, "interpolated.png")
    check_file(path)
    model, params = options.load()
    require(len(options.files) % 2 == 0, "files", len(options.files), "two by two")
    check_integer("steps", options.steps, 2)
    still = path.suffix != ".gif" or not options.animation
    require(still, "out", str(path), "another than the animation's, such as a .png")
    images = options.images(model, LOOKED_AT * options.pairs)
    given = paired(model, images, len(options.files) // 2 or options.pairs)
    wanted = "two at least" + ", of one class, for the model is conditional" * model.conditional
    if given is None:
        raise ValueError(f"images must be {wanted}, got {len(images.names)}")
    rows = between_pairs(model, params, given, options.steps, options.path_kind)
    _sheet(path, rows)
    if options.animation:
        frames = rows.swapaxes(0, 1)
        sheets = [plots.image_grid(f).convert("RGB") for f in (*frames, *frames[-2:0:-1])]
        plots.animation(path.with_suffix(".gif"), [*map(np.asarray, sheets)], fps=8, hold=0)
        print(path.with_suffix(".gif"))


def paired(model: ImageModel, given: Given, pairs: int) -> Given | None:
    """The first images two by two, as many pairs as there are; None if there is none.

    Those of a conditional model are of one class, by whose label the way is decoded.
    """
    alike = np.zeros(len(given.names), int)
    classes = given.labels if model.conditional and given.labels is not None else alike
    members = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    found = [pair for index in members for pair in index[: len(index) // 2 * 2].reshape(-1, 2)]
    if not found:
        return None
    index = np.concatenate(sorted(found, key=lambda pair: pair[1])[:pairs])
    labels = None if given.labels is None else given.labels[index]
    return Given([given.names[i] for i in index], given.images[index], labels)


def between_pairs(
    model: ImageModel, params: Any, given: Given, steps: int, path: latents.Path = "spherical"
) -> np.ndarray:
    """Images from the first to the second of each pair: `[pairs, steps, H, W, C]`, 8 bits.

    Those given are two by two, as `paired` gives them.
    """
    count = len(given.names)
    z, labels = _encode(model, params, given)
    first, second = (jax.tree.map(lambda h, i=i: h[i::2], z) for i in (0, 1))
    between = latents.interpolate(first, second, steps, path=path)
    rows = jax.tree.map(lambda h: np.swapaxes(h, 0, 1).reshape(-1, *h.shape[2:]), between)
    labels = None if labels is None else np.repeat(labels[::2], steps)
    images = _decode(model, params, rows, labels)
    return images.reshape(count // 2, steps, *images.shape[1:])


def reconstruct(arguments: list[str]) -> None:
    """Draws levels anew, one more a row."""
    options = parse(Reconstruct, "reconstruct", arguments)
    path = options.path(options.out, "reconstructed.png")
    check_file(path)
    model, params = options.load()
    given = options.images(model, options.num)
    key = jax.random.key(options.seed)
    plots.image_rows(path, with_levels_redrawn(model, params, given, key, options.temperature))
    print(path)


def with_levels_redrawn(
    model: ImageModel, params: Any, given: Given, key: jax.Array, temperature: float = 0.7
) -> dict[str, np.ndarray]:
    """8-bit images by name: those given, and with level 1 drawn anew, levels 1 and 2, and so on."""
    z, labels = _encode(model, params, given)
    wanted = "one a level, as a Glow's are"
    require(isinstance(z, tuple), "latents of the model", type(z).__name__, wanted)
    rows = {"images": np.asarray(to_uint8(given.images, levels=model.levels))}
    for count in range(1, len(z) + 1):
        drawn = latents.redraw_levels(key, z, range(1, count + 1), temperature=temperature)
        name = "level 1 anew" if count == 1 else f"levels 1–{count}"
        rows[name] = _decode(model, params, drawn, labels)
    return rows


def edit(arguments: list[str]) -> None:
    """Moves images along the direction of an attribute."""
    options = parse(Edit, "edit", arguments)
    check_positive(num=options.num, examples=options.examples)
    path = options.path(options.out, "edited.png")
    check_file(path)
    model, params = options.load()
    have = load_attribute(model.config.data, "train", options.attribute, options.examples)
    with_it, without = np.flatnonzero(have), np.flatnonzero(~have)
    counts = f"{len(with_it)} with and {len(without)} without"
    require(options.strengths, "strengths", options.strengths, "one number at least")
    require(len(with_it) and len(without), f"images of {options.attribute}", counts, "some of both")
    z, _ = _encode(model, params, read_split(model, "train", num=len(have)))
    parts = (jax.tree.map(lambda h, i=i: h[i], z) for i in (with_it, without))
    direction = latents.attribute_direction(*parts)
    given = options.images(model, options.num)
    z, labels = _encode(model, params, given)
    columns = [
        _decode(model, params, jax.tree.map(lambda h, d, s=s: h + s * d, z, direction), labels)
        for s in options.strengths
    ]
    print(f"direction of {options.attribute}: {counts} it; strengths: {options.strengths}")
    _sheet(path, np.stack(columns, axis=1))


def _encode(model: ImageModel, params: Any, given: Given) -> tuple[Any, np.ndarray | None]:
    labels = given.labels if model.conditional else None
    return in_chunks(
        "encoding", functools.partial(model.encode, params), given.images, labels
    ), labels


def _decode(model: ImageModel, params: Any, z: Any, labels: np.ndarray | None) -> np.ndarray:
    decode = functools.partial(jax.jit(model.density.decode), params)
    return eight_bits(model, in_chunks("decoding", decode, z, labels))


def _sheet(path: Path, rows: np.ndarray) -> None:
    """Writes `[rows, columns, H, W, C]`."""
    images = rows.reshape(-1, *rows.shape[2:])
    plots.image_grid(images, columns=rows.shape[1]).save(path)
    print(path)
