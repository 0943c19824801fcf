"""The entropy coder: asymmetric numeral systems as a stack, in many lanes side by side."""

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.codec.lanes import LEAST, WORD, Stack

GOLDEN = 0.618  # of all lanes, by which they are turned from batch to batch


class Stored(NamedTuple):
    """What is left of a coder, from which another goes on.

    Attributes:
        lanes: their numbers, uint64.
        lengths: how many words each has.
        words: uint16, lane by lane, the last pushed at the end.
    """

    lanes: np.ndarray
    lengths: np.ndarray
    words: np.ndarray


class Coder:
    """The whole stack, in the memory of the host: a device has the upper words, for a batch.

    Where a lane has no more words, seed words are found beneath: a stream that is the same in every
    coder, and that `seed_words` counts.

        stack(room, images)     -> the `Stack` of the device, with `room` words a lane
        take(stack)             -> None; takes back what was lent, if it `fits`
    """

    def __init__(self, stored: Stored, *, turn: int = 0, seed: bool = False):
        self.turn = turn  # how many batches were pushed, which says how the lanes are turned
        lengths = stored.lengths.astype(np.int64)
        self.lanes, self.top, self.seed = stored.lanes.astype(np.uint64), lengths, seed
        self.beneath = 0  # rows that were put beneath the stored words
        self.low = np.zeros_like(lengths)
        self.words = np.zeros((max(lengths, default=0), len(lengths)), np.uint16)
        self.words.T[self._filled(lengths)] = stored.words

    @classmethod
    def seeded(cls, lanes: int) -> "Coder":
        """A coder of nothing yet."""
        none = np.zeros(lanes, np.int64)
        return cls(Stored(np.full(lanes, LEAST, np.uint64), none, none[:0]), seed=True)

    @property
    def seed_words(self) -> int:
        """How many words of the seed are in use, or were."""
        return int(np.maximum(self.beneath - self.low, 0).sum()) if self.seed else 0

    @property
    def bits(self) -> float:
        """What was pushed less what was popped."""
        lanes = np.log2(self.lanes.astype(np.float64) / LEAST).sum()
        return float(lanes) + WORD * int((self.top - self.beneath).sum())

    def stored(self) -> Stored:
        """All that the coder holds, but for seed words that were never used."""
        kept = self._filled(self.top) & ~self._filled(self.low)
        return Stored(self.lanes.copy(), self.top - self.low, self.words.T[kept])

    def holds_only_seed(self) -> bool:
        """Whether everything was popped, as at the end of decoding."""
        count = self.top - (0 if self.seed else self.beneath)
        depth = int(count.max(initial=0))
        seed = _seed(0, depth, len(count))
        each = zip(self.words.T, seed.T, self.top, count, strict=True)
        same = (np.array_equal(words[top - n : top], s[:n][::-1]) for words, s, top, n in each)
        return bool(np.all(self.lanes == LEAST)) and all(same)

    def stack(self, room: int, images: int) -> Stack:
        """The upper `room` words of each lane, with as much room above, for a batch of images."""
        missing = room - int(self.top.min())
        if missing > 0:
            self._put_beneath(missing)
        rows = self.top - room + np.arange(room)[:, None]
        words = np.take_along_axis(self.words, rows, axis=0)[:, self._turned()]
        words = np.concatenate([words, np.zeros_like(words)])
        top = jnp.full(len(self.top), room, jnp.int32)
        bad = jnp.zeros(images, bool)
        lanes = jnp.asarray(self.lanes[self._turned()])
        return Stack(lanes, jnp.asarray(words), top, top, top, bad, ~bad)

    def take(self, stack: Stack) -> None:
        """Takes back what `stack` lent."""
        back = np.argsort(self._turned())
        lanes, words, top, low = (array[..., back] for array in jax.device_get(stack[:4]))
        base = self.top - len(words) // 2
        depth = int(top.max())
        missing = int(base.max()) + depth - len(self.words)
        if missing > 0:
            more = np.zeros((max(missing, len(self.words)), len(top)), np.uint16)
            self.words = np.concatenate([self.words, more])
        # Beyond a lane's top, what is there is free.
        rows = base + np.arange(depth)[:, None]
        np.put_along_axis(self.words, rows, words[:depth], axis=0)
        self.lanes, self.top = lanes, base + top
        self.low = np.minimum(self.low, base + low)

    def _turned(self) -> np.ndarray:
        """Which lane comes at which place: another from batch to batch, so that all have as much
        to do."""
        width = len(self.lanes)
        return (np.arange(width) + round(self.turn * GOLDEN * width)) % width

    def _put_beneath(self, count: int) -> None:
        """Puts the next rows of the seed beneath all others; zeros if the words were stored."""
        rows = np.zeros((count, len(self.lanes)), np.uint16)
        if self.seed:
            rows = _seed(self.beneath, count, len(self.lanes))[::-1]
        self.words = np.concatenate([rows, self.words])
        self.beneath += count
        self.top, self.low = self.top + count, self.low + count

    def _filled(self, lengths: np.ndarray) -> np.ndarray:
        """`[lane, row]`: whether a row is below a lane's length."""
        return np.arange(len(self.words)) < lengths[:, None]


def _seed(start: int, count: int, lanes: int) -> np.ndarray:
    """Rows of a stream that looks random and is always the same: SHAKE-128 of a name."""
    stream = hashlib.shake_128(b"glowjax.codec").digest(2 * (start + count) * lanes)
    return np.frombuffer(stream, "<u2").reshape(-1, lanes)[start:].astype(np.uint16)
