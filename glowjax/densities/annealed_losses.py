"""Losses of flows by annealing: FAB of the density, CRAFT of flows between temperatures.

Needs blackjax, `pip install 'glowjax[blackjax]'`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from glowjax.densities.annealing import anneal
from glowjax.densities.density import Density
from glowjax.densities.objectives import LogProb, log_target
from glowjax.flow import Flow


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
        return 2 * log_target(target, x) - density.log_prob(frozen, x, context)

    found = anneal(density, frozen, least_variance, key, n, context=context, **annealing)
    x, log_w = jax.lax.stop_gradient((found.x, found.log_w))
    return -jnp.sum(jax.nn.softmax(log_w) * density.log_prob(params, x, context))


def craft(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    transport: Flow,
    transport_params: Any,
    **annealing: Any,
) -> Float[Array, ""]:
    """loss = Σ_k KL(T_k p_{k-1} ‖ p_k) - ln Z, of flows T_1 … T_K that bring samples from q to p̃.

    The divergences are means over the weighted samples of `anneal`, and each trains its own flow:
    no gradient goes through samples and weights. Continual repeated annealed flow transport.

    Args:
        density, params, target, key, n: as for `anneal`; q is not trained.
        transport: T; its `inverse` leads from one temperature to the next.
        transport_params: of T_1 … T_K, each array `[K, ...]`: what is trained.
        annealing: further arguments of `anneal`.

    Raises:
        ValueError: as for `anneal`.
        ModuleNotFoundError: blackjax is missing.

    Source: Matthews et al. 2022, Continual repeated annealed flow transport Monte Carlo, section 3.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(2,))
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> params = model.init(jax.random.key(1), x)
        >>> flow = glowjax.realnvp_mlp(steps=2, width=8)
        >>> keys = jax.random.split(jax.random.key(2), 4)  # of four temperatures
        >>> stacked = jax.vmap(flow.init, (0, None))(keys, x)
        >>> def target(x):
        ...     return -jnp.sum(x**4, axis=-1)
        >>> glowjax.craft(
        ...     model, params, target, jax.random.key(3), 50,
        ...     transport=flow, transport_params=stacked, temperatures=4, ess_threshold=0.5,
        ... ).shape
        ()
    """
    found = anneal(
        density,
        jax.lax.stop_gradient(params),
        target,
        key,
        n,
        transport=transport,
        transport_params=transport_params,
        **annealing,
    )
    return -jnp.sum(found.increments)
