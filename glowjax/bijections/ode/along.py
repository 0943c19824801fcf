"""Paths of points along a velocity, with their log-determinants and costs.

Needs diffrax, `pip install 'glowjax[continuous]'`.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.extras import extra


def flow_along(
    velocity: Callable[[Float[Array, "D"], Float[Array, ""]], Float[Array, "D"]],
    x: Float[Array, "D"],
    probes: Float[Array, "P D"],
    start: float,
    stop: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 4096,
) -> tuple[Float[Array, "D"], Float[Array, ""]]:
    """Solves dx/dt = velocity(x, t), d log_det/dt = Σₚ vₚᵀ·(∂velocity/∂x)·vₚ for one example.

    By Tsit5 with steps chosen for this example alone. Gradients are those of the steps taken, in
    reverse mode and of first order (`diffrax.RecursiveCheckpointAdjoint`). The local error of a
    step is at most atol + rtol·|value|; tolerances below 16 roundings of the dtype are raised to
    that. More than `max_steps` give NaN.

    Args:
        x: `[D]` at `start`.
        probes: `[P, D]`, the rows vₚ: the identity gives the trace, and one random row with
            E[v·vᵀ] = I an unbiased estimate of it.
        start, stop: times, in either order.

    Returns:
        `(x, log_det)` at `stop`: `[D]` and `[]`, in nats; log_det starts at 0.

    Raises:
        ImportError: diffrax is missing.

    Source: Chen et al. 2018, theorem 1; Grathwohl et al. 2019, section 3.1.
    """
    chex.assert_shape(probes, (None, *x.shape))

    def rates(state, t):
        rate, push = jax.linearize(lambda x: velocity(x, t), state[0])
        return rate, jnp.sum(probes * jax.vmap(push)(probes))

    return _integrate(rates, (x, jnp.zeros((), x.dtype)), start, stop, rtol, atol, max_steps)


class Costs(NamedTuple):
    """What the path of an example costs, `[]` or `[B]`: what makes it hard to solve.

    Attributes:
        kinetic: ∫ ‖velocity‖² dt: short, straight paths of one speed have the least.
        frobenius: ∫ ‖∂velocity/∂x‖² dt, of the Frobenius norm, by probes as the log-det is.
    """

    kinetic: jax.Array
    frobenius: jax.Array


def flow_along_with_costs(
    velocity: Callable[[Float[Array, "D"], Float[Array, ""]], Float[Array, "D"]],
    x: Float[Array, "D"],
    probes: Float[Array, "P D"],
    start: float,
    stop: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 4096,
) -> tuple[Float[Array, "D"], Float[Array, ""], Costs]:
    """`flow_along` that also returns the `Costs` of the path.

    Source: Finlay et al. 2020, How to train your neural ODE, sections 3 and 4.
    """
    chex.assert_shape(probes, (None, *x.shape))
    sign = 1.0 if stop > start else -1.0  # costs grow in either direction of time

    def rates(state, t):
        rate, push = jax.linearize(lambda x: velocity(x, t), state[0])
        pushed = jax.vmap(push)(probes)
        costs = Costs(jnp.sum(jnp.square(rate)), jnp.sum(jnp.square(pushed)))
        return rate, jnp.sum(probes * pushed), jax.tree.map(lambda cost: sign * cost, costs)

    zero = jnp.zeros((), x.dtype)
    return _integrate(rates, (x, zero, Costs(zero, zero)), start, stop, rtol, atol, max_steps)


def _integrate(rates, state, start, stop, rtol, atol, max_steps):
    """The solution at `stop` of d state/dt = rates(state, t); NaN if it takes too many steps."""
    with extra("continuous", "a continuous flow"):
        import diffrax

    dtype = state[0].dtype
    finest = 16 * float(jnp.finfo(dtype).eps)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, state, _: rates(state, t)),
        diffrax.Tsit5(),
        t0=jnp.asarray(start, dtype),
        t1=jnp.asarray(stop, dtype),
        dt0=None,
        y0=state,
        stepsize_controller=diffrax.PIDController(rtol=max(rtol, finest), atol=max(atol, finest)),
        max_steps=max_steps,
        throw=False,
    )
    solved = solution.result == diffrax.RESULTS.successful
    return jax.tree.map(lambda y: jnp.where(solved, y[-1], jnp.nan), solution.ys)
