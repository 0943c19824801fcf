"""Parts of a whole: positive numbers that add up to 1, as free numbers one fewer."""

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, sum_event
from glowjax.checks import require
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.preprocess.support import bounded_exp, fixed, supported


def stick_breaking_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z_k = ln x_k - ln(x_(k+1) + … + x_K) + ln(K - k), for k < K.

    Args:
        x: `[B, ..., K]`, positive, of sum 1 within half of the dtype's digits.

    Returns:
        `(z, log_det)`: z `[B, ..., K-1]`, 0 where all parts are alike; log_det `[B]` = -Σ ln x_k
        over all K, in nats, with respect to the first K-1 of x; −inf where x is not in the support.
    """
    x, log_x, log_det = _within(x)
    rest = jax.lax.cumsum(x, axis=x.ndim - 1, reverse=True)[..., 1:]
    return log_x[..., :-1] - jnp.log(rest) + _log_counts(rest), log_det


def stick_breaking_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x_k is the share σ(z_k - ln(K - k)) of what parts before k leave; as forward.

    Returns:
        `(x, log_det)`: x `[B, ..., K]`, all of it positive.
    """
    z = promote(z)
    logits = z - _log_counts(z)
    log_left = jax.lax.cumsum(jax.nn.log_sigmoid(-logits), axis=z.ndim - 1)
    start = jnp.zeros_like(z[..., :1])
    log_before = jnp.concatenate([start, log_left], axis=-1)
    log_share = jnp.concatenate([jax.nn.log_sigmoid(logits), start], axis=-1)
    log_x = log_before + log_share
    return bounded_exp(log_x), sum_event(log_x)


def softmax_centered_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z_k = ln x_k - ln x_K, for k < K; arguments and result as `stick_breaking_forward`."""
    _, log_x, log_det = _within(x)
    return log_x[..., :-1] - log_x[..., -1:], log_det


def softmax_centered_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x = softmax(z_1, …, z_(K-1), 0); returns `(x, log_det)` as `stick_breaking_inverse`."""
    z = promote(z)
    log_x = jax.nn.log_softmax(jnp.concatenate([z, jnp.zeros_like(z[..., :1])], axis=-1))
    return bounded_exp(log_x), sum_event(log_x)


def _within(x):
    """x, or equal parts where it is not in the support; its logarithm; log_det of both maps."""
    x = promote(x)
    require(x.shape[-1] > 1, "x", f"shape {x.shape}", "of shape [B, ..., K], of 2 parts or more")
    total = jnp.sum(x, axis=-1, keepdims=True)
    near = jnp.abs(total - 1) <= jnp.sqrt(jnp.finfo(x.dtype).eps)
    inside = (x > 0) & near
    within = jnp.where(jnp.all(inside, axis=-1, keepdims=True), x, 1 / x.shape[-1])
    log_x = jnp.log(within)
    return within, log_x, supported(-sum_event(log_x), inside, x)


def _log_counts(z):
    """ln(K - k), of the parts that follow: with it, z = 0 is the middle of the simplex."""
    return jnp.log(jnp.asarray(np.arange(z.shape[-1], 0, -1), z.dtype))


@recorded
def stick_breaking() -> Flow:
    """Positive x_1, …, x_K of sum 1: each takes a share of what is left.

        x_k = σ(z_k - ln(K - k))·(1 - x_1 - … - x_{k-1}),   k = 1 … K - 1

    Arrays are `[B, ..., K]` of x and `[B, ..., K-1]` of z. The density is with respect to the first
    K-1 parts, as that of a Dirichlet distribution is; the last is what is left. x that is not
    positive, or of another sum, has the density 0. Source: Stan Reference Manual, section "Unit
    simplex".
    """
    return fixed(stick_breaking_forward, stick_breaking_inverse)


@recorded
def softmax_centered() -> Flow:
    """x = softmax(z_1, …, z_(K-1), 0): positive x_1, …, x_K of sum 1, compared with the last.

    Shapes, density and support are as for `stick_breaking`. TensorFlow Probability's bijector of
    this name measures volume within the simplex, √K times that of the first K-1 parts: its log-det
    from x to z is ½·ln K less. Source: Aitchison 1986, The statistical analysis of
    compositional data, the additive log-ratio.
    """
    return fixed(softmax_centered_forward, softmax_centered_inverse)
