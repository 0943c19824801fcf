"""The move of annealing: Hamiltonian Monte Carlo, whose momentum may be kept in part.

Needs blackjax, `pip install 'glowjax[blackjax]'`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from glowjax.extras import extra


def hamiltonian_move(
    key: jax.Array,
    x: Shaped[Array, "*event"],
    momentum: Shaped[Array, "*event"],
    log_p: Callable[[Any], Float[Array, ""]],
    step_size: Float[Array, ""],
    *,
    leapfrog_steps: int,
    persistence: float,
) -> tuple[Shaped[Array, "*event"], Shaped[Array, "*event"], Float[Array, ""]]:
    """One step of a sample, which leaves p(x)·N(v; 0, I) as it is.

    The momentum becomes α·v + √(1 - α²)·ε, α = persistence and ε ~ N(0, I). Then leapfrog steps
    lead to (x', v'), which are accepted by probability min(1, ratio of the joint densities). If
    they are refused, x stays, and v turns round: without that, what follows would be wrong, α > 0.

    Args:
        key: of ε and of acceptance.
        x: the sample, `[...]`.
        momentum: v, of the same shape.
        log_p: of one x, differentiable.
        step_size: of the leapfrog integrator.
        leapfrog_steps: how many.
        persistence: α; 0 is Hamiltonian Monte Carlo.

    Returns:
        x, v and the probability by which the step was accepted.

    Raises:
        ModuleNotFoundError: blackjax is missing.

    Source: Horowitz 1991, A generalized guided Monte Carlo algorithm; Neal 2011, MCMC using
    Hamiltonian dynamics, section 5.3.
    """
    with extra("blackjax", "annealing"):
        from blackjax.mcmc import hmc, integrators, metrics
    metric = metrics.default_metric(jnp.ones(x.size, x.dtype))
    propose = hmc.hmc_proposal(
        integrators.velocity_verlet(log_p, metric.kinetic_energy),
        metric.kinetic_energy,
        step_size,
        leapfrog_steps,
    )
    key_noise, key_accept = jax.random.split(key)
    noise = metric.sample_momentum(key_noise, x)
    momentum = persistence * momentum + (1 - persistence**2) ** 0.5 * noise
    start = integrators.IntegratorState(x, momentum, *jax.value_and_grad(log_p)(x))
    end, info, _ = propose(key_accept, start)
    # blackjax turns the momentum of a proposal, which makes the step its own inverse. Turned once
    # more, an accepted one goes on as it went, and a refused one turns back.
    return end.position, -end.momentum, info.acceptance_rate
