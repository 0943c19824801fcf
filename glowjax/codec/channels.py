"""Linear maps of channels as exact bijections of integers: ActNorms and 1×1 convolutions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.codec.affine import Affine, affine, affine_forward, affine_inverse
from glowjax.codec.fixed_point import fixed, in_range
from glowjax.codec.lanes import Stack
from glowjax.codec.lifting import Factors, factors, lift, unlift
from glowjax.codec.modular_scale import Ratio, ratio, scale_forward, scale_inverse


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
        with np.errstate(over="ignore", invalid="ignore"):  # `factors` refuses what is not finite
            return ChannelMap(self.bias + after.bias / self.weight, rows * after.weight)


class Diagonal(NamedTuple):
    """The exact form of a diagonal map."""

    by: Affine

    def forward(self, x: jax.Array, stack: Stack) -> tuple[jax.Array, Stack]:
        """z of int64 numbers `[B, ..., C]` in fixed point, beside a stack of bits."""
        return affine_forward(x, _over(x, self.by), stack)

    def inverse(self, z: jax.Array, stack: Stack) -> tuple[jax.Array, Stack]:
        """The inverse of `forward`."""
        return affine_inverse(z, _over(z, self.by), stack)


class Dense(NamedTuple):
    """The exact form of a matrix: lifting by its triangular factors, and scales in between."""

    bias: jax.Array
    parts: Factors
    scale: Ratio
    sign: jax.Array

    def forward(self, x: jax.Array, stack: Stack) -> tuple[jax.Array, Stack]:
        """z of int64 numbers `[B, ..., C]` in fixed point, beside a stack of bits."""
        y, by, stack = _upper(self, x, stack)
        return _lower(self, *scale_forward(y, by, stack), x.shape)

    def inverse(self, z: jax.Array, stack: Stack) -> tuple[jax.Array, Stack]:
        """The inverse of `forward`."""
        x, stack = scale_inverse(*_lower_inverse(self, z), stack)
        return _upper_inverse(self, x, z.shape), stack


def _upper(self, x, stack):
    """The part before the scales, and these; both `[B, N]`, as other maps have them."""
    x += self.bias
    stack = in_range(x, stack)
    x = lift(x[..., self.parts.columns], self.parts.upper)
    stack = in_range(x, stack)
    return x.reshape(len(x), -1), _flat(x, self.scale), stack


def _lower(self, z, stack, shape):
    z = lift(z.reshape(shape) * self.sign, self.parts.lower)
    return z[..., jnp.argsort(self.parts.rows)], in_range(z, stack)


def _lower_inverse(self, z):
    z = unlift(z[..., self.parts.rows], self.parts.lower) * self.sign
    return z.reshape(len(z), -1), _flat(z, self.scale)


def _upper_inverse(self, x, shape):
    x = unlift(x.reshape(shape), self.parts.upper)
    return x[..., jnp.argsort(self.parts.columns)] - self.bias


def exact(by: ChannelMap) -> Diagonal | Dense:
    """The map as an exact bijection of integers."""
    weight, bias = jnp.asarray(by.weight), jnp.asarray(by.bias)
    if by.is_diagonal:
        return Diagonal(affine(weight, bias * weight))
    parts = factors(by.weight)
    scale = jnp.asarray(parts.scale)
    sign = jnp.sign(scale).astype(jnp.int64)
    return Dense(fixed(bias), jax.tree.map(jnp.asarray, parts), ratio(jnp.abs(scale)), sign)


def _over(x, by):
    return jax.tree.map(lambda part: jnp.broadcast_to(part, x.shape), by)


def _flat(x, by):
    return jax.tree.map(lambda part: part.reshape(len(x), -1), _over(x, by))
