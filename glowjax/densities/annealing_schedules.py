"""Step sizes and temperatures for annealing, found by pilot runs of it."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from glowjax.checks import check_integer
from glowjax.densities.annealing import anneal
from glowjax.densities.annealing_path import inverse_temperatures, step_sizes
from glowjax.densities.density import Density
from glowjax.densities.objectives import LogProb

ACCEPTED = 0.65  # of the moves, at which Hamiltonian Monte Carlo goes far at little cost
LEAST = 1e-3  # of the mean length of a change of temperature, so that no two of them meet


def tuned_step_size(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    rounds: int = 30,
    temperatures: Float[ArrayLike, "temperatures"] | int = 8,
    step_size: Float[ArrayLike, "moves"] | float = 0.1,
    **annealing: Any,
) -> Float[Array, "moves"]:
    """Step sizes for `anneal` by which 65 % of the moves are accepted, one for each of K - 1 moves.

    Round r anneals anew and multiplies each size by exp((share accepted - 0.65) / √r).

    Args:
        density, params, target, key, n: as for `anneal`.
        rounds: how many.
        temperatures, step_size: as for `anneal`; where the first round starts.
        annealing: further arguments of `anneal`.

    Raises:
        ValueError: as for `anneal`.
        ModuleNotFoundError: blackjax is missing.

    Source: Beskos et al. 2013, Optimal tuning of the hybrid Monte Carlo algorithm.
    """
    check_integer("rounds", rounds, 1)

    def tune(sizes, inputs):
        rate, key = inputs
        found = anneal(
            density,
            params,
            target,
            key,
            n,
            temperatures=temperatures,
            step_size=sizes,
            **annealing,
        )
        return sizes * jnp.exp(rate * (found.accepted - ACCEPTED)).astype(sizes.dtype), None

    sizes = step_sizes(step_size, len(inverse_temperatures(temperatures)) - 2)
    rates = jax.lax.rsqrt(jnp.arange(1.0, rounds + 1))
    return jax.lax.scan(tune, sizes, (rates, jax.random.split(key, rounds)))[0]


def tuned_temperatures(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    rounds: int = 10,
    temperatures: Float[ArrayLike, "temperatures"] | int = 8,
    **annealing: Any,
) -> Float[Array, "temperatures"]:
    """β_1 … β_K for `anneal`, each of which leaves the same share of effective samples.

    A round anneals, and measures the length √ln(n / conditional ESS) of each change of temperature.
    It then moves the temperatures to where they divide the whole length into equal parts, by
    interpolation. Since `anneal` takes them as given, its estimate of Z stays right on average,
    which it would not be if they went by the same samples.

    Args:
        density, params, target, key, n: as for `anneal`.
        rounds: how many.
        temperatures: as for `anneal`; where the first round starts.
        annealing: further arguments of `anneal`.

    Raises:
        ValueError: as for `anneal`.
        ModuleNotFoundError: blackjax is missing.

    Source: Syed et al. 2024, Optimised annealed sequential Monte Carlo samplers.
    """
    check_integer("rounds", rounds, 1)

    def tune(betas, key):
        found = anneal(density, params, target, key, n, temperatures=betas[1:], **annealing)
        parts = jnp.sqrt(jnp.maximum(jnp.log(n / found.conditional_ess), 0))
        parts += LEAST * (jnp.mean(parts) + LEAST)
        length = jnp.concatenate([jnp.zeros(1), jnp.cumsum(parts)]).astype(betas.dtype)
        places = length[-1] * jnp.linspace(0, 1, len(betas))
        return jnp.interp(places, length, betas).at[-1].set(1), None

    keys = jax.random.split(key, rounds)
    return jax.lax.scan(tune, inverse_temperatures(temperatures), keys)[0][1:]
