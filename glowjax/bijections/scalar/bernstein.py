"""Elementwise maps by increasing Bernstein polynomials (Ramasinghe et al. 2022)."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.arrays import HIGHEST
from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.bijections.scalar.linear_tails import linear_tails, positive
from glowjax.checks import POSITIVE, Interval, check_in, check_integer
from glowjax.expression import recorded

MAX_DEGREE = 64  # float32 holds the binomial coefficients up to degree 127


@recorded
def bernstein(degree: int = 16, *, bound: float = 5.0, min_slope: float = 1e-3) -> Elementwise:
    """A Bernstein polynomial of degree n on [-bound, bound], and its tangents beyond.

    With t = (x + bound)/(2·bound) and B_{k,n}(t) = (n choose k)·t^k·(1-t)^(n-k),

        z = Σ_{k=0}^{n} c_k·B_{k,n}(t),   c_{k+1} - c_k = d_k·2·bound/n
        dz/dx = Σ_{k=0}^{n-1} d_k·B_{k,n-1}(t)

    The B sum up to 1, so that each slope is a mean of the d_k, and d_0, d_{n-1} are those at the
    ends and beyond. raw holds, for each number, a shift, which is the mean of c_0 and c_n, and what
    a softplus turns into d_0 … d_{n-1}: n + 1 in all. At raw = 0 it is the identity. No sum for
    dz/dx has terms of both signs. The inverse is exact to rounding, by some sixty evaluations of
    the polynomial in float32, and 120 in float64.

    Args:
        degree: n, from 2 to 64. Its features are about bound/√n wide, or wider.
        bound: where the polynomial ends, in units of x. Data should lie within, as after `ActNorm`.
        min_slope: the least slope, below 1.

    Raises:
        ValueError: an argument is not as above.

    Source: Ramasinghe et al. 2022, "Robust normalizing flows using Bernstein-type polynomials",
    section 3, which has given ends in place of tangents.

    Examples:
        >>> transform = glowjax.bernstein(degree=8)
        >>> z, log_slope = transform.forward(jnp.ones((5, 3)), jnp.zeros((5, 3, transform.size)))
        >>> transform.size, z.shape, log_slope.shape
        (9, (5, 3), (5, 3))
    """
    check_integer("degree", degree, 2, MAX_DEGREE)
    check_in(POSITIVE, bound=bound)
    check_in(Interval(0, 1), min_slope=min_slope)
    steps = np.subtract.outer(np.arange(degree), np.arange(degree + 1))
    sides = np.where(steps < 0, 0.5, -0.5) * 2 * bound / degree  # of d_k in c, about their middle

    def curve_of(raw):
        shift, slopes = raw[..., 0], positive(raw[..., 1:], min_slope)
        values = jnp.matmul(slopes, sides.astype(raw.dtype), precision=HIGHEST)

        def curve(x):
            above, below = (bound + x) / (2 * bound), (bound - x) / (2 * bound)
            z = jnp.sum(values * _basis(above, below, degree), axis=-1)
            slope = jnp.sum(slopes * _basis(above, below, degree - 1), axis=-1)
            return shift + z, jnp.log(slope)

        return curve

    return linear_tails(degree + 1, bound, curve_of)


def _basis(t, u, degree):
    """B_{k,n} at t = 1 - u, for k = 0 … n: `[..., n + 1]`."""
    choices = np.array([math.comb(degree, k) for k in range(degree + 1)], t.dtype)
    return choices * _powers(t, degree) * _powers(u, degree)[..., ::-1]


def _powers(t, degree):
    return jnp.stack([lax.integer_pow(t, k) for k in range(degree + 1)], axis=-1)
