"""Lossless compression: bits/dim that become bytes, by exact bijections of integers."""

from glowjax.codec.compression import compress, decompress, decompressed
from glowjax.codec.container import Header, Sizes, about, sizes
from glowjax.codec.streams import Batch

__all__ = [
    "Batch",
    "Header",
    "Sizes",
    "about",
    "compress",
    "decompress",
    "decompressed",
    "sizes",
]
