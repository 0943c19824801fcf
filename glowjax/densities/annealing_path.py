"""The path of annealing: particles with weights, their moves and their resampling.

Needs blackjax, `pip install 'glowjax[blackjax]'`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, ArrayLike, Float, Integer, Shaped

from glowjax.checks import check_integer, is_known, require
from glowjax.densities.density import Density
from glowjax.densities.hamiltonian import hamiltonian_move
from glowjax.densities.objectives import LogProb, effective_sample_size, log_mean_exp
from glowjax.extras import extra
from glowjax.flow import Flow


def inverse_temperatures(temperatures: Float[ArrayLike, "temperatures"] | int) -> jax.Array:
    """β_0 = 0, β_1, …, β_K = 1 of what `anneal` takes: `[K + 1]`.

    Args:
        temperatures: K, or β_1 … β_K.

    Raises:
        ValueError: K < 1; β do not rise from above 0 to 1.
    """
    if jnp.ndim(temperatures) == 0:
        check_integer("temperatures", temperatures, 1)
        return jnp.arange(temperatures + 1) / temperatures
    if is_known(temperatures):
        betas = np.asarray(temperatures)
        rising = np.all(np.diff(betas, prepend=0) > 0) and betas[-1] == 1
        require(rising, "temperatures", temperatures, "a whole number, or rise from above 0 to 1")
    return jnp.concatenate([jnp.zeros(1), jnp.asarray(temperatures, jnp.result_type(float))])


def step_sizes(step_size: Float[ArrayLike, "moves"] | float, count: int) -> jax.Array:
    """One size for each of `count` moves: `[count]`.

    Raises:
        ValueError: `step_size` is neither one nor as many, or is not above 0.
    """
    sizes = jnp.asarray(step_size, jnp.result_type(float))
    require(sizes.shape in ((), (count,)), "step_size", sizes.shape, f"one, or of shape ({count},)")
    if is_known(step_size):
        right = np.all((np.asarray(step_size) > 0) & np.isfinite(step_size))
        require(right, "step_size", step_size, "finite and above 0")
    return jnp.broadcast_to(sizes, (count,))


class Particles(NamedTuple):
    """n samples x, each with its momentum, ln q, ln p̃, ln w and the number of its ancestor."""

    x: Shaped[Array, "n *event"]
    momentum: Shaped[Array, "n *event"]
    log_q: Float[Array, "n"]
    log_p: Float[Array, "n"]
    log_w: Float[Array, "n"]
    ancestors: Integer[Array, "n"]


class Told(NamedTuple):
    """Figures of one change of temperature: see `glowjax.Annealed`."""

    ess: Float[Array, ""]
    conditional_ess: Float[Array, ""]
    increment: Float[Array, ""]


@dataclass(frozen=True, eq=False)
class GeometricPath:
    """The densities (1 - β)·ln q + β·ln p̃, and what they do to samples."""

    density: Density
    params: Any
    target: LogProb
    context: Any
    transport: Flow | None

    def weighed(
        self, state: Particles, before: jax.Array, beta: jax.Array, transport_params: Any
    ) -> tuple[Particles, Told]:
        """The particles, transported, with the weights of β instead of those before."""
        if self.transport is None:
            gain = (beta - before) * (state.log_p - state.log_q)
        else:
            old, (x, log_det) = state, self.transport.inverse(transport_params, state.x)
            state = self._at(state._replace(x=x))
            gain = _between(beta, state) + log_det - _between(before, old)
        gain = jnp.where(jnp.isneginf(state.log_w), 0.0, gain)  # where 0·∞ would be NaN
        log_w = state.log_w + gain
        told = Told(
            effective_sample_size(log_w),
            _conditional_ess(state.log_w, gain),
            jnp.sum(jax.nn.softmax(state.log_w) * gain),
        )
        state = state._replace(log_w=log_w)
        # Each transport learns from its own increment alone, not through samples and weights.
        return state if self.transport is None else jax.lax.stop_gradient(state), told

    def moved(
        self, keys: jax.Array, state: Particles, beta: jax.Array, size: jax.Array, **options: Any
    ) -> tuple[Particles, Float[Array, ""]]:
        """The particles after a step of each at β, and the share of the steps accepted."""

        def move(key, x, momentum, context):
            def log_p(x):
                one, given = jax.tree.map(lambda a: a[None], (x, context))
                log_q = self.density.log_prob(self.params, one, given)[0]
                return (1 - beta) * log_q + beta * self.target(one)[0]

            return hamiltonian_move(key, x, momentum, log_p, size, **options)

        x, momentum, accepted = jax.vmap(move)(keys, state.x, state.momentum, self.context)
        return self._at(state._replace(x=x, momentum=momentum)), jnp.mean(accepted)

    def _at(self, state):
        """The particles with ln q and ln p̃ of where they are now."""
        log_q = self.density.log_prob(self.params, state.x, self.context)
        return state._replace(log_q=log_q, log_p=self.target(state.x))


def _between(beta, state):
    """(1 - β)·ln q + β·ln p̃, which is ln q at β = 0 even where p̃ is 0."""
    return (1 - beta) * state.log_q + jnp.where(beta > 0, beta * state.log_p, 0.0)


def resampled(key: jax.Array, state: Particles, threshold: float) -> Particles:
    """The particles drawn anew by their weights, if their ESS is below threshold·n, or as they are.

    Their weights then are the mean of those before, so that this remains an estimate of Z. Each is
    drawn n·w / Σ w times, rounded up or down, and on average as often: systematic resampling.

    Source: Carpenter et al. 1999, Improved particle filter for nonlinear problems.
    """
    with extra("blackjax", "annealing"):
        from blackjax.smc.resampling import systematic
    n = len(state.log_w)
    few = effective_sample_size(state.log_w) < threshold * n
    kept = jnp.where(few, systematic(key, jax.nn.softmax(state.log_w), n), jnp.arange(n))
    log_w = jnp.where(few, log_mean_exp(state.log_w), state.log_w)
    return jax.tree.map(lambda a: a[kept], state)._replace(log_w=log_w)


def _conditional_ess(log_w, gain):
    """n·(Σ W·g)² / Σ W·g², W = w / Σ w, g = exp(gain): Zhou et al. 2016, equation 8."""
    log_mean = logsumexp(log_w + gain) - logsumexp(log_w)
    log_mean_square = logsumexp(log_w + 2 * gain) - logsumexp(log_w)
    return len(log_w) * jnp.exp(2 * log_mean - log_mean_square)
