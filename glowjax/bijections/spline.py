"""Elementwise maps by monotone rational-quadratic splines (Durkan et al. 2019)."""

from typing import Literal

import chex
import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.bijections.elementwise import Elementwise
from glowjax.checks import POSITIVE, Interval, check_choice, check_in, check_integer
from glowjax.expression import recorded

EndSlopes = Literal["one", "learned"]


@recorded
def rational_quadratic(
    bins: int = 8,
    *,
    bound: float = 5.0,
    min_bin: float = 1e-3,
    min_slope: float = 1e-3,
    end_slopes: EndSlopes = "one",
) -> Elementwise:
    """A monotone spline on [-bound, bound], from there to itself; the identity outside.

    In the bin of x, from knot (x_k, y_k) of slope d_k to the next, with
    t = (x - x_k)/(x_{k+1} - x_k) and s = (y_{k+1} - y_k)/(x_{k+1} - x_k),

        z = y_k + (y_{k+1} - y_k)·(s·t² + d_k·t(1-t)) / (s + (d_k + d_{k+1} - 2s)·t(1-t))
        dz/dx = s²·(d_{k+1}·t² + 2s·t(1-t) + d_k·(1-t)²) / (s + (d_k + d_{k+1} - 2s)·t(1-t))²

    raw holds, for each number, what a softmax turns into the bins' widths, the same for their
    heights, and what a softplus turns into slopes at the inner knots, 3·bins - 1 in all; the outer
    slopes are 1, so that dz/dx is continuous. At raw = 0 it is the identity. The inverse is in
    closed form. Computed by `distrax.RationalQuadraticSpline`.

    Args:
        bins: at least 2.
        bound: where the spline ends, in units of x.
        min_bin: the least width and height of a bin, in units of x.
        min_slope: the least slope at an inner knot, below 1.
        end_slopes: `"learned"` learns the two outer slopes as it does the inner ones: raw holds
            3·bins + 1, and dz/dx jumps at ±bound, as it does in FlowJAX.

    Raises:
        ValueError: an argument is not as above; `bins·min_bin` is not below 2·bound.

    Source: Durkan et al. 2019, section 3.1.

    Examples:
        >>> spline = glowjax.rational_quadratic(bins=4)
        >>> z, log_slope = spline.forward(jnp.zeros((5, 3)), jnp.zeros((5, 3, spline.size)))
        >>> spline.size, z.shape, log_slope.shape
        (11, (5, 3), (5, 3))
    """
    import distrax  # slow to import

    check_integer("bins", bins, 2)
    check_in(POSITIVE, bound=bound)
    check_in(Interval(0, 2 * bound / bins), min_bin=min_bin)  # below the mean of the bins
    check_in(Interval(0, 1), min_slope=min_slope)
    check_choice("end_slopes", end_slopes, ("one", "learned"))
    learned = end_slopes == "learned"
    size = 3 * bins + 1 if learned else 3 * bins - 1

    def spline(raw):
        chex.assert_axis_dimension(raw, -1, size)
        raw = promote(raw)
        if not learned:
            end = jnp.zeros_like(raw[..., :1])  # an outer slope, which "identity" puts at 1
            raw = jnp.concatenate([raw[..., : 2 * bins], end, raw[..., 2 * bins :], end], axis=-1)
        ends = "unconstrained" if learned else "identity"
        return distrax.RationalQuadraticSpline(raw, -bound, bound, ends, min_bin, min_slope)

    def identity_outside(x, result):
        """distrax goes on in a straight line with an outer slope, if that is not 1."""
        if not learned:
            return result
        (y, log_slope), inside = result, jnp.abs(x) <= bound
        return jnp.where(inside, y, x), jnp.where(inside, log_slope, 0)

    def off_knots(x, knots):
        """Moves an x on a knot, where a clip within distrax halves gradients, by one rounding."""
        x = promote(x)
        step = bound * jnp.finfo(x.dtype).eps
        return jnp.where(jnp.any(x[..., None] == knots, axis=-1), x + step, x)

    def forward(x, raw):
        f = spline(raw)
        return identity_outside(x, f.forward_and_log_det(off_knots(x, f.x_pos)))

    def inverse(z, raw):
        f = spline(raw)
        return identity_outside(z, f.inverse_and_log_det(off_knots(z, f.y_pos)))

    return Elementwise(size, forward, inverse)
