"""What densities are trained by: divergences between a density and data, or a target.

Each is a plain function of a density, its parameters, and data or a target; the result is a number
to be minimised, or a bound to be maximised, in nats. `fit` takes any of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, ArrayLike, Float, Shaped

from glowjax.arrays import AnyArray
from glowjax.checks import BELOW_ONE, check_in, check_positive, described
from glowjax.densities.density import Density

LogProb = Callable[[Float[Array, "B *event"]], Float[Array, "B"]]  # nats, normalised or not


def forward_kl(
    density: Density,
    params: Any,
    x: Shaped[AnyArray, "B *event"],
    context: Any = None,
    key: Any = None,
    *,
    weights: Float[AnyArray, "B"] | None = None,
) -> Float[Array, ""]:
    """loss = -mean w·log q(x): KL(p‖q) of the data's p, less p's entropy. Maximum likelihood.

    Args:
        density: q.
        params: of q.
        x: `[B, ...]`, drawn from p.
        context: of each x.
        key: for estimated log-determinants.
        weights: w of each x, `[B]`, of mean 1 over the data; default: 1.

    Returns:
        A scalar, nats.
    """
    log_q = density.log_prob(params, x, context, key)
    return -jnp.mean(log_q if weights is None else weights * log_q)


def reverse_kl(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    beta: Float[ArrayLike, ""] = 1.0,
    context: Any = None,
) -> Float[Array, ""]:
    """loss = mean of log q(x) - β·log p̃(x), x ~ q: KL(q‖p) - ln Z if β is 1, Z the mass of p̃.

    With β risen from a small value to 1, q first spreads and then concentrates: annealing.

    Args:
        density: q.
        params: of q; the gradient goes through the samples.
        target: log p̃, of `[n, ...]`.
        key: of the samples.
        n: how many samples.
        beta: inverse temperature of the target.
        context: of each sample, `[n, ...]`.

    Returns:
        A scalar, nats.

    Source: Rezende & Mohamed 2015, equation 20.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(2,))
        >>> params = model.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (8, 2)))
        >>> def target(x):  # twice the density itself
        ...     return model.log_prob(params, x) + jnp.log(2)
        >>> round(float(glowjax.reverse_kl(model, params, target, jax.random.key(2), 100)), 3)
        -0.693
    """
    x, log_q = density.sample_and_log_prob(params, key, n, context)
    return jnp.mean(log_q - beta * log_target(target, x))


def alpha_divergence(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    alpha: float = 0.5,
    context: Any = None,
) -> Float[Array, ""]:
    """-ln(mean of w^(1 - α)) / (1 - α), w = p̃(x) / q(x), x ~ q: Rényi's D_α(q‖p) - ln Z.

    α -> 1 is `reverse_kl`; at α = 0 it is minus `importance_weighted_bound`; the smaller α, the
    more q covers all of the target.

    Args:
        alpha: in [0, 1).
        density, params, target, key, n, context: as for `reverse_kl`.

    Raises:
        ValueError: `alpha` is not in [0, 1).

    Source: Li & Turner 2016, equation 6.
    """
    check_in(BELOW_ONE, alpha=alpha)
    log_w = log_weights(density, params, target, key, n, context)
    return -log_mean_exp((1 - alpha) * log_w) / (1 - alpha)


def importance_weighted_bound(
    density: Density, params: Any, target: LogProb, key: jax.Array, n: int, context: Any = None
) -> Float[Array, ""]:
    """ln(mean of w), w = p̃(x) / q(x), x ~ q: at most ln Z on average, and tighter the larger n.

    Args:
        density, params, target, key, n, context: as for `reverse_kl`.

    Source: Burda et al. 2016, equation 8.
    """
    return log_mean_exp(log_weights(density, params, target, key, n, context))


def log_weights(
    density: Density, params: Any, target: LogProb, key: jax.Array, n: int, context: Any = None
) -> Float[Array, "{n}"]:
    """ln w = ln p̃(x) - ln q(x) of n samples x ~ q: `[n]`."""
    x, log_q = density.sample_and_log_prob(params, key, n, context)
    return log_target(target, x) - log_q


def log_target(target: LogProb, x: Float[Array, "n *event"]) -> Float[Array, "n"]:
    """log p̃ of each x, `[n, ...]`.

    Raises:
        ValueError: `target` gives anything but `[n]`, as one does that is of a single point.
    """
    log_p = target(x)
    if getattr(log_p, "shape", None) != x.shape[:1]:
        raise ValueError(
            f"target must give log p̃ of each of {x.shape[0]} points, of shape ({x.shape[0]},), got"
            f" {described(log_p)} for points of shape {x.shape}: of a function of one point,"
            " jax.vmap makes such a target"
        )
    return log_p


def log_mean_exp(a: Float[AnyArray, "..."], axis: int = 0) -> Float[Array, "..."]:
    """ln of the mean of exp(a) along an axis of a, `[...]`; the result has one axis fewer."""
    return logsumexp(a, axis=axis) - jnp.log(jnp.asarray(a.shape[axis], a.dtype))


def effective_sample_size(log_w: Float[AnyArray, "n"]) -> Float[Array, ""]:
    """ESS = (Σ w)² / Σ w² of weights that are given by their logarithms: in 1 … n.

    Args:
        log_w: `[n]`.

    Raises:
        ValueError: there are no weights.

    Source: Kish 1965, Survey sampling.
    """
    check_positive(n=len(log_w))
    return jnp.exp(2 * logsumexp(log_w) - logsumexp(2 * log_w))
