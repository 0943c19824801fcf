"""From stored images to those that a flow is trained on: crops, shifts, mirrored, resized."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from glowjax.checks import Interval, check_choice, check_in, check_integer, require
from glowjax.data.shuffle import below
from glowjax.data.source import Source


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
      first_crop: training only: side of a square, or (height, width) of a rectangle, cut out at
        random in the first steps of training in place of `crop`: smaller images take less time.
      first_steps: `shift` and `first_crop` end after this many steps of training, so that the last
        ones see the images as they are; None: shifts never end.
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
    first_crop: int | tuple[int, int] | None = None
    first_steps: int | None = None
    flip: bool = False
    bits: int | None = None
    channels: int | None = None

    def __post_init__(self):
        for side in pair("pad", self.pad):
            for pixels in pair("pad", side):
                check_integer("pad", pixels, 0)
        if self.crop is not None:
            check_positive_pair("crop", self.crop)
        check_in(Interval(0, 0.5, "both"), shift=self.shift)
        check_choice("shift_edge", self.shift_edge, ("repeat", "reflect"))
        if self.first_steps is not None:
            check_integer("first_steps", self.first_steps, 0)
        if self.first_crop is not None:
            check_positive_pair("first_crop", self.first_crop)
            wanted = "None where first_steps is None"
            require(self.first_steps is not None, "first_crop", self.first_crop, wanted)
        for name, value, high in [("bits", self.bits, 8), ("channels", self.channels, None)]:
            if value is not None:
                check_integer(name, value, 1, high)

    def image_shape(self, source: Source) -> tuple[int, int, int]:
        """(H, W, C) of transformed images."""
        height, width, channels = source.image_shape
        down, right = self._sides()
        height, width = height + sum(down), width + sum(right)
        crops = {"first_crop": self.first_crop, "crop": self.crop}
        for name, crop in crops.items():
            size = (height, width) if crop is None else pair(name, crop)
            wanted = f"at most {height}×{width}, the height and width of {source.name}'s images"
            require(size[0] <= height and size[1] <= width, name, crop, wanted)
        if self.crop is not None:
            height, width = pair("crop", self.crop)
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
        """The transform of one step of training, 0 the first."""
        if self.first_steps is not None and step >= self.first_steps:
            return dataclasses.replace(self, shift=0.0, first_crop=None)
        crop = self.crop if self.first_crop is None else self.first_crop
        return dataclasses.replace(self, crop=crop, first_crop=None)

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
        down, right = pair("pad", self.pad)
        return pair("pad", down), pair("pad", right)

    def _gather(self, images, draws):
        """Crop, shift and flip at once: pixel (i, j) of a result is pixel (rows[i], columns[j])."""
        n, height, width, channels = images.shape
        down, right = (height, width) if self.crop is None else pair("crop", self.crop)
        rows = self._coordinates(height, down, None if draws is None else draws[:, 0:2])
        columns = self._coordinates(width, right, None if draws is None else draws[:, 2:4])
        if self.flip and draws is not None:
            columns = np.where(below(draws[:, 4:5], 2) == 1, columns[:, ::-1], columns)
        pixels = (np.arange(n)[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
        return np.take(images.reshape(-1, channels), pixels, axis=0)

    def _coordinates(self, size, side, draws):
        """Source coordinates [n or 1, side] along one axis."""
        room, reach = size - side, int(self.shift * side)
        if draws is None:
            return room // 2 + np.arange(side)[None]
        start, offset = (
            below(draws[:, 0:1], room + 1),
            below(draws[:, 1:2], 2 * reach + 1) - reach,
        )
        inside, last = np.arange(side) - offset, side - 1
        if self.shift_edge == "reflect":
            return start + last - np.abs(last - np.abs(inside))
        return start + np.clip(inside, 0, last)


def check_positive_pair(name: str, size: Any) -> None:
    """Raises `ValueError` unless `size` is one or two whole numbers of at least 1."""
    for side in pair(name, size):
        check_integer(name, side, 1)


def pair(name, size) -> tuple[Any, ...]:
    """(vertical, horizontal) of a size: one for both, or each its own."""
    if not isinstance(size, tuple | list):
        return size, size
    require(len(size) == 2, name, size, "one for height and width, or two: (height, width)")
    return tuple(size)
