"""Linear maps of channels as exact bijections of integers: ActNorms and 1×1 convolutions."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from glowjax.codec.affine import affine, affine_forward, affine_inverse
from glowjax.codec.coder import Coder
from glowjax.codec.fixed_point import fixed, in_range
from glowjax.codec.lifting import factors, lift, unlift

Channels = Callable[[np.ndarray, Coder], np.ndarray]
"""A map of int64 numbers `[B, ..., C]` in fixed point, beside a stack of bits."""


class ChannelMap(NamedTuple):
    """z = (x + bias)·weight, at each place of an image.

    Attributes:
        bias: `[C]`.
        weight: `[C, C]`, or `[C]` for a diagonal matrix of numbers above 0.
    """

    bias: np.ndarray
    weight: np.ndarray

    @property
    def is_diagonal(self) -> bool:
        return self.weight.ndim == 1

    def then(self, after: "ChannelMap") -> "ChannelMap":
        """This map, a diagonal one, and another after it: as one, it scales numbers once."""
        rows = self.weight if after.is_diagonal else self.weight[:, None]
        return ChannelMap(self.bias + after.bias / self.weight, rows * after.weight)


def forward_and_inverse(by: ChannelMap) -> tuple[Channels, Channels]:
    """The exact map and its inverse."""
    return _diagonal(by) if by.is_diagonal else _dense(by)


def _diagonal(by):
    exact = affine(by.weight, by.bias * by.weight)

    def forward(x, coder):
        return affine_forward(x, exact, coder)

    def inverse(z, coder):
        return affine_inverse(z, exact, coder)

    return forward, inverse


def _dense(by):
    """Lifting with the triangular factors of the matrix, and scales in between."""
    parts, bias = factors(by.weight), fixed(by.bias)
    scale = affine(np.abs(parts.scale), np.zeros_like(parts.scale))
    sign = np.sign(parts.scale).astype(np.int64)

    def forward(x, coder):
        x = in_range(x + bias)[..., parts.columns]
        x = in_range(_channels_last(lift, x, parts.upper))
        x = _channels_last(lift, affine_forward(x, scale, coder) * sign, parts.lower)
        return in_range(x)[..., np.argsort(parts.rows)]

    def inverse(z, coder):
        z = _channels_last(unlift, z[..., parts.rows], parts.lower)
        z = _channels_last(unlift, affine_inverse(z * sign, scale, coder), parts.upper)
        return z[..., np.argsort(parts.columns)] - bias

    return forward, inverse


def _channels_last(function, x, by):
    return function(x.reshape(-1, x.shape[-1]), by).reshape(x.shape)
