"""Roots of increasing functions: exact to rounding, and differentiable."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def increasing_root(
    f: Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]],
    low: Float[Array, "*#shape"],
    high: Float[Array, "*#shape"],
) -> Float[Array, "*shape"]:
    """The x with f(x) = 0, element by element, for an increasing f; by bisection.

    Halves the bracket until its ends are neighbouring floats: exact to rounding wherever f itself
    is, with no tolerance to choose. Derivatives, of any order and with respect to all that f closes
    over, are those of the implicit function theorem, dx = -df / (∂f/∂x), at the root.

    Args:
        f: from `[...]` to the same shape, each value depending on its own x only.
        low, high: `[...]` floats with f(low) <= 0 <= f(high). A root outside gives the nearer end,
            and NaN in f gives NaN.

    Examples:
        >>> float(glowjax.increasing_root(lambda x: x**3 - 8, jnp.array(0.0), jnp.array(4.0)))
        2.0
    """
    low, high = jnp.broadcast_arrays(low, high)
    halvings = 2 * jnp.finfo(low.dtype).nmant + 16  # as many again as digits: roots close to 0

    def bisect(f, bracket):
        def halve(_, bracket):
            low, high = bracket
            middle = low + (high - low) / 2
            above = f(middle) > 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        low, high = lax.fori_loop(0, halvings, halve, bracket)
        x = low + (high - low) / 2
        return jnp.where(jnp.isnan(f(x)), jnp.nan, x)

    return lax.custom_root(
        f,
        lax.stop_gradient(low),
        lambda f, _: bisect(f, lax.stop_gradient((low, high))),
        lambda slope, y: y / slope(jnp.ones_like(y)),  # f is element by element, so is its slope
    )
