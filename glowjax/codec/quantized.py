"""Glow's nets in whole numbers, whose sums are exact in float32 and so the same on every machine.

Each product of a row of activations and a matrix is one of whole numbers: activations of 9 or 11
bits, which share an exponent (block floating point), and weights, which share one for each column.
No sum, in whatever order, leaves ±2²⁴, up to where float32 has each whole number. All else is a
power of two, or rounded once: so nothing depends on the machine, and float32 is about five times as
fast as float64 on CPUs.
"""

import functools
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from glowjax.arrays import HIGHEST
from glowjax.nets.conv import Taps, add_bias, patches, sum_of_taps
from glowjax.nets.convnet import ConvNet

EXACT = 24  # bits of float32
SEEN = 11  # bits of the numbers that a net sees, besides their sign
HIDDEN = 9  # of hidden activations: more of them would leave fewer for the weights
LEAST = -60  # exponents below are 0, far from where float32 ends
ROWS = 512  # of activations at a time: a CPU's caches hold them


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["matrix", "exponents"],
    meta_fields=["bits"],
)
@dataclass(frozen=True)
class WholeMatrix:
    """A matrix `[K, N]` as whole numbers times powers of two, for activations of `bits` bits.

    Attributes:
        matrix: whole numbers, float32.
        exponents: of the columns `[N]`, int32.
        bits: of the activations.
    """

    matrix: jax.Array
    exponents: jax.Array
    bits: int


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["first", "second", "bias", "last", "taps"],
    meta_fields=[],
)
@dataclass(frozen=True)
class QuantizedWeights:
    """`NetWeights` in whole numbers; `taps` has what is added after the last product."""

    first: WholeMatrix
    second: WholeMatrix
    bias: jax.Array
    last: WholeMatrix
    taps: Taps


class QuantizedConvNet(ConvNet):
    """A `ConvNet` in whole numbers, about as precise as one in bfloat16; see the module.

    It has the same parameters, and runs on what its `prepare` made of them alone: float64 in and
    out.
    """

    def __call__(self, x):
        weights: Any = self.get_variable("prepared", "weights")
        seen = _used(patches(jnp.asarray(x, jnp.float32), ring=self.ring), x.shape[-1] + self.ring)

        def products(row):
            h = jax.nn.relu(whole_matmul(row, weights.first))
            h = jax.nn.relu(whole_matmul(h, weights.second) + weights.bias)
            return whole_matmul(h, weights.last).astype(jnp.float64)

        some_at_a_time = functools.partial(lax.map, products, batch_size=ROWS)
        rows = seen.reshape(-1, seen.shape[-1])
        y = lax.platform_dependent(rows, cpu=some_at_a_time, default=jax.vmap(products))
        y = sum_of_taps(y.reshape(*x.shape[:3], -1), weights.taps.bias.shape[0])
        return add_bias(y, weights.taps)

    @nn.nowrap
    def prepare(self, params) -> dict[str, Any]:
        """The weights in whole numbers, see `ConvNet.prepare`."""
        weights: Any = super().prepare(params)["prepared"]["weights"]
        whole = QuantizedWeights(
            whole_matrix(_used(weights.first.T, weights.channels + self.ring).T, SEEN, signed=True),
            whole_matrix(weights.second, HIDDEN, signed=False),
            weights.bias.astype(jnp.float32),
            whole_matrix(weights.last.matrix, HIDDEN, signed=False),
            weights.last,
        )
        return {"prepared": {"weights": whole}}


def _used(columns, channels):
    """Columns of `patches` but the zeros: of each tap some channels, and then the ones."""
    taps = columns.reshape(*columns.shape[:-1], 9, -1)[..., : channels + 1]
    return taps.reshape(*columns.shape[:-1], -1)


def whole_matrix(weight: jax.Array, bits: int, *, signed: bool) -> WholeMatrix:
    """The nearest `WholeMatrix` with which no sum leaves ±2²⁴.

    Args:
        weight: `[K, N]`, float64.
        bits: of the activations.
        signed: whether these may be below 0; if not, weights above 0 and below do not add up.
    """
    above, below = (jnp.sum(jnp.maximum(sign * weight, 0), axis=0) for sign in (1, -1))
    largest = above + below if signed else jnp.maximum(above, below)
    # Rounding adds half a one for each weight at most.
    _, needed = jnp.frexp(largest / (2 ** (EXACT - bits) - len(weight) / 2))
    exponents = jnp.maximum(needed, LEAST)
    matrix = jnp.rint(jnp.ldexp(weight, -exponents))
    return WholeMatrix(matrix.astype(jnp.float32), exponents.astype(jnp.int32), bits)


def whole_matmul(x: jax.Array, by: WholeMatrix) -> jax.Array:
    """x·W of a row `[K]` in float32, rounded to whole numbers times a power of two."""
    exponent = jnp.maximum(_exponents(jnp.max(jnp.abs(x))), LEAST) - by.bits
    y = jnp.matmul(jnp.rint(x * _two_to(-exponent)), by.matrix, precision=HIGHEST)
    return y * _two_to(exponent + by.exponents)


def _exponents(x):
    """e of x in [2^(e-1), 2^e), of float32 from 0."""
    return (lax.bitcast_convert_type(x, jnp.int32) >> 23) - 126


def _two_to(exponents):
    """2^e in float32, exactly."""
    return lax.bitcast_convert_type((jnp.clip(exponents, -126, 127) + 127) << 23, jnp.float32)
