"""Householder reflections: orthogonal maps of few parameters (Tomczak & Welling 2016)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, draw_flat, promote
from glowjax.bijections.linear.linalg import lu_inverse, product
from glowjax.bijections.linear.matrix import Draw, LowRank, Matrix, Mixing, mix, unmix
from glowjax.checks import check_positive


def householder_forward(
    x: Float[AnyArray, "B *event C"], reflections: Float[AnyArray, "K C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·H_1·…·H_K at every position, where H_k = I - 2·v_k·v_kᵀ / ‖v_k‖².

    The K reflections are applied together, as I - Vᵀ·T·V with a triangular T `[K, K]`, in two
    products of 2·C·K operations a position.

    Args:
        x: `[B, ..., C]`.
        reflections: v, `[K, C]`, none of them 0; their lengths do not matter.

    Returns:
        `(z, log_det)`: log_det `[B]` = 0.

    Sources: Tomczak & Welling 2016, Improving variational auto-encoders using Householder flow;
    Joffrain et al. 2006, Accumulating Householder transformations, revisited, for T.
    """
    return mix(x, householder_product(reflections))


def householder_inverse(
    z: Float[AnyArray, "B *event C"], reflections: Float[AnyArray, "K C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·H_K·…·H_1 at every position; returns `(x, log_det)` as `householder_forward`."""
    return unmix(z, householder_product(reflections))


def householder_product(reflections: Float[AnyArray, "K C"]) -> Matrix:
    """The `Matrix` of the product of all reflections, whose inverse is its transpose."""
    left, right = reflection_factors(reflections)
    one, zero = jnp.ones(right.shape[1:], right.dtype), jnp.zeros((), right.dtype)
    return Matrix(LowRank(one, left, right), LowRank(one, right.T, left.T), zero)


def reflection_factors(
    reflections: Float[AnyArray, "K C"],
) -> tuple[Float[Array, "C K"], Float[Array, "K C"]]:
    """L and R of H_1·…·H_K = I + L·R: with rows v_k of norm 1 they are -Vᵀ·T and V.

    T is the inverse of the triangle of V·Vᵀ, with ½ on its diagonal.
    """
    reflections = promote(reflections)
    v = reflections / jnp.linalg.norm(reflections, axis=1, keepdims=True)
    identity = jnp.eye(len(v), dtype=v.dtype)
    t = lu_inverse(identity, jnp.triu(product(v, v.T), 1) + identity / 2)
    return -product(v.T, t), v


class Householder(Mixing):
    """`householder_forward` with learned reflections, which start at random.

    With few of them it mixes all channels for the price of few products; C of them reach every
    orthogonal matrix that has their determinant, (-1)^reflections.

    Attributes:
        reflections: K, how many.

    Raises:
        ValueError: `reflections` < 1; x is not of as many channels as at initialisation.

    Source: Tomczak & Welling 2016, Improving variational auto-encoders using Householder flow.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Householder(reflections=2)), jnp.ones((4, 3))
        >>> params = flow.init(jax.random.key(0), x)
        >>> z, log_det = flow.forward(params, x)
        >>> params["reflections"].shape, z.shape, log_det.tolist()
        ((2, 3), (4, 3), [0.0, 0.0, 0.0, 0.0])
    """

    reflections: int

    @nn.nowrap
    def draws(self) -> dict[str, Draw]:
        check_positive(reflections=self.reflections)
        return {"reflections": self._draw}

    @nn.nowrap
    def matrix(self, params: Any) -> Matrix:
        return householder_product(params["reflections"])

    @nn.nowrap
    def _draw(self, key, channels, dtype):
        return draw_flat(jax.random.normal, key, (self.reflections, channels), dtype)
