"""From a density to a target: annealed importance sampling and sequential Monte Carlo.

Needs blackjax, `pip install 'glowjax[blackjax]'`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer, Shaped

from glowjax.checks import BELOW_ONE, Interval, check_in, check_integer, described, require
from glowjax.densities.annealing_path import (
    GeometricPath,
    Particles,
    inverse_temperatures,
    resampled,
    step_sizes,
)
from glowjax.densities.density import Density
from glowjax.densities.importance import Importance, estimates
from glowjax.densities.objectives import LogProb, log_target
from glowjax.flow import Flow, checked


class Annealed(NamedTuple):
    """Samples on their way from a density to a target.

    Attributes:
        x: `[n, ...]`.
        log_w: `[n]`, nats: with these weights, x are samples of the target.
        accepted: `[K - 1]`, the share of the moves that were accepted, at each temperature.
        ancestors: `[n]`, which of the first n samples each x comes from.
        ess: `[K]`, the effective sample size of the weights, before they are made equal.
        conditional_ess: `[K]`, the effective sample size that one change of temperature leaves of
            samples with the weights before it.
        increments: `[K]`, nats, weighted means of what each temperature adds to ln w.
    """

    x: Shaped[Array, "n *event"]
    log_w: Float[Array, "n"]
    accepted: Float[Array, "moves"]
    ancestors: Integer[Array, "n"]
    ess: Float[Array, "temperatures"]
    conditional_ess: Float[Array, "temperatures"]
    increments: Float[Array, "temperatures"]


def anneal(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    temperatures: Float[ArrayLike, "temperatures"] | int = 8,
    step_size: Float[ArrayLike, "moves"] | float = 0.1,
    leapfrog_steps: int = 5,
    persistence: float = 0.0,
    ess_threshold: float = 0.0,
    transport: Flow | None = None,
    transport_params: Any = None,
    context: Any = None,
) -> Annealed:
    """Moves n samples x ~ q through ln p_k = (1 - β_k)·ln q + β_k·ln p̃ from q to the target.

    For k = 1 … K: ln w += ln p_k(x) - ln p_{k-1}(x). Then, but for k = K, if the effective sample
    size is below `ess_threshold`·n, the samples are drawn anew by their weights, which become their
    mean; and x makes one step of Hamiltonian Monte Carlo, which leaves p_k as it is. However badly
    x moves, the weighted samples are right on average: E[w] = Z. Moves from mode to mode are rare,
    so q should reach all modes.

    A `transport` brings x from one temperature to the next by a flow T_k each: x becomes y =
    T_k.inverse(x), and ln w += ln p_k(y) + log_det - ln p_{k-1}(x). E[w] = Z holds for any flows.
    `craft` trains them.

    The defaults are annealed importance sampling. With `persistence` it is Hamiltonian annealed
    importance sampling: for one leapfrog step a temperature, and many temperatures. With
    `ess_threshold` it is sequential Monte Carlo with systematic resampling, which leaves samples
    of small weight behind.

    Args:
        density: q; its support must hold the target's.
        params: of q.
        target: log p̃, of `[n, ...]`, differentiable.
        key: of samples and moves.
        n: how many samples.
        temperatures: K, for β_k = k/K; or β_1 … β_K themselves, as `tuned_temperatures` finds them.
            K = 1 is importance sampling.
        step_size: of the leapfrog integrator, above 0; one, or one for each of the K - 1 moves, as
            `tuned_step_size` finds them.
        leapfrog_steps: of a move; each takes a gradient of q and of the target.
        persistence: how much of a sample's momentum its next move begins with, in [0, 1).
        ess_threshold: in [0, 1]; 0 never resamples, and ½ is usual.
        transport: T, a flow of `[n, ...]` without a context, the same for all temperatures but for
            its parameters.
        transport_params: of T_1 … T_K, stacked: each array `[K, ...]`.
        context: of each sample, `[n, ...]`; not with an `ess_threshold`, since samples of different
            contexts do not take each other's place.

    Raises:
        ValueError: an argument is not as above.
        ModuleNotFoundError: blackjax is missing.

    Source: Neal 2001, Annealed importance sampling; Del Moral et al. 2006, Sequential Monte Carlo
    samplers, section 3.3.2; Sohl-Dickstein & Culpepper 2012, Hamiltonian annealed importance
    sampling; Arbel et al. 2021, Annealed flow transport Monte Carlo.
    """
    betas = inverse_temperatures(temperatures)
    check_integer("leapfrog_steps", leapfrog_steps, 1)
    check_in(BELOW_ONE, persistence=persistence)
    check_in(Interval(0, 1, "both"), ess_threshold=ess_threshold)
    alone = context is None or ess_threshold == 0
    require(alone, "ess_threshold", ess_threshold, "0 where there is a context")
    _check_transport(transport, transport_params, len(betas) - 1)
    sizes = step_sizes(step_size, len(betas) - 2)
    key, start = jax.random.split(key)
    keys = jax.random.split(key, len(betas) - 1)
    x, log_q = density.sample_and_log_prob(params, start, n, context)
    momentum = jax.random.normal(keys[-1], x.shape, x.dtype)
    weights = jnp.zeros_like(log_q)
    state = Particles(x, momentum, log_q, log_target(target, x), weights, jnp.arange(n))
    betas = betas.astype(log_q.dtype)
    path = GeometricPath(density, params, target, context, transport)
    move = partial(path.moved, leapfrog_steps=leapfrog_steps, persistence=persistence)

    def colder(state, inputs):
        before, beta, transport_params, size, key = inputs
        state, told = path.weighed(state, before, beta, transport_params)
        keys = jax.random.split(key, n + 1)
        if ess_threshold:
            state = resampled(keys[n], state, ess_threshold)
        state, accepted = move(keys[:n], state, beta, size)
        return state, (told, accepted)

    changes = betas[:-1], betas[1:], transport_params
    warmer = jax.tree.map(lambda a: a[:-1], changes)
    state, (told, accepted) = jax.lax.scan(colder, state, (*warmer, sizes, keys[:-1]))
    state, last = path.weighed(state, *jax.tree.map(lambda a: a[-1], changes))
    told = jax.tree.map(lambda all, one: jnp.append(all, one), told, last)
    return Annealed(state.x, state.log_w, accepted, state.ancestors, *told)


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

    With an `ess_threshold` it is sequential Monte Carlo. Its stated error goes by the ancestors of
    the samples. It is rather too large than too small, as long as there are many of them.

    Args:
        density, params, target, key, n: as for `anneal`; n at least 2.
        statistic: from `[n, ...]` to arrays `[n, ...]`.
        annealing: further arguments of `anneal`.

    Raises:
        ValueError: n < 2; as for `anneal`.
        ModuleNotFoundError: blackjax is missing.

    Source: Neal 2001, Annealed importance sampling; Chan & Lai 2013, A general theory of particle
    filters in hidden Markov models, for the error.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(2,))
        >>> params = model.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (8, 2)))
        >>> def target(x):  # twice the density itself
        ...     return model.log_prob(params, x) + jnp.log(2)
        >>> found = glowjax.annealed_importance_sampling(
        ...     model, params, target, jax.random.key(2), 100, temperatures=3, ess_threshold=0.5
        ... )
        >>> round(float(found.log_z), 3), round(float(found.effective_sample_size))
        (0.693, 100)
    """
    check_integer("n", n, 2)
    found = anneal(density, params, target, key, n, **annealing)
    return estimates(found.x, found.log_w, statistic, found.ancestors)


def _check_transport(transport, params, count):
    if transport is None:
        require(params is None, "transport_params", described(params), "None without a transport")
        return
    checked("transport", transport)
    wanted = f"of arrays [{count}, ...], one row for each temperature"
    require(params is not None, "transport_params", params, wanted)
    for leaf in jax.tree.leaves(params):
        require(jnp.shape(leaf)[:1] == (count,), "transport_params", jnp.shape(leaf), wanted)
