"""Sylvester flow: M planar steps at once, in orthonormal directions (van den Berg et al. 2018)."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST, AnyArray, promote, sum_event
from glowjax.bijections.planar import constrain, log_slope, tanh_root
from glowjax.checks import check_integer, require


def sylvester_forward(
    x: Float[AnyArray, "B D"],
    reflections: Float[AnyArray, "M D"],
    packed: Float[AnyArray, "M M+1"],
    bias: Float[AnyArray, "M"],
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """z = x + Q·R·tanh(R̃·Qᵀx + bias), R and R̃ upper triangular, Q with M orthonormal columns.

    Args:
        x: `[B, D]`.
        reflections: `[M, D]`, M <= D, none 0: Q is the first M columns of the product of the
            Householder reflections across them.
        packed: `[M, M + 1]`: R is the upper triangle of its last M columns, R̃ the transpose of the
            lower triangle of its first M. diag(R) is constrained, as `glowjax.Planar`'s u is, so
            that diag(R)·diag(R̃) > -1 and the map is invertible always.
        bias: `[M]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ ln(1 + tanh'(·)·diag(R)·diag(R̃)), in nats.
    """
    x, frame, outer, inner, slope, bias = _parameters(x, reflections, packed, bias)
    a = _matmul(_matmul(x, frame), inner.T) + bias
    z = x + _matmul(jnp.tanh(a), _matmul(frame, outer).T)
    return z, sum_event(log_slope(a, slope))


def sylvester_inverse(
    z: Float[AnyArray, "B D"],
    reflections: Float[AnyArray, "M D"],
    packed: Float[AnyArray, "M M+1"],
    bias: Float[AnyArray, "M"],
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """x = z - Q·R·tanh(a), where y = Qᵀx and a = R̃·y + bias solve y + R·tanh(a) = Qᵀz.

    From the last coordinate up, each has one root of one number to find. Returns `(x, log_det)`
    with arguments as `sylvester_forward`; exact to rounding.
    """
    z, frame, outer, inner, slope, bias = _parameters(z, reflections, packed, bias)
    v = _matmul(z, frame).T  # [M, B]: a scan over coordinates

    def coordinate(later, row):
        y, h = later  # of the coordinates that are solved; 0 for the others
        v, outer, inner, slope, bias, here = row
        v = v - _matmul(outer, h)
        a = tanh_root(_matmul(inner, here) * v + _matmul(inner, y) + bias, slope)
        h_here = jnp.tanh(a)
        y_here = v - _matmul(outer, here) * h_here
        return (y + here[:, None] * y_here, h + here[:, None] * h_here), a

    rows = v, outer, inner, slope, bias, jnp.eye(len(v), dtype=v.dtype)
    (_, h), a = lax.scan(coordinate, (jnp.zeros_like(v), jnp.zeros_like(v)), rows, reverse=True)
    return z - _matmul(h.T, _matmul(frame, outer).T), -sum_event(log_slope(a.T, slope))


def _parameters(x, reflections, packed, bias):
    """x, Q `[D, M]`, R, R̃, 1 + diag(R)·diag(R̃), and bias."""
    x, reflections, packed, bias = map(promote, (x, reflections, packed, bias))
    rank = len(reflections)
    chex.assert_shape([reflections, packed, bias], [(rank, x.shape[1]), (rank, rank + 1), (rank,)])
    outer, inner = packed[:, 1:], jnp.tril(packed[:, :-1]).T
    diagonal, slope = constrain(jnp.diag(outer)[:, None], jnp.diag(inner)[:, None])
    outer = jnp.triu(outer, 1) + jnp.diag(diagonal[:, 0])
    return x, _frame(reflections), outer, inner, slope, bias


def _frame(reflections):
    """The first M columns of the product of M Householder reflections -> `[D, M]`."""

    def reflect(frame, v):
        return frame - jnp.outer(2 / jnp.sum(jnp.square(v)) * v, _matmul(v, frame)), None

    first = jnp.eye(*reflections.shape, dtype=reflections.dtype).T
    return lax.scan(reflect, first, reflections, reverse=True)[0]


def _matmul(a, b):
    return jnp.matmul(a, b, precision=HIGHEST)


class Sylvester(nn.Module):
    """z = x + Q·R·tanh(R̃·Qᵀx + bias), all of it learned, for vectors `[B, D]`.

    See `sylvester_forward`.

    Attributes:
        rank: M, the number of directions in which the map is not the identity, at most D.

    Raises:
        ValueError: x is not `[B, D]`; `rank` is not a whole number in 1..D.

    Source: van den Berg et al. 2018, section 3 (Householder Sylvester flows).

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Sylvester(rank=2)), jnp.ones((4, 3))
        >>> params = jax.jit(flow.init)(jax.random.key(0), x)
        >>> {name: p.shape for name, p in sorted(params.items())}
        {'bias': (2,), 'packed': (2, 3), 'reflections': (2, 3)}
    """

    rank: int

    def forward(self, x) -> tuple[Array, Array]:
        return self._apply(sylvester_forward, x)

    def inverse(self, z) -> tuple[Array, Array]:
        return self._apply(sylvester_inverse, z)

    @nn.compact
    def _apply(self, apply, x):
        x = promote(x)
        require(x.ndim == 2, "x", x.shape, "of shape [B, D]")
        size = x.shape[1]
        check_integer("rank", self.rank, 1, size)
        normal = nn.initializers.normal(1.0)
        reflections = self.param("reflections", normal, (self.rank, size), x.dtype)
        packed = self.param("packed", _draw_packed, (self.rank, self.rank + 1), x.dtype)
        bias = self.param("bias", normal, (self.rank,), x.dtype)
        return apply(x, reflections, packed, bias)


def _draw_packed(key, shape, dtype):
    """Near the identity by R alone, which is small and not 0, so that all else has a gradient."""
    outer = jnp.triu(jnp.ones(shape, bool), 1)
    return jax.random.normal(key, shape, dtype) * jnp.where(outer, 0.01, shape[0] ** -0.5)
