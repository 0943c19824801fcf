"""Maps of angles: a circular spline and a turn (Rezende et al. 2020)."""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.bijections.scalar.spline import rational_quadratic
from glowjax.checks import check_choice, require
from glowjax.expression import recorded

Space = Literal["circle", "line", "interval"]


def check_spaces(spaces: Sequence[Space]) -> None:
    """Raises `ValueError` unless `spaces` say of at least one column each where its numbers lie."""
    listed = isinstance(spaces, tuple | list) and len(spaces)
    require(listed, "spaces", spaces, "a tuple with the space of each column")
    for number, space in enumerate(spaces):
        check_choice(f"spaces[{number}]", space, ("circle", "line", "interval"))


def wrap(angle: Float[AnyArray, "*shape"]) -> Float[Array, "*shape"]:
    """The same angle within [-π, π], in radians, of `[...]`; one that is there already stays."""
    angle = promote(angle)
    return angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))


@recorded
def circular_spline(
    bins: int = 8, *, min_bin: float = 1e-3, min_slope: float = 1e-3
) -> Elementwise:
    """A map of the circle to itself, z = wrap(f(x) + turn), in radians.

    f is `rational_quadratic(bins, bound=π, end_slopes="circular")`: dz/dx is the same at π and -π.
    raw holds (turn) and f's 3·bins parameters. x may be any number, and counts as the angle
    that it is; z and the x of the inverse are within [-π, π]. At raw = 0 it is the identity there.

    Let nets see the cosine and the sine of such inputs: `MLP(angles=...)` and `MADE(angles=...)`.

    Args:
        bins, min_bin, min_slope: as for `rational_quadratic`.

    Raises:
        ValueError: as `rational_quadratic` does.

    Source: Rezende et al. 2020, Normalizing flows on tori and spheres.

    Examples:
        >>> spline = glowjax.circular_spline(bins=4)
        >>> z, log_slope = spline.forward(jnp.array([3.0]), jnp.zeros((1, 13)).at[0, 0].set(1.0))
        >>> (z + 2 * jnp.pi).round(4).tolist(), (jnp.abs(log_slope) < 1e-6).tolist()
        ([4.0], [True])
    """
    spline = rational_quadratic(
        bins, bound=math.pi, min_bin=min_bin, min_slope=min_slope, end_slopes="circular"
    )

    def forward(x: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        z, log_slope = spline.forward(wrap(x), raw[..., 1:])
        return wrap(z + raw[..., 0]), log_slope

    def inverse(z: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, log_slope = spline.inverse(wrap(promote(z) - raw[..., 0]), raw[..., 1:])
        return wrap(x), log_slope

    return Elementwise(1 + spline.size, forward, inverse, fixed_units=True)
