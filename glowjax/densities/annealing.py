"""Annealed importance sampling from a density to a target, and training by it.

Needs blackjax, `pip install 'glowjax[blackjax]'`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from glowjax.checks import check_integer, is_known, require
from glowjax.densities.density import Density
from glowjax.densities.importance import Importance, estimates
from glowjax.densities.objectives import LogProb
from glowjax.extras import extra

ACCEPTED = 0.65  # of the moves, at which Hamiltonian Monte Carlo goes far at little cost


class Annealed(NamedTuple):
    """Samples on their way from a density to a target.

    Attributes:
        x: `[n, ...]`.
        log_w: `[n]`, nats: with these weights, x are samples of the target.
        accepted: `[K - 1]`, the share of the moves that were accepted, at each temperature.
    """

    x: Shaped[Array, "n *event"]
    log_w: Float[Array, "n"]
    accepted: Float[Array, "moves"]


def anneal(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    temperatures: int = 8,
    step_size: Float[ArrayLike, "moves"] | float = 0.1,
    leapfrog_steps: int = 5,
    context: Any = None,
) -> Annealed:
    """Moves n samples x ~ q through ln p_k = (1 - k/K)·ln q + k/K·ln p̃ from q to the target.

    For k = 1 … K: ln w += ln p_k(x) - ln p_{k-1}(x); then, but for k = K, x makes one step of
    Hamiltonian Monte Carlo (blackjax's), which leaves p_k as it is. However badly x moves, the
    weighted samples are right on average: E[w] = Z. Moves from mode to mode are rare, so q should
    reach all modes.

    Args:
        density: q; its support must hold the target's.
        params: of q.
        target: log p̃, of `[n, ...]`, differentiable.
        key: of samples and moves.
        n: how many samples.
        temperatures: K; 1 is importance sampling.
        step_size: of the leapfrog integrator, above 0; one, or one for each of the K - 1 moves, as
            `tuned_step_size` finds them.
        leapfrog_steps: of a move; each takes a gradient of q and of the target.
        context: of each sample, `[n, ...]`.

    Raises:
        ValueError: an argument is not as above.
        ModuleNotFoundError: blackjax is missing.

    Source: Neal 2001, Annealed importance sampling.
    """
    check_integer("temperatures", temperatures, 1)
    check_integer("leapfrog_steps", leapfrog_steps, 1)
    sizes = _step_sizes(step_size, temperatures - 1)
    key, start = jax.random.split(key)
    x, log_q = density.sample_and_log_prob(params, start, n, context)
    log_p = target(x)
    move = _mover(density, params, target, leapfrog_steps)

    def cooler(carry, inputs):
        x, log_q, log_p, log_w = carry
        beta, size, key = inputs
        log_w += (log_p - log_q) / temperatures
        x, accepted = move(jax.random.split(key, n), x, context, beta, size)
        return (x, density.log_prob(params, x, context), target(x), log_w), accepted

    betas = jnp.arange(1, temperatures) / temperatures
    keys = jax.random.split(key, temperatures - 1)
    (x, log_q, log_p, log_w), accepted = jax.lax.scan(
        cooler, (x, log_q, log_p, jnp.zeros_like(log_q)), (betas.astype(log_q.dtype), sizes, keys)
    )
    return Annealed(x, log_w + (log_p - log_q) / temperatures, accepted)


def annealed_importance_sampling(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    statistic: Callable[[jax.Array], Any] = lambda x: x,
    **annealing: Any,
) -> Importance:
    """`importance_sampling` with the samples and weights of `anneal`, which are closer to equal.

    Args:
        density, params, target, key, n: as for `anneal`; n at least 2.
        statistic: from `[n, ...]` to arrays `[n, ...]`.
        annealing: further arguments of `anneal`.

    Raises:
        ValueError: n < 2; as for `anneal`.
        ModuleNotFoundError: blackjax is missing.

    Source: Neal 2001, Annealed importance sampling.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(2,))
        >>> params = model.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (8, 2)))
        >>> def target(x):  # twice the density itself
        ...     return model.log_prob(params, x) + jnp.log(2)
        >>> found = glowjax.annealed_importance_sampling(
        ...     model, params, target, jax.random.key(2), 100, temperatures=3
        ... )
        >>> round(float(found.log_z), 3), round(float(found.effective_sample_size))
        (0.693, 100)
    """
    check_integer("n", n, 2)
    found = anneal(density, params, target, key, n, **annealing)
    return estimates(found.x, found.log_w, statistic)


def tuned_step_size(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    rounds: int = 30,
    temperatures: int = 8,
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

    sizes = _step_sizes(step_size, temperatures - 1)
    rates = jax.lax.rsqrt(jnp.arange(1.0, rounds + 1))
    return jax.lax.scan(tune, sizes, (rates, jax.random.split(key, rounds)))[0]


def fab(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    context: Any = None,
    **annealing: Any,
) -> Float[Array, ""]:
    """loss = -Σ w̄·ln q(x), x and weights w annealed from q to p̃² / q, w̄ = w / Σ w, in nats.

    Its gradient is that of the mass of p²/q, which is large where q misses a part of p: so q learns
    to cover all modes, and its weights p̃/q vary least. No gradient goes through samples and
    weights. Flow annealed importance sampling bootstrap.

    Args:
        density, params, target, key, n, context: as for `anneal`.
        annealing: further arguments of `anneal`.

    Raises:
        ValueError: as for `anneal`.
        ModuleNotFoundError: blackjax is missing.

    Source: Midgley et al. 2023, Flow annealed importance sampling bootstrap, equation 6, without
    the buffer.
    """
    frozen = jax.lax.stop_gradient(params)

    def least_variance(x: Shaped[Array, "n *event"]) -> jax.Array:
        return 2 * target(x) - density.log_prob(frozen, x, context)

    found = anneal(density, frozen, least_variance, key, n, context=context, **annealing)
    x, log_w = jax.lax.stop_gradient((found.x, found.log_w))
    return -jnp.sum(jax.nn.softmax(log_w) * density.log_prob(params, x, context))


def _step_sizes(step_size, count):
    sizes = jnp.asarray(step_size, jnp.result_type(float))
    require(sizes.shape in ((), (count,)), "step_size", sizes.shape, f"one, or of shape ({count},)")
    if is_known(sizes):
        wanted = "finite and above 0"
        require(jnp.all((sizes > 0) & jnp.isfinite(sizes)), "step_size", step_size, wanted)
    return jnp.broadcast_to(sizes, (count,))


def _mover(density, params, target, leapfrog_steps):
    """A step of all samples that leaves (1 - β)·ln q + β·ln p̃ as it is, and the share accepted."""
    with extra("blackjax", "annealing"):
        from blackjax import hmc

    kernel = hmc.build_kernel()

    def move(key, x, context, beta, size):
        def log_p(x):
            one, given = jax.tree.map(lambda a: a[None], (x, context))
            log_q = density.log_prob(params, one, given)[0]
            return (1 - beta) * log_q + beta * target(one)[0]

        masses = jnp.ones(x.size, x.dtype)
        state, info = kernel(key, hmc.init(x, log_p), log_p, size, masses, leapfrog_steps)
        return state.position, info.acceptance_rate

    def moved(keys, x, context, beta, size):
        x, accepted = jax.vmap(move, (0, 0, 0, None, None))(keys, x, context, beta, size)
        return x, jnp.mean(accepted)

    return moved
