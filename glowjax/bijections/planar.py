"""Planar flow: a step of tanh across a hyperplane (Rezende & Mohamed 2015, section 4.1)."""

from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.bijections.amortized import Scalar, Vector, amortized
from glowjax.bijections.roots import increasing_root
from glowjax.checks import require


def planar_forward(
    x: Float[AnyArray, "B D"], u: Vector, w: Vector, b: Scalar
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """z = x + û·tanh(wᵀx + b), where û is u with wᵀû > -1 (`constrain`), so invertible always.

    Args:
        x: `[B, D]`.
        u, w: `[D]`, or `[B, D]`: their own for each example.
        b: `[]` or `[B]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = ln(1 + tanh'(wᵀx + b)·wᵀû), in nats.
    """
    x, u, w, b = _parameters(x, u, w, b)
    u, slope = constrain(u, w)
    a = jnp.sum(w * x, axis=-1) + b
    return x + u * jnp.tanh(a)[:, None], log_slope(a, slope)


def planar_inverse(
    z: Float[AnyArray, "B D"], u: Vector, w: Vector, b: Scalar
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """x = z - û·tanh(a), where a = wᵀx + b is the root of a + wᵀû·tanh(a) = wᵀz + b.

    Returns `(x, log_det)` with arguments as `planar_forward`; exact to rounding.
    """
    z, u, w, b = _parameters(z, u, w, b)
    u, slope = constrain(u, w)
    a = tanh_root(jnp.sum(w * z, axis=-1) + b, slope)
    return z - u * jnp.tanh(a)[:, None], -log_slope(a, slope)


def _parameters(x, u, w, b):
    batch, size = x.shape
    for vector in (u, w):
        chex.assert_shape(vector, (batch, size) if jnp.ndim(vector) == 2 else (size,))
    chex.assert_shape(b, (batch,) if jnp.ndim(b) else ())
    return promote(x), promote(u), promote(w), promote(b)


def constrain(
    u: Float[Array, "*#B D"], w: Float[Array, "*#B D"]
) -> tuple[Float[Array, "*B D"], Float[Array, "*B"]]:
    """`(û, 1 + wᵀû)` of `[..., D]`, the latter > 0: û = u + (m(wᵀu) - wᵀu)·w/‖w‖².

    m(a) is a for a > 0, and a/(1 - a) > -1 else. The paper's -1 + softplus(a) is not 0 at 0: there
    û grows as 1/‖w‖ with w to 0, and u = 0 is not the identity map. Here û goes to u. Nor does
    1 + m(a) ever round to 0.
    """

    def dot(a, b):
        return jnp.sum(a * b, axis=-1, keepdims=True)

    square, product = dot(w, w), dot(w, u)
    along = w / jnp.where(square > jnp.finfo(square.dtype).tiny, square, 1)
    across = u - product * along
    across = across - dot(w, across) * along  # again: rounding leaves some of a large u
    shrink = jnp.where(product > 0, 1, 1 - product)
    slope = jnp.where(product > 0, 1 + product, 1 / shrink)
    return across + product / shrink * along, slope[..., 0]


def tanh_root(s: Float[Array, "*#B"], slope: Float[Array, "*#B"]) -> Float[Array, "*B"]:
    """The a with a + (slope - 1)·tanh(a) = s, element by element, for slope > 0."""

    def excess(a):
        h = jnp.tanh(a)
        return (a - h) + slope * h - s  # its derivative is > 0 in rounding too

    reach = jnp.abs(slope - 1)
    return increasing_root(excess, s - reach, s + reach)


def log_slope(a: Float[Array, "*#B"], slope: Float[Array, "*#B"]) -> Float[Array, "*B"]:
    """ln of the derivative of `tanh_root`'s left side, 1 + (slope - 1)·tanh'(a), as a sum > 0."""
    return jnp.log(jnp.square(jnp.tanh(a)) + slope * tanh_slope(a))


def tanh_slope(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """tanh'(a), which is 1 - tanh(a)² without its cancellation."""
    return 4 * jax.nn.sigmoid(2 * a) * jax.nn.sigmoid(-2 * a)


class Planar(nn.Module):
    """`planar_forward` with learned u, w and b, for vectors `[B, D]`.

    Attributes:
        net: makes a Linen module from the number `features` = 2D + 1; what it gives for `context`,
            one row an example, is added to (u, w, b). None: the flow takes no context.

    Raises:
        ValueError: x is not `[B, D]`; there is a net, and no context of as many rows.

    Source: Rezende & Mohamed 2015, section 4.1 and appendix A.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Planar()), jnp.ones((4, 3))
        >>> params = jax.jit(flow.init)(jax.random.key(0), x)
        >>> {name: p.shape for name, p in sorted(params.items())}
        {'b': (), 'u': (3,), 'w': (3,)}
        >>> z, log_det = flow.forward(params, x)
        >>> bool(jnp.allclose(flow.inverse(params, z)[0], x, atol=1e-5)), log_det.shape
        (True, (4,))
    """

    net: Callable[..., nn.Module] | None = None

    @property
    def takes_context(self) -> bool:
        return self.net is not None

    def forward(self, x, context=None) -> tuple[Array, Array]:
        return self._apply(planar_forward, x, context)

    def inverse(self, z, context=None) -> tuple[Array, Array]:
        return self._apply(planar_inverse, z, context)

    @nn.compact
    def _apply(self, apply, x, context):
        x = promote(x)
        require(x.ndim == 2, "x", x.shape, "of shape [B, D]")
        size, normal = x.shape[1], nn.initializers.normal
        # Near the identity by u alone: w and b set hyperplanes through data of unit variance, so
        # that u has gradients of order 1; as u is not 0, w and b have some too.
        u = self.param("u", normal(0.01), (size,), x.dtype)
        w = self.param("w", normal(size**-0.5), (size,), x.dtype)
        b = self.param("b", normal(1.0), (), x.dtype)
        return apply(x, *amortized(self.net, (u, w, b), x, context))
