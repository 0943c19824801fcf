"""Images as streams, each on a stack of its own, so that each core of a machine has one."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from glowjax.checks import require
from glowjax.codec.batches import BatchCoder
from glowjax.codec.coder import Coder

CHECKED = 64  # images, at least, that share a checksum

T = TypeVar("T")


class Batch(NamedTuple):
    """Images `[N, H, W, C]`, uint8, and labels `[N]` or None; the first is number `start`."""

    start: int
    images: np.ndarray
    labels: np.ndarray | None


class Stream:
    """Images `start` to `end - 1` on their way onto a stack, or off it again.

        push(images, labels)    -> how many of all these images it pushed
        pop()                   -> the `Batch` of what was pushed last

    Args:
        codec: of batches.
        coder: the stack.
        classes: of the labels, or None.
        start, end: the images.
        batches: sizes of the batches that are on the stack; those of a row share a checksum.
        checksums: CRC-32 of each row.
        raw: numbers of images that are stored pixel by pixel.
    """

    def __init__(
        self,
        codec: BatchCoder,
        coder: Coder,
        classes: int | None,
        start: int,
        end: int,
        batches: Iterable[tuple[int, ...]] = (),
        checksums: Iterable[int] = (),
        raw: Iterable[int] = (),
    ):
        self.codec, self.coder, self.classes = codec, coder, classes
        self.batches, self.checksums, self.raw = list(batches), list(checksums), set(raw)
        self.start, self.end = start, end
        self.at = start + sum(map(sum, self.batches))  # images before it are on the stack

    def push(self, images: np.ndarray, labels: np.ndarray | None) -> int | None:
        """Pushes the next batches, up to the next checksum; None if there are no more."""
        start, sizes = self.at, []
        while self.at < self.end and self.at - start < CHECKED:
            size = min(self.codec.affordable(self.coder), self.end - self.at)
            some = _rows(images, labels, self.at, self.at + size)
            escaped = self.codec.push(some.images, some.labels, self.classes, self.coder)
            self.raw |= set((self.at + escaped).tolist())
            sizes.append(size)
            self.at += size
        if not sizes:
            return None
        self.batches.append(tuple(sizes))
        self.checksums.append(_checksum(_rows(images, labels, start, self.at)))
        return self.at - start

    def pop(self) -> Batch | None:
        """Pops the last batches that share a checksum, which it checks; None if there are none.

        Raises:
            ValueError: they are others than those that were pushed.
        """
        if not self.batches:
            return None
        end, found = self.at, []
        for size in reversed(self.batches.pop()):
            self.at -= size
            escaped = [i for i in range(size) if self.at + i in self.raw]
            found.append(self.codec.pop(size, np.array(escaped, int), self.classes, self.coder))
        images, labels = zip(*reversed(found), strict=True)
        labelled = self.classes is not None
        some = Batch(self.at, np.concatenate(images), np.concatenate(labels) if labelled else None)
        wanted = f"those of numbers {self.at} to {end - 1} that were compressed"
        same = _checksum(some) == self.checksums.pop()
        require(same, "images", "others", f"{wanted}: nets did not repeat")
        return some


def side_by_side(work: Callable[[Stream], T | None], streams: Sequence[Stream]) -> Iterator[T]:
    """What work makes of the streams, all at a time, again and again until it makes None."""
    with ThreadPoolExecutor(len(streams)) as threads:
        while made := [one for one in threads.map(work, streams) if one is not None]:
            yield from made


def _rows(images, labels, start, end):
    return Batch(start, images[start:end], None if labels is None else labels[start:end])


def _checksum(batch: Batch) -> int:
    """CRC-32 of images and labels."""
    labels = b"" if batch.labels is None else batch.labels.astype("<i8").tobytes()
    return zlib.crc32(labels, zlib.crc32(batch.images.astype(np.uint8).tobytes()))
