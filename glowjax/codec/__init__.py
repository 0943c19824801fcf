"""Lossless compression: bits/dim that become bytes, by exact bijections of integers."""

from glowjax.codec.compression import Batch, compress, decompress, decompressed
from glowjax.codec.container import Header, Sizes, about, sizes

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
