"""Elementwise maps by monotone rational-quadratic splines (Durkan et al. 2019)."""

from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import HIGHEST, promote
from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.bijections.scalar.linear_tails import positive
from glowjax.checks import POSITIVE, Interval, check_choice, check_in, check_integer
from glowjax.expression import recorded

EndSlopes = Literal["one", "learned", "circular"]


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
    closed form.

    Args:
        bins: at least 2.
        bound: where the spline ends, in units of x.
        min_bin: the least width and height of a bin, in units of x.
        min_slope: the least slope at an inner knot, below 1.
        end_slopes: `"learned"` learns the two outer slopes as it does the inner ones: raw holds
            3·bins + 1, and dz/dx jumps at ±bound, as it does in FlowJAX. `"circular"` learns one
            slope for both ends, 3·bins in all, and goes on periodically in place of the identity:
            f(x + 2·bound) = f(x) + 2·bound, a map of angles if bound is π.

    Raises:
        ValueError: an argument is not as above; `bins·min_bin` is not below 2·bound.

    Sources: Durkan et al. 2019, section 3.1; Rezende et al. 2020, section 2.1.2, for circular ones.

    Examples:
        >>> spline = glowjax.rational_quadratic(bins=4)
        >>> z, log_slope = spline.forward(jnp.zeros((5, 3)), jnp.zeros((5, 3, spline.size)))
        >>> spline.size, z.shape, log_slope.shape
        (11, (5, 3), (5, 3))
    """
    check_integer("bins", bins, 2)
    check_in(POSITIVE, bound=bound)
    check_in(Interval(0, 2 * bound / bins), min_bin=min_bin)  # below the mean of the bins
    check_in(Interval(0, 1), min_slope=min_slope)
    check_choice("end_slopes", end_slopes, ("one", "learned", "circular"))
    size = 3 * bins + {"one": -1, "learned": 1, "circular": 0}[end_slopes]

    def knots_of(raw):
        """Those of x and of z, and the slopes there."""
        widths, heights, slopes = jnp.split(raw, (bins, 2 * bins), axis=-1)
        return (
            _knots(widths, bound, min_bin),
            _knots(heights, bound, min_bin),
            _slopes(slopes, min_slope, end_slopes),
        )

    def apply(within, value, raw, *, along_z):
        chex.assert_axis_dimension(raw, -1, size)
        value, raw = promote(value), promote(raw)
        if end_slopes == "circular":
            turns = 2 * bound * jnp.round(value / (2 * bound))
            inside = jnp.isfinite(value)
        else:
            turns, inside = 0.0, jnp.abs(value) <= bound
        rest = jnp.where(inside, value - turns, 0.0)
        knots = knots_of(raw)
        k = jnp.sum(rest[..., None] >= knots[along_z][..., 1:-1], axis=-1, dtype=jnp.int32)
        result, log_slope = within(rest, _bin(knots, k))
        return jnp.where(inside, result + turns, value), jnp.where(inside, log_slope, 0.0)

    def forward(x, raw):
        return apply(_forward, x, raw, along_z=False)

    def inverse(z, raw):
        return apply(_inverse, z, raw, along_z=True)

    return Elementwise(size, forward, inverse, fixed_units=end_slopes == "circular")


class Bin(NamedTuple):
    """The bin of each number: where it begins, its sizes, and the slopes at its ends, `[...]`."""

    x: jax.Array
    z: jax.Array
    width: jax.Array
    height: jax.Array
    slope: jax.Array
    next_slope: jax.Array


def _knots(raw, bound, least):
    """`[..., bins + 1]`, from -bound to bound."""
    bins = raw.shape[-1]
    sizes = least + (2 * bound - bins * least) * jax.nn.softmax(raw, axis=-1)
    before = np.triu(np.ones((bins, bins)), 1).astype(raw.dtype)  # a product sums the fastest
    starts = jnp.matmul(sizes, before, precision=HIGHEST) - bound
    return jnp.concatenate([starts, jnp.full_like(starts[..., :1], bound)], axis=-1)


def _slopes(raw, least, end_slopes: EndSlopes):
    """At all knots, `[..., bins + 1]`; 1 where raw is 0."""
    slopes = positive(raw, least)
    if end_slopes == "learned":
        return slopes
    if end_slopes == "circular":
        return jnp.concatenate([slopes, slopes[..., :1]], axis=-1)
    one = jnp.ones_like(slopes[..., :1])
    return jnp.concatenate([one, slopes, one], axis=-1)


def _bin(knots, k) -> Bin:
    """The bin number `k: [...]`. Its sizes are differences, so that bins meet exactly."""
    k = k[..., None]
    at_k, at_next = (
        [jnp.take_along_axis(table, i, axis=-1)[..., 0] for table in knots] for i in (k, k + 1)
    )
    (x, z, slope), (next_x, next_z, next_slope) = at_k, at_next
    return Bin(x, z, next_x - x, next_z - z, slope, next_slope)


def _forward(x, b: Bin):
    """z and ln dz/dx within a bin."""
    return _at((x - b.x) / b.width, b)


def _inverse(z, b: Bin):
    """x and ln dx/dz within a bin: the root t of a quadratic, in the form without cancellation."""
    s, rise = b.height / b.width, z - b.z
    bend = rise * (b.slope + b.next_slope - 2 * s)
    square, linear = b.height * (s - b.slope) + bend, b.height * b.slope - bend
    constant = s * rise
    # Positive but for rounding; at 0 the gradient of a square root would be lost.
    root = jnp.sqrt(jnp.maximum(linear**2 + 4 * square * constant, jnp.finfo(z.dtype).tiny))
    rising = linear > 0  # else square is positive, and linear + root would be a small difference
    top = jnp.where(rising, 2 * constant, root - linear)
    t = top / jnp.where(rising, linear + root, 2 * square)
    t = jnp.where(t > 1, 1, t)  # by rounding, where slopes are steep beside s
    return b.x + t * b.width, -_at(t, b)[1]


def _at(t, b: Bin):
    """z and ln dz/dx at a share t of the width of a bin."""
    s, u = b.height / b.width, 1 - t
    bottom = s + (b.slope + b.next_slope - 2 * s) * t * u
    z = b.z + b.height * (s * t**2 + b.slope * t * u) / bottom
    top = b.next_slope * t**2 + 2 * s * t * u + b.slope * u**2
    return z, 2 * jnp.log(s) + jnp.log(top) - 2 * jnp.log(bottom)
