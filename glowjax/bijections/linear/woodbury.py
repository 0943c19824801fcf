"""A diagonal plus a matrix of low rank: linear maps of many numbers (Lu & Huang 2020)."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, draw_flat, promote
from glowjax.bijections.linear.linalg import inverse_and_log_abs_det, product
from glowjax.bijections.linear.matrix import Draw, LowRank, Matrix, Mixing, mix, unmix
from glowjax.checks import check_positive


def woodbury_forward(
    x: Float[AnyArray, "B *event C"],
    log_diagonal: Float[AnyArray, "C"],
    left: Float[AnyArray, "C K"],
    right: Float[AnyArray, "K C"],
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·(D + L·R) at every position, with D = diag(exp(log_diagonal)).

    The matrix is never formed: a position costs 4·C·K operations. Its determinant and its inverse
    need a matrix of K × K alone, by the matrix determinant lemma and Woodbury's identity:

        ln|det(D + L·R)| = Σ log_diagonal + ln|det(I + R·D⁻¹·L)|
        (D + L·R)⁻¹ = D⁻¹ - D⁻¹·L·(I + R·D⁻¹·L)⁻¹·R·D⁻¹

    Args:
        x: `[B, ..., C]`.
        log_diagonal: `[C]`.
        left, right: L `[C, K]` and R `[K, C]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · ln|det(D + L·R)|, in nats; NaN or infinite where
        that matrix has no inverse.

    Source: Lu & Huang 2020, Woodbury transformations for deep generative flows; there D is the
    identity.
    """
    return mix(x, diagonal_plus_low_rank(log_diagonal, left, right))


def woodbury_inverse(
    z: Float[AnyArray, "B *event C"],
    log_diagonal: Float[AnyArray, "C"],
    left: Float[AnyArray, "C K"],
    right: Float[AnyArray, "K C"],
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·(D + L·R)⁻¹ at every position; returns `(x, log_det)` as `woodbury_forward`."""
    return unmix(z, diagonal_plus_low_rank(log_diagonal, left, right))


def diagonal_plus_low_rank(
    log_diagonal: Float[AnyArray, "C"],
    left: Float[AnyArray, "C K"],
    right: Float[AnyArray, "K C"],
) -> Matrix:
    """The `Matrix` D + L·R of `woodbury_forward`."""
    log_diagonal, left, right = promote(log_diagonal), promote(left), promote(right)
    diagonal, reciprocal = jnp.exp(log_diagonal), jnp.exp(-log_diagonal)
    scaled = reciprocal[:, None] * left
    core = jnp.eye(len(right), dtype=left.dtype) + product(right, scaled)
    inverse, log_abs_det = inverse_and_log_abs_det(core)
    back = LowRank(reciprocal, -product(scaled, inverse), right * reciprocal)
    return Matrix(LowRank(diagonal, left, right), back, jnp.sum(log_diagonal) + log_abs_det)


class Woodbury(Mixing):
    """`woodbury_forward` with learned parameters, which start near the identity.

    Attributes:
        rank: K. Each rank adds 2·C parameters to the C of the diagonal.

    Raises:
        ValueError: `rank` < 1; x is not of as many channels as at initialisation.

    Source: Lu & Huang 2020, Woodbury transformations for deep generative flows.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Woodbury(rank=2)), jnp.ones((4, 5))
        >>> params = flow.init(jax.random.key(0), x)
        >>> {name: p.shape for name, p in sorted(params.items())}
        {'left': (5, 2), 'log_diagonal': (5,), 'right': (2, 5)}
    """

    rank: int

    @nn.nowrap
    def draws(self) -> dict[str, Draw]:
        check_positive(rank=self.rank)
        return {"log_diagonal": _zeros, "left": self._left, "right": self._right}

    @nn.nowrap
    def matrix(self, params: Any) -> Matrix:
        return diagonal_plus_low_rank(params["log_diagonal"], params["left"], params["right"])

    @nn.nowrap
    def _left(self, key, channels, dtype):
        normal = draw_flat(jax.random.normal, key, (channels, self.rank), dtype)
        return normal / math.sqrt(channels)

    @nn.nowrap
    def _right(self, key, channels, dtype):
        return 0.1 * self._left(key, channels, dtype).T


def _zeros(key, channels, dtype):
    return jnp.zeros(channels, dtype)
