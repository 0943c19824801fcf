"""Bijections, one a file: pure functions, then the Linen module that owns their parameters."""
