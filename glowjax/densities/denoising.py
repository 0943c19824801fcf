"""Noise removed from data by the density of noisy data: Tweedie's formula."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.checks import NON_NEGATIVE, check_in
from glowjax.densities.density import Density


def tweedie(
    density: Density,
    params: Any,
    y: Float[AnyArray, "B *event"],
    noise: float,
    context: Any = None,
    key: Any = None,
) -> Float[Array, "B *event"]:
    """E[x|y] = y + σ²·∇ ln p(y) for y = x + σ·ε with ε from N(0, I), and p the density of y.

    So a density that is trained on noisy data says what they were without the noise, and what its
    samples are without it: of all functions of y this mean has the least squared error. As a mean
    of all x that y may come of, it is smoother than they are.

    Args:
        density: p, trained on x + σ·ε with fresh ε in each step.
        params: of p.
        y: `[B, ...]`, noisy data or samples of p.
        noise: σ, at least 0, in the units of y.
        context: of each y.
        key: for estimated log-determinants.

    Returns:
        `[B, ...]`.

    Raises:
        ValueError: `noise` is not as above, or what `log_prob` refuses.

    Sources: Efron 2011 (Tweedie's formula and selection bias); Zhai et al. 2024 (TarFlow), whose
    samples are denoised so.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(1,))
        >>> y = jnp.array([[2.0], [-4.0]])
        >>> params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), y))  # N(0, 1)
        >>> glowjax.tweedie(model, params, y, noise=0.5).tolist()
        [[1.5], [-3.0]]
    """
    check_in(NON_NEGATIVE, noise=noise)
    y = promote(y)
    score = jax.grad(lambda y: jnp.sum(density.log_prob(params, y, context, key)))(y)
    return y + noise**2 * score
