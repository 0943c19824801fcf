"""Lossless compression: bits/dim that become bytes, by exact bijections of integers."""

from glowjax.codec.compression import compress, decompress

__all__ = ["compress", "decompress"]
