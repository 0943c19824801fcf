"""Images as they are stored: decoded, and checked."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


def decode(encoded, channels):
    """The bytes of an image file as uint8 [H, W, channels].

    Raises:
      ValueError: the image has more than 8 bits a channel.
    """
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        _check_depth(image)
        mode = MODES.get(channels, image.mode)
        if image.mode == "P" != mode:
            image = image.convert("RGBA")  # a palette may have transparent colours
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], -1)


def _check_depth(image):
    # Of 16-bit colours Pillow reads the higher 8 bits, and says so by the tiles alone.
    deep = image.mode[0] in "IF" or any("16" in str(tile[3]) for tile in image.tile)
    if deep:
        raise ValueError("it must have 8 bits a channel, got an image of 16 or more")


def check_image(encoded, shape) -> None:
    """Raises `ValueError` where a file holds another image than one of this shape, of 8 bits."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        _check_depth(image)
        width, height = image.size
        image.verify()
    if any(due not in (None, side) for due, side in zip(shape, (height, width), strict=True)):
        raise ValueError(f"it must be {shape[0]}×{shape[1]}, got {height}×{width}")
