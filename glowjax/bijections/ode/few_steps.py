"""Paths of continuous flows in few steps of one size: quick samples, whose error is measured."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.checks import check_choice, check_floats, check_positive

Velocity = Callable[..., jax.Array]  # (params, x, t, context) -> [B, ...], as Continuous.velocity
Method = Literal["euler", "midpoint"]


def path_in_steps(
    velocity: Velocity,
    params: Any,
    z: Float[AnyArray, "B *event"],
    n: int,
    context: Any = None,
    *,
    method: Method = "euler",
) -> Float[Array, "{n}+1 B *event"]:
    """x(t - h) = x(t) - h·velocity(x(t), t), h = 1/n: from z at t = 1 to a sample at t = 0.

    The last of the path are samples. They are not the flow's own, whose density `log_prob` gives:
    they are off by an amount of order h (`"euler"`) or h² (`"midpoint"`), and by nothing where
    paths are straight and of one speed. `decode` gives the flow's own, to compare.

    Args:
        velocity: `(params, x, t, context) -> [B, ...]`, such as that of `Continuous`.
        params: of the velocity.
        z: `[B, ...]`, latents.
        n: how many steps, of one evaluation (`"euler"`) or two (`"midpoint"`).
        context: of each z.
        method: `"midpoint"` takes the velocity at t - h/2, of where Euler's half step leads.

    Returns:
        `[n + 1, B, ...]`: x at t = 1, 1 - h, …, 0, in the units of z.

    Raises:
        ValueError: an argument is not as above.

    Source: Liu et al. 2023, Flow straight and fast, section 2.

    Examples:
        >>> def velocity(params, x, t, context=None):
        ...     return x
        >>> path = glowjax.path_in_steps(velocity, {}, jnp.ones((1, 2)), 2)
        >>> path[:, 0, 0].tolist()
        [1.0, 0.5, 0.25]
    """
    check_floats("z", z)
    check_positive(n=n)
    check_choice("method", method, ("euler", "midpoint"))
    z = promote(z)

    def slope(x, t):
        return velocity(params, x, jnp.full(len(x), t, x.dtype), context)

    def step(x, k):
        t = 1 - k / n
        rate = slope(x, t)
        if method == "midpoint":
            rate = slope(x - rate / (2 * n), t - 1 / (2 * n))
        x = (x - rate / n).astype(x.dtype)
        return x, x

    return jnp.concatenate([z[None], jax.lax.scan(step, z, jnp.arange(n))[1]])


def straightness(path: Float[AnyArray, "T B *event"]) -> Float[Array, ""]:
    """S = mean over steps and examples of ‖dx/dt - (x(1) - x(0))‖²: 0 where paths are straight.

    Args:
        path: `[n + 1, B, ...]`, as of `path_in_steps`; many steps, so that dx/dt is known.

    Returns:
        A scalar, in squared units of x. Relative to the mean of ‖x(1) - x(0)‖² it has none.

    Raises:
        ValueError: the path has no step.

    Source: Liu et al. 2023, Flow straight and fast, section 2.2.
    """
    n = len(path) - 1
    check_positive(steps=n)
    rates = n * (path[:-1] - path[1:]) - (path[0] - path[-1])
    return jnp.sum(jnp.square(rates)) / (n * path.shape[1])
