"""Mixtures fitted to data by expectation-maximization, without gradients: where flows start."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote
from glowjax.bijections.scalar.mixture_cdf import FAMILIES, Family, log_joint, offsets
from glowjax.checks import check_choice, check_integer

ROUNDS = 30
WIDTH = 0.5  # deviation of what counts as one more example in each component, in those of x


def fitted_mixture(
    x: Float[AnyArray, "B *event"], components: int, *, family: Family = "logistic"
) -> Float[Array, "*event size"]:
    """The raw of `mixture_cdf` whose mixture fits x, a mixture for every number of an event.

    30 rounds of expectation-maximization, from means at quantiles of x. With the shares r_nk of the
    components in each example, u = (x_n - m_k)/s_k, and the weight ω(u), which is 1 of Gaussians
    and tanh(u/2)/u of logistics,

        m_k = Σ_n r_nk·ω·x_n / Σ_n r_nk·ω,   s_k² = Σ_n r_nk·ω·(x_n - m_k)² / Σ_n r_nk

    Each component counts one more example, at its mean and half a deviation of x wide. So no
    component is lost, and few examples get wide ones. No derivative passes through.

    Args:
        x: `[B, ...]`, finite.
        components: K, of at least 2.
        family: of the components.

    Returns:
        raw: `[..., 3·K]`.

    Raises:
        ValueError: an argument is not as above.

    Sources: Dempster et al. 1977, Maximum likelihood from incomplete data via the EM algorithm; for
    logistics, which are Gaussians of a random scale, Polson et al. 2013, Bayesian inference for
    logistic models using Pólya-Gamma latent variables.
    """
    check_integer("components", components, 2)
    check_choice("family", family, FAMILIES)
    x = lax.stop_gradient(promote(x))
    unit = _deviation(x)[..., None]
    edges = jnp.quantile(x, jnp.linspace(0, 1, 2 * components + 1, dtype=x.dtype), axis=0)
    edges = jnp.moveaxis(edges, 0, -1)
    width = jnp.maximum((edges[..., 2::2] - edges[..., :-1:2]) / 2, unit / components)

    def improve(_, mixture):
        share = jax.nn.softmax(log_joint(x, mixture, family))  # [B, ..., K]
        _, mean, log_scale = mixture
        weight = share
        if family == "logistic":
            weight = share * _half_tanh((x[..., None] - mean) * jnp.exp(-log_scale))
        mean = (jnp.sum(weight * x[..., None], 0) + mean) / (jnp.sum(weight, 0) + 1)
        squares = jnp.sum(weight * jnp.square(x[..., None] - mean), 0) + jnp.square(WIDTH * unit)
        count = jnp.sum(share, 0) + 1
        return _log_share(count), mean, jnp.log(squares / count) / 2

    start = _log_share(jnp.ones_like(width)), edges[..., 1::2], jnp.log(width)
    log_weight, mean, log_scale = lax.fori_loop(0, ROUNDS, improve, start)
    return jnp.concatenate([log_weight, mean - offsets(components, x.dtype), log_scale], axis=-1)


def _deviation(x: jax.Array) -> Any:
    """The standard deviation of x over its first axis; 1 where x differs by rounding alone."""
    deviation, eps = jnp.std(x, axis=0), jnp.finfo(x.dtype).eps
    return jnp.where(deviation > 4 * eps * jnp.max(jnp.abs(x), axis=0), deviation, 1)


def _log_share(count):
    return jnp.log(count / jnp.sum(count, axis=-1, keepdims=True))


def _half_tanh(u):
    """tanh(u/2)/u, which is ½ at 0."""
    far = jnp.abs(u) > math.sqrt(jnp.finfo(u.dtype).eps)
    return jnp.where(far, jnp.tanh(u / 2) / jnp.where(far, u, 1), 0.5)
