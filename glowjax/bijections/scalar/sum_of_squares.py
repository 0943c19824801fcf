"""Elementwise maps by integrals of squared polynomials (Jaini et al. 2019)."""

import functools

import jax.numpy as jnp
import numpy as np

from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.bijections.scalar.linear_tails import linear_tails
from glowjax.bijections.scalar.quadrature import integral_from_zero
from glowjax.checks import POSITIVE, Interval, check_in, check_integer
from glowjax.expression import recorded


@recorded
def sum_of_squares(degree: int = 4, *, bound: float = 5.0, min_slope: float = 1e-3) -> Elementwise:
    """The integral of two squared polynomials on [-bound, bound], and its tangents beyond.

        z = shift + ∫_0^x s(t/bound) dt,   s(u) = min_slope + p(u)² + q(u)²

    p has degree r and q has r - 1, so that z has degree 2r + 1. Two squares are enough: every
    polynomial of degree 2r that is nowhere negative is p² + q², with such p and q. The integral is
    that of Gauss–Legendre with r + 1 points, which is exact, and no term of it is negative.

    raw holds, for each number, the shift, the coefficients of p and those of q: 2r + 2 in all, as
    many as the polynomial z has. What is added to them are those of (i + u/√(2r))^r·const, whose
    real and imaginary parts have no common root: so at raw = 0 each parameter moves s in a
    direction of its own, and z is near the identity. The inverse is exact to rounding, by some
    sixty evaluations of the integral in float32, and 120 in float64.

    Args:
        degree: r, from 1 to 16.
        bound: where the polynomial ends, in units of x. Data should lie within, as after `ActNorm`.
        min_slope: the least slope, below 1.

    Raises:
        ValueError: an argument is not as above.

    Source: Jaini et al. 2019, "Sum-of-squares polynomial flow", section 3, whose polynomials go on
    in place of the tangents, and are sums of more squares.

    Examples:
        >>> transform = glowjax.sum_of_squares(degree=2)
        >>> z, log_slope = transform.forward(jnp.ones((5, 3)), jnp.zeros((5, 3, transform.size)))
        >>> transform.size, z.shape, log_slope.shape
        (6, (5, 3), (5, 3))
    """
    check_integer("degree", degree, 1, 16)
    check_in(POSITIVE, bound=bound)
    check_in(Interval(0, 1), min_slope=min_slope)
    start = _start(degree, 1 - min_slope)

    def curve_of(raw):
        shift, coefficients = raw[..., 0], raw[..., 1:] + start.astype(raw.dtype)
        polynomials = jnp.split(coefficients[..., None, :], [degree + 1], axis=-1)

        def slope(x):
            return min_slope + sum(jnp.square(_value(p, x / bound)) for p in polynomials)

        def curve(x):
            z = shift + integral_from_zero(slope, x, degree + 1)
            return z, jnp.log(slope(x[..., None])[..., 0])

        return curve

    return linear_tails(2 * degree + 2, bound, curve_of)


def _value(coefficients, u):
    """Of a polynomial with coefficients `[..., 1, degree + 1]`, at u `[..., N]`."""
    columns = [coefficients[..., k] for k in range(coefficients.shape[-1])]
    return functools.reduce(lambda value, column: value * u + column, reversed(columns))


def _start(degree: int, mean: float) -> np.ndarray:
    """The coefficients of p and q with p + i·q = const·(i + u/√(2r))^r, of a mean slope."""
    whole = np.polynomial.Polynomial([1j, (2 * degree) ** -0.5]) ** degree
    p, q = (np.polynomial.Polynomial(part) for part in (whole.coef.real, whole.coef.imag))
    integral = (p**2 + q**2).integ()
    scale = np.sqrt(mean * 2 / (integral(1) - integral(-1)))
    return scale * np.concatenate([p.coef, q.coef[:-1]])  # no power r of u has an imaginary part
