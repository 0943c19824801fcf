"""Images as they are stored: decoded, checked, and brought to a size."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import PIL.Image
import PIL.ImageChops
import PIL.ImageOps

from glowjax.data.transform import pair

ORIENTATION, TURNED = 0x0112, 5  # Exif's tag, and its values from which on sides are exchanged
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


def decode(encoded, channels) -> np.ndarray:
    """The bytes of an image file as uint8 [H, W, channels].

    Raises:
      ValueError: the image has more than 8 bits a channel.
    """
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        check_depth(image)
        if "exif" in image.info:  # a camera's picture may have been taken with the camera turned
            image = PIL.ImageOps.exif_transpose(image)
        mode = MODES.get(channels, image.mode)
        if image.mode == "P" != mode:
            image = image.convert("RGBA")  # a palette may have transparent colours
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], -1)


def upright_size(image) -> tuple[int, int]:
    """Height and width of an opened picture as `decode` gives it."""
    exif = "exif" in image.info  # of TIFF files Pillow turns the size itself
    turned = exif and image.getexif().get(ORIENTATION, 1) >= TURNED
    return image.size if turned else image.size[::-1]


def channels_of(path: pathlib.Path) -> int:
    """4 where a picture has transparent places, else 3 where it has colours, else 1.

    Raises:
      ValueError: it has more than 8 bits a channel.
    """
    with PIL.Image.open(path) as image:
        check_depth(image)
        image.load()
        if image.has_transparency_data:
            opacity = image.convert("RGBA").getchannel("A").getextrema()
            if opacity != (255, 255):
                return 4
        red, *others = image.convert("RGB").split()
        grey = all(PIL.ImageChops.difference(red, other).getbbox() is None for other in others)
        return 1 if grey else 3


def frames_of(path: pathlib.Path) -> int:
    """How many pictures a file holds: an animation has several, of which the first is read."""
    with PIL.Image.open(path) as image:
        return getattr(image, "n_frames", 1)


def check_depth(image) -> None:
    """Raises `ValueError` for an image of more than 8 bits a channel."""
    # Of 16-bit colours Pillow reads the higher 8 bits, and says so by the tiles alone.
    deep = image.mode[0] in "IF" or any("16" in str(tile[3]) for tile in image.tile)
    if deep:
        raise ValueError("it must have 8 bits a channel, got an image of 16 or more")


def check_image(encoded, shape) -> None:
    """Raises `ValueError` where a file holds another image than one of this shape, of 8 bits."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        check_depth(image)
        width, height = image.size
        image.verify()
    if any(wanted not in (None, side) for wanted, side in zip(shape, (height, width), strict=True)):
        raise ValueError(f"it must be {shape[0]}×{shape[1]}, got {height}×{width}")


def resized(image, size) -> np.ndarray:
    """The central region of an image [H, W, C], of the shape of `size`, averaged to that size."""
    (height, width), (down, right) = image.shape[:2], pair("resize", size)
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
