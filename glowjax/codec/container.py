"""The file: a header, what is left of the coder, and the SHA-256 of both.

    8 bytes      "GLOWJAX4"
    4 bytes      length of the header
    …            the header, JSON in UTF-8 through zlib
    8 a lane     the lanes of each coder, uint64
    2 a word     their words, uint16, lane by lane
    32 bytes     SHA-256 of all of the above

Numbers are little-endian.
"""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from glowjax.checks import require
from glowjax.codec.coder import Stored
from glowjax.codec.lanes import LEAST, WORD

MAGIC = b"GLOWJAX4"
DIGEST = 32  # bytes


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a compressed file says of itself.

    Attributes:
        images: how many there are.
        image_shape: (H, W, C).
        levels: grey levels.
        classes: of the labels that are stored with the images; None without labels.
        batch: images that nets see at a time.
        batches: how many images were coded together, batch by batch, for each coder; the batches
            of a row share a checksum.
        checksums: CRC-32 of the images of each row, for each coder.
        raw: numbers of the images that leave the range of fixed point, and are stored pixel by
            pixel.
        lanes: of each coder.
        seed_words: words of the coders' seeds that are in the file.
        model: SHA-256 of the model's expression and weights.
        repeats: SHA-256 of what the model makes of fixed test images: a device on which it is
            another cannot read the file.
        made_with: versions and device.
    """

    images: int
    image_shape: tuple[int, int, int]
    levels: int
    classes: int | None
    batch: int
    batches: tuple[tuple[tuple[int, ...], ...], ...]
    checksums: tuple[tuple[int, ...], ...]
    raw: tuple[int, ...]
    lanes: int
    seed_words: int
    model: str
    repeats: str
    made_with: dict[str, str]


class Sizes(NamedTuple):
    """Bits of the parts of a file: they add up to its size.

    Attributes:
        images: what the images added to the coders.
        seed: what was there before: the lanes at their least, and the words that were popped.
        header: the header, with how many words each lane has, and the digest.
    """

    images: float
    seed: float
    header: int


def about(data: bytes) -> Header:
    """The header of a file's content.

    Raises:
        ValueError: `data` is no such content, or is damaged.
    """
    return unpack(data)[0]


def sizes(data: bytes) -> Sizes:
    """The `Sizes` of a file's content; errors as for `about`."""
    header, stored = unpack(data)
    lanes = np.concatenate([one.lanes for one in stored])
    words = sum(len(one.words) for one in stored)
    bits = np.log2(lanes.astype(np.float64) / LEAST).sum()
    images = float(bits) + WORD * (words - header.seed_words)
    coder = 8 * lanes.nbytes + WORD * words
    return Sizes(images, coder - images, 8 * len(data) - coder)


def pack(header: Header, stored: Sequence[Stored]) -> bytes:
    """The file's content, of a header and what is left of each coder."""
    fields = dataclasses.asdict(header) | {"lengths": [one.lengths.tolist() for one in stored]}
    text = zlib.compress(json.dumps(fields).encode(), 9)
    parts = [MAGIC, len(text).to_bytes(4, "little"), text]
    parts += [one.lanes.astype("<u8").tobytes() for one in stored]
    parts += [one.words.astype("<u2").tobytes() for one in stored]
    content = b"".join(parts)
    return content + hashlib.sha256(content).digest()


def unpack(data: bytes) -> tuple[Header, list[Stored]]:
    """The inverse of `pack`.

    Raises:
        ValueError: `data` is not a file of `pack`, or is damaged, be it by a single bit.
    """
    require(data[: len(MAGIC)] == MAGIC, "data", data[: len(MAGIC)], f"a file that starts {MAGIC}")
    content, digest = data[:-DIGEST], data[-DIGEST:]
    found = hashlib.sha256(content).digest()
    require(found == digest, "data", "a damaged one", "a file as it was written")
    start = len(MAGIC) + 4
    end = start + int.from_bytes(content[len(MAGIC) : start], "little")
    fields: dict[str, Any] = json.loads(zlib.decompress(content[start:end]))
    lengths = np.array(fields.pop("lengths"), np.int64)  # [coder, lane]
    header = Header(**{name: _frozen(value) for name, value in fields.items()})
    lanes = np.frombuffer(content, "<u8", lengths.size, end).reshape(lengths.shape)
    words = np.frombuffer(content, "<u2", offset=end + lanes.nbytes)
    each = np.split(words, np.cumsum(lengths.sum(axis=1))[:-1])
    return header, [Stored(*one) for one in zip(lanes, lengths, each, strict=True)]


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
