"""The entropy coder: asymmetric numeral systems as a stack, in many lanes side by side."""

import hashlib
from typing import Any, NamedTuple

import numpy as np

PRECISION = 30  # bits: a symbol is an interval of the 2³⁰ slots, as long as its probability says
WORD = 16  # bits that go from a lane to the stack of words at once, and back
LEAST = 2**48  # a lane's number is in LEAST … LEAST·2¹⁶ - 1 between two symbols


class Stored(NamedTuple):
    """What is left of a coder, from which another goes on: numbers of the lanes, and words.

    Attributes:
        lanes: uint64.
        words: uint16, the last pushed at the end.
    """

    lanes: np.ndarray
    words: np.ndarray


class Coder:
    """A stack of symbols whose size is their information content: -Σ log₂ p bits.

    Popping the symbols of a uniform distribution draws bits from what is on the stack, and pushing
    them back returns it exactly. Where nothing is left, seed words are found beneath: a stream that
    is the same in every coder, and that `seed_words` counts.

    Symbols come in rows of one a lane at most, arrays of int64; `rows` cuts longer arrays. A lane
    is a number x of 64 bits. To push the interval [start, start + size) of the 2³⁰ slots is

        x <- ⌊x / size⌋·2³⁰ + start + x mod size

    Source: Duda 2014, Asymmetric numeral systems, section 3.
    """

    def __init__(self, stored: Stored):
        self.lanes = stored.lanes.astype(np.uint64)
        self.words = stored.words.astype(np.uint16)
        self.top = len(self.words)
        self.seed_words = 0
        self.mark()

    @classmethod
    def seeded(cls, lanes: int) -> "Coder":
        """A coder of nothing yet."""
        return cls(Stored(np.full(lanes, LEAST, np.uint64), np.zeros(0, np.uint16)))

    def stored(self) -> Stored:
        """All that the coder holds."""
        return Stored(self.lanes.copy(), self.words[: self.top].copy())

    def holds_only_seed(self) -> bool:
        """Whether everything was popped, as at the end of decoding."""
        untouched = np.array_equal(self.words[: self.top], _seed(0, self.top)[::-1])
        return untouched and bool(np.all(self.lanes == LEAST))

    def rows(self, count: int) -> list[slice]:
        """Slices of `count` symbols, a row each; pop them in the reversed order of pushing."""
        width = len(self.lanes)
        return [slice(i, min(i + width, count)) for i in range(0, count, width)]

    def push(self, start: np.ndarray, size: Any) -> None:
        """Pushes a row of intervals [start, start + size) of the slots; `size` is one, or each."""
        count, size = len(start), np.asarray(size, np.uint64)
        x = self.lanes[:count]
        while (full := (x >> np.uint64(64 - PRECISION)) >= size).any():
            self._push_words(x[full].astype(np.uint16))
            x = np.where(full, x >> np.uint64(WORD), x)
        quotient = x // size
        x = (quotient << np.uint64(PRECISION)) + (x - quotient * size)
        self.lanes[:count] = x + start.astype(np.uint64)

    def slots(self, count: int) -> np.ndarray:
        """The slots that `count` lanes are at; `drop` then pops the intervals that hold them."""
        return (self.lanes[:count] & np.uint64(2**PRECISION - 1)).astype(np.int64)

    def drop(self, start: np.ndarray, size: Any) -> None:
        """Pops a row of intervals, which hold the `slots`."""
        count, size = len(start), np.asarray(size, np.uint64)
        x = self.lanes[:count]
        inside = (x & np.uint64(2**PRECISION - 1)) - start.astype(np.uint64)
        x = size * (x >> np.uint64(PRECISION)) + inside
        least = int(x.min(initial=LEAST))
        for missing in (2, 1, 0):  # words, but one, that a lane lacks
            if least < (limit := LEAST >> WORD * missing):
                (empty,) = np.nonzero(x < np.uint64(limit))
                x[empty] = (x[empty] << np.uint64(WORD)) | self._pop_words(len(empty))
        self.lanes[:count] = x

    def push_uniform(self, symbols: np.ndarray, n: Any) -> None:
        """Pushes a row of symbols, each uniform on 0 … n - 1; `n`, one or each, is up to 2²⁰."""
        self.push(*_uniform(symbols, n))

    def pop_uniform(self, count: int, n: Any) -> np.ndarray:
        """Pops what `push_uniform` pushed, a row of `count` symbols."""
        symbols = (self.slots(count) * n) >> PRECISION
        self.drop(*_uniform(symbols, n))
        return symbols

    def push_bits(self, symbols: np.ndarray, bits: Any) -> None:
        """Pushes a row of symbols, each uniform on 0 … 2^bits - 1; `bits` up to 30, as `n` is."""
        rest = PRECISION - bits
        self.push(symbols << rest, 1 << rest)

    def pop_bits(self, count: int, bits: Any) -> np.ndarray:
        """Pops what `push_bits` pushed, a row of `count` symbols."""
        rest = PRECISION - bits
        symbols = self.slots(count) >> rest
        self.drop(symbols << rest, 1 << rest)
        return symbols

    def mark(self) -> None:
        """Remembers what the coder holds, for `roll_back`."""
        self._marked = self.lanes.copy()
        self._marked_top = self._low = self.top
        self._popped: list[np.ndarray] = []  # words from below the mark, first popped first

    def roll_back(self) -> None:
        """Returns to what the coder held at the last `mark`."""
        self.lanes = self._marked.copy()
        if self._popped:
            self.words[self._low : self._marked_top] = np.concatenate(self._popped[::-1])
        self.top = self._marked_top
        self.mark()

    def _push_words(self, words: np.ndarray) -> None:
        end = self.top + len(words)
        if end > len(self.words):
            self.words = np.concatenate([self.words, np.zeros(end, np.uint16)])
        self.words[self.top : end] = words
        self.top = end

    def _pop_words(self, count: int) -> np.ndarray:
        if count > self.top:
            self._add_seed(count - self.top)
        self.top -= count
        if self.top < self._low:
            self._popped.append(self.words[self.top : self._low].copy())
            self._low = self.top
        return self.words[self.top : self.top + count]

    def _add_seed(self, count: int) -> None:
        """Puts the next `count` words of the seed beneath all others."""
        self.words = np.concatenate([_seed(self.seed_words, count)[::-1], self.words])
        self.seed_words += count
        self.top += count
        self._low += count
        self._marked_top += count


def _seed(start: int, count: int) -> np.ndarray:
    """Words of a stream that looks random and is always the same: SHAKE-128 of a name."""
    stream = hashlib.shake_128(b"glowjax.codec").digest(2 * (start + count))
    return np.frombuffer(stream, "<u2")[start:].astype(np.uint16)


def _uniform(symbols: np.ndarray, n: Any) -> tuple[np.ndarray, np.ndarray]:
    """Start and size of the intervals of uniform symbols: ⌈2³⁰·symbol / n⌉ is where one starts."""
    start = ((symbols << PRECISION) + n - 1) // n
    end = (((symbols + 1) << PRECISION) + n - 1) // n
    return start, end - start
