"""Linear maps of channels: a matrix made ready for both ways, and the module that owns it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, per_example, positions, promote
from glowjax.bijections.linear.linalg import product
from glowjax.checks import require

Draw = Callable[[jax.Array, int, Any], jax.Array]


class LowRank(NamedTuple):
    """The matrix diag(d) + L·R, which is applied without being formed."""

    diagonal: Float[Array, "C"]
    left: Float[Array, "C K"]
    right: Float[Array, "K C"]

    @property
    def shape(self) -> tuple[int, int]:
        """That of the whole matrix."""
        return (len(self.diagonal), len(self.diagonal))


class Matrix(NamedTuple):
    """A matrix of C × C numbers, its inverse, and ln|det|: all that mixing both ways needs."""

    weight: Float[Array, "C C"] | LowRank
    inverse: Float[Array, "C C"] | LowRank
    log_abs_det: Float[Array, ""]


def mix(
    x: Float[AnyArray, "B *event C"], matrix: Matrix
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·W at every position (row vectors).

    Args:
        x: `[B, ..., C]`.
        matrix: of C × C numbers, invertible.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · ln|det W|, in nats.
    """
    z = _at_every_position(x, matrix.weight)
    return z, per_example(positions(x) * matrix.log_abs_det, x)


def unmix(
    z: Float[AnyArray, "B *event C"], matrix: Matrix
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·W⁻¹; returns `(x, log_det)` as `mix`."""
    x = _at_every_position(z, matrix.inverse)
    return x, per_example(-positions(z) * matrix.log_abs_det, z)


def _at_every_position(x, weight):
    """x·W as a product of two matrices: the gradients of other products copy their operands."""
    chex.assert_equal(weight.shape, (x.shape[-1], x.shape[-1]))
    rows = promote(x).reshape(-1, x.shape[-1])
    if isinstance(weight, LowRank):
        z = rows * weight.diagonal + product(product(rows, weight.left), weight.right)
    else:
        z = product(rows, weight)
    return z.reshape(x.shape)


class Mixing(nn.Module):
    """What modules of linear maps share: parameters become a `Matrix`, once for many inputs.

    A subclass has `draws`, which says how each parameter is drawn, from a key, the number of
    channels and a dtype; and `matrix`, a pure function of the parameters.
    """

    def forward(self, x) -> tuple[Array, Array]:
        return mix(x, self._matrix(x))

    def inverse(self, z) -> tuple[Array, Array]:
        return unmix(z, self._matrix(z))

    @nn.nowrap
    def draws(self) -> dict[str, Draw]:
        raise NotImplementedError

    @nn.nowrap
    def matrix(self, params: Any) -> Matrix:
        raise NotImplementedError

    @nn.nowrap
    def prepare(self, params) -> dict[str, Any]:
        return {"prepared": {"matrix": self.matrix(params)}}

    @nn.compact
    def _matrix(self, x):
        prepared = self.get_variable("prepared", "matrix")
        if prepared is not None:
            channels = prepared.weight.shape[-1]
            require(x.shape[-1] == channels, "x", x.shape, f"of {channels} channels, as params are")
            return prepared
        size, dtype = x.shape[-1], promote(x).dtype
        return self.matrix(
            {name: self.param(name, draw, size, dtype) for name, draw in self.draws().items()}
        )
