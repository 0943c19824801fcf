"""Radial flow: expands or contracts around a point (Rezende & Mohamed 2015, section 4.1)."""

from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.bijections.amortized import Scalar, Vector, amortized
from glowjax.checks import require


def radial_forward(
    x: Float[AnyArray, "B D"], centre: Vector, raw_alpha: Scalar, raw_beta: Scalar
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """z = x + β/(α + r)·(x - centre), r = ‖x - centre‖.

    α = softplus(raw_alpha) and β = -α + softplus(raw_beta) > -α, so invertible always. With
    γ = α + β, z - centre = (γ + r)/(α + r)·(x - centre).

    Args:
        x: `[B, D]`.
        centre: `[D]`, or `[B, D]`: its own for each example.
        raw_alpha, raw_beta: `[]` or `[B]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = (D - 1)·ln((γ + r)/(α + r)) + ln((r² + 2αr + αγ)/(α + r)²),
        in nats. At the centre, where it has a cusp, its gradient is taken as 0.
    """
    x, centre, alpha, gamma = _parameters(x, centre, raw_alpha, raw_beta)
    offset = x - centre
    r = _length(offset)
    z = centre + offset * ((gamma + r) / (alpha + r))[:, None]
    return z, _log_det(r, alpha, gamma, x.shape[1])


def radial_inverse(
    z: Float[AnyArray, "B D"], centre: Vector, raw_alpha: Scalar, raw_beta: Scalar
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """x = centre + (α + r)/(γ + r)·(z - centre), with r > 0 from r² + (γ - ρ)·r = αρ.

    There ρ = ‖z - centre‖. Returns `(x, log_det)` with arguments as `radial_forward`.
    """
    z, centre, alpha, gamma = _parameters(z, centre, raw_alpha, raw_beta)
    offset = z - centre
    rho = _length(offset)
    excess = rho - gamma
    size = jnp.where(excess > 0, excess, -excess)  # abs has no gradient at 0
    q = (size + jnp.sqrt(jnp.square(size) + 4 * alpha * rho)) / 2
    r = jnp.where(excess > 0, q, alpha * rho / q)  # of the two forms, that without a difference
    x = centre + offset * ((alpha + r) / (gamma + r))[:, None]
    return x, -_log_det(r, alpha, gamma, z.shape[1])


def _parameters(x, centre, raw_alpha, raw_beta):
    batch, size = x.shape
    chex.assert_shape(centre, (batch, size) if jnp.ndim(centre) == 2 else (size,))
    for raw in (raw_alpha, raw_beta):
        chex.assert_shape(raw, (batch,) if jnp.ndim(raw) else ())
    alpha, gamma = jax.nn.softplus(promote(raw_alpha)), jax.nn.softplus(promote(raw_beta))
    return promote(x), promote(centre), alpha, gamma


def _length(offset):
    """‖offset‖ of `[B, D]`, with gradient 0 at 0."""
    square = jnp.sum(jnp.square(offset), axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _log_det(r, alpha, gamma, size):
    log_far = jnp.log(alpha + r)
    along = jnp.log(r * (r + 2 * alpha) + alpha * gamma) - 2 * log_far
    return (size - 1) * (jnp.log(gamma + r) - log_far) + along


class Radial(nn.Module):
    """`radial_forward` with learned centre, raw_alpha and raw_beta, for vectors `[B, D]`.

    Attributes:
        net: makes a Linen module from the number `features` = D + 2; what it gives for `context`,
            one row an example, is added to (centre, raw_alpha, raw_beta). None: the flow
            takes no context.

    Raises:
        ValueError: x is not `[B, D]`; there is a net, and no context of as many rows.

    Source: Rezende & Mohamed 2015, section 4.1 and appendix A.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Radial()), jnp.ones((4, 3))
        >>> params = flow.init(jax.random.key(0), x)
        >>> {name: p.shape for name, p in sorted(params.items())}
        {'centre': (3,), 'raw_alpha': (), 'raw_beta': ()}
    """

    net: Callable[..., nn.Module] | None = None

    @property
    def takes_context(self) -> bool:
        return self.net is not None

    def forward(self, x, context=None) -> tuple[Array, Array]:
        return self._apply(radial_forward, x, context)

    def inverse(self, z, context=None) -> tuple[Array, Array]:
        return self._apply(radial_inverse, z, context)

    @nn.compact
    def _apply(self, apply, x, context):
        x = promote(x)
        require(x.ndim == 2, "x", x.shape, "of shape [B, D]")
        normal = nn.initializers.normal
        # Near the identity, β = 0, but not on it, where the centre would have no gradient; centres
        # lie among data of unit variance.
        centre = self.param("centre", normal(1.0), x.shape[1:], x.dtype)
        raw_alpha = self.param("raw_alpha", nn.initializers.zeros, (), x.dtype)
        raw_beta = self.param("raw_beta", normal(0.01), (), x.dtype)
        return apply(x, *amortized(self.net, (centre, raw_alpha, raw_beta), x, context))
