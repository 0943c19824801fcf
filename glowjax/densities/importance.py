"""Importance sampling with a density as the proposal: normalising constants and expectations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Shaped

from glowjax.arrays import AnyArray, split_key
from glowjax.checks import check_integer, check_positive, require
from glowjax.densities.density import Density
from glowjax.densities.objectives import LogProb, effective_sample_size, log_mean_exp, log_target


class Importance(NamedTuple):
    """What `importance_sampling` estimates.

    Attributes:
        log_z: ln of the mass of the target, nats.
        log_z_error: the standard error of `log_z` (delta method).
        mean: the expectation of the statistic under the normalised target.
        effective_sample_size: of the n weights, 1 … n; where it is small, trust none of these.
    """

    log_z: Float[Array, ""]
    log_z_error: Float[Array, ""]
    mean: Any
    effective_sample_size: Float[Array, ""]


def importance_sampling(
    density: Density,
    params: Any,
    target: LogProb,
    key: jax.Array,
    n: int,
    *,
    statistic: Callable[[jax.Array], Any] = lambda x: x,
    context: Any = None,
) -> Importance:
    """ln Z = ln E_q[w] and E_p[s] = E_q[w·s] / E_q[w], w = p̃(x) / q(x), from n samples x ~ q.

    Args:
        density: q, the proposal; its support must hold the target's.
        params: of q.
        target: log p̃, of `[n, ...]`.
        key: of the samples.
        n: how many samples, at least 2.
        statistic: s, from `[n, ...]` to arrays `[n, ...]`.
        context: of each sample, `[n, ...]`.

    Raises:
        ValueError: n < 2.

    Source: Owen 2013, Monte Carlo theory, methods and examples, chapter 9.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(2,))
        >>> params = model.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (8, 2)))
        >>> def target(x):  # twice the density itself
        ...     return model.log_prob(params, x) + jnp.log(2)
        >>> found = glowjax.importance_sampling(model, params, target, jax.random.key(2), 100)
        >>> round(float(found.log_z), 3), round(float(found.effective_sample_size))
        (0.693, 100)
    """
    check_integer("n", n, 2)
    x, log_q = density.sample_and_log_prob(params, key, n, context)
    return estimates(x, log_target(target, x) - log_q, statistic)


def importance_weighted_log_prob(
    model: Density,
    params: Any,
    x: Shaped[AnyArray, "B *event"],
    key: jax.Array,
    n: int,
    *,
    context: Any = None,
) -> Float[Array, "B"]:
    """ln((1/n) Σ_i w_i), ln w_i a draw of `model.log_prob`: a bound that rises to ln p(x) with n.

    Its mean is at most ln p(x), rises with n, and tends to ln p(x) if the draws cover all that may
    have made x. The draws are made one after the other, so that memory does not grow with n.

    Args:
        model: a density whose log_prob is a `bound`.
        params: of the model.
        x: `[B, ...]`.
        key: of the draws.
        n: how many, for each x.
        context: of each x.

    Returns:
        `[B]`, nats.

    Raises:
        ValueError: n < 1; the log_prob of `model` is no bound, and needs no such estimate.

    Source: Burda et al. 2016, equation 8 and theorem 1.

    Examples:
        >>> noise = glowjax.surjections.slicing(1)
        >>> flow = glowjax.as_flow(glowjax.ActNorm())
        >>> model = glowjax.generative_surjection(glowjax.density(flow, (3,)), noise)
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> params = model.init(jax.random.key(1), x)
        >>> glowjax.importance_weighted_log_prob(model, params, x, jax.random.key(2), 10).shape
        (8,)
    """
    check_positive(n=n)
    require(model.bound, "model", model, "a density whose log_prob is a bound")
    keys = split_key(key, n)
    return log_mean_exp(jax.lax.map(lambda k: model.log_prob(params, x, context, k), keys))


def estimates(
    x: Shaped[Array, "n *event"],
    log_w: Float[Array, "n"],
    statistic: Callable[[jax.Array], Any],
    ancestors: Integer[Array, "n"] | None = None,
) -> Importance:
    """The `Importance` of samples and the logarithms of their weights.

    Args:
        x: `[n, ...]`.
        log_w: `[n]`.
        statistic: from x to arrays `[n, ...]`.
        ancestors: of each sample, in 0 … n - 1. Those of one ancestor are not independent: the
            error goes by the sum of their weights. None: all are independent.
    """
    n, weights = len(log_w), jax.nn.softmax(log_w)
    apart = weights if ancestors is None else jax.ops.segment_sum(weights, ancestors, n)
    return Importance(
        log_z=log_mean_exp(log_w),
        log_z_error=jnp.sqrt(jnp.maximum(jnp.sum(apart**2) - 1 / n, 0) * n / (n - 1)),
        mean=jax.tree.map(lambda s: jnp.tensordot(weights, s, axes=1), statistic(x)),
        effective_sample_size=effective_sample_size(log_w),
    )
