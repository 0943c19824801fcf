"""Sizes that tensor cores want."""

TILE = 128  # rows and columns of the output that one warpgroup computes


DEPTH = 64  # columns of x that are loaded at a time: 128 bytes, a swizzle's width
