"""Elementwise maps by integrals of a positive net (Wehenkel & Louppe 2019)."""

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.bijections.scalar.linear_tails import linear_tails
from glowjax.bijections.scalar.quadrature import integral_from_zero
from glowjax.checks import POSITIVE, check_in, check_integer
from glowjax.expression import recorded

LARGEST = 7.0  # |log_scale|, and Σ|v|, which |g| never passes
START = 0.2  # Σ|v| at raw = 0, so that all parameters have a gradient there


@recorded
def unconstrained_monotonic(
    width: int = 8, *, bound: float = 5.0, steepness: float = 8.0, points: int = 32
) -> Elementwise:
    """The integral of exp of a net on [-bound, bound], and its tangents beyond.

        z = shift + exp(log_scale)·∫_0^x exp(g(t/bound)) dt
        g(u) = Σ_k v_k·tanh(w_k·(u - m_k)),   0 < w_k < steepness,   Σ|v_k| < 7

    The net g has one hidden layer of K units, and exp makes the integral increasing. log_slope is
    log_scale + g, exact. The integral is that of Gauss–Legendre with N points: with the ρ > 1 of
    ρ - 1/ρ = π/steepness, its integrand is analytic in the ellipse ρ round the path, and not above
    exp(Σ|v_k|) in size, since |tanh| ≤ 1 up to π/4 from the real axis. So, for N > 1,

        |error of z| ≤ 32/15·ρ^(-2N)/(1 - ρ^-2) · |x|·exp(log_scale + Σ|v_k|)

    of which the first factor is 2.5e-5 for 8 and 32, and 9e-11 for 64 points. Gentler nets have far
    less: w counts, not its bound.

    raw holds, for each number, shift and log_scale, then v, w and m, before they are bounded:
    3K + 2 in all. What is added to m is spread evenly in (-1, 1), and to v so little that the map
    is near the identity at raw = 0. log_scale is clipped to [-7, 7]. The inverse is exact to
    rounding, by some sixty integrals in float32, and 120 in float64.

    Args:
        width: K, of at least 1.
        bound: where the integral ends, in units of x. Data should lie within, as after `ActNorm`.
        steepness: the largest w. A step of ln dz/dx is about bound/steepness wide, or wider.
        points: N, of at least 2. One z takes N·K evaluations of tanh.

    Raises:
        ValueError: an argument is not as above.

    Source: Wehenkel & Louppe 2019, "Unconstrained monotonic neural networks", section 3, whose
    deeper nets are integrated by Clenshaw–Curtis, and go on in place of the tangents.

    Examples:
        >>> transform = glowjax.unconstrained_monotonic(width=4)
        >>> z, log_slope = transform.forward(jnp.ones((5, 3)), jnp.zeros((5, 3, transform.size)))
        >>> transform.size, z.shape, log_slope.shape
        (14, (5, 3), (5, 3))
    """
    check_integer("width", width, 1)
    check_integer("points", points, 2)
    check_in(POSITIVE, bound=bound, steepness=steepness)
    spread = (2 * np.arange(width) + 1) / width - 1
    start = START / width * (-1.0) ** np.arange(width)

    def curve_of(raw):
        shift, log_scale = raw[..., 0], jnp.clip(raw[..., 1], -LARGEST, LARGEST)
        size, slope, middle = jnp.split(raw[..., None, 2:], 3, axis=-1)
        size = size + start.astype(raw.dtype)
        size = size / (1 + jnp.sum(jnp.abs(size), axis=-1, keepdims=True) / LARGEST)
        slope = steepness * jax.nn.sigmoid(slope)
        middle = middle + spread.astype(raw.dtype)

        def net(x):
            return jnp.sum(size * jnp.tanh(slope * (x[..., None] / bound - middle)), axis=-1)

        def curve(x):
            integral = integral_from_zero(lambda t: jnp.exp(net(t)), x, points)
            return shift + jnp.exp(log_scale) * integral, log_scale + net(x[..., None])[..., 0]

        return curve

    return linear_tails(3 * width + 2, bound, curve_of)
