"""What flows are trained by in annealing: flow annealed importance sampling bootstrap.

Needs blackjax, `pip install 'glowjax[blackjax]'`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from glowjax.densities.annealing import anneal
from glowjax.densities.density import Density
from glowjax.densities.objectives import LogProb


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
