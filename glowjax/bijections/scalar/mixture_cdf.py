"""Elementwise maps by the CDF of a mixture: flexible, exact in the tails, inverted by bisection."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import log_ndtr, logsumexp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, draw_flat, promote
from glowjax.bijections.roots import increasing_root
from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.checks import check_choice, check_integer, require
from glowjax.expression import recorded

Family = Literal["logistic", "gaussian"]
Target = Literal["logit", "normal", "uniform"]

LOG_SCALE_BOUND = 7.0
NEWTON_STEPS = 7  # 6 reach float64's rounding wherever the quantile is asked for


@recorded
def mixture_cdf(
    components: int = 8, *, family: Family = "logistic", to: Target = "logit"
) -> Elementwise:
    """z = g(F(x)), with F the CDF of a mixture of K components, a K for every number.

        F(x) = Σ_k π_k·C(u_k),   u_k = (x - m_k)/s_k
        p(x) = dF/dx = Σ_k π_k·c(u_k)/s_k
        log_slope = ln p(x) - ln q(z),   q = 1 / g'(F)

    C, c are the standard logistic's or normal's CDF and PDF, and g makes q the standard logistic's
    density (`"logit"`), the normal's (`"normal"`) or 1 on (0, 1) (`"uniform"`). raw holds K logits
    (π is their softmax), K means, K log-scales: m_k = raw mean + offset, s_k = exp(log-scale), with
    fixed offsets spread evenly in (-1, 1), so that components differ at raw = 0, and log-scales
    clipped to [-7, 7], so that a net's wild output cannot make a step of F without an inverse.

    All is computed from ln F and ln(1 - F), so `"logit"` and `"normal"` keep their digits far in
    both tails. `"uniform"` cannot: it rounds to 0 and 1 there, which have no inverse. The inverse
    is exact to rounding, by some hundred evaluations of F.

    Args:
        components: K, of at least 2 (one alone is `affine`, or a fixed map of it).
        family: of the components.
        to: what the mixture's own samples are mapped to.

    A z outside (0, 1) of `"uniform"`, or an infinite one of the others, has x and log_slope NaN.

    Raises:
        ValueError: an argument is not as above.

    Source: Ho et al. 2019 (Flow++), section 3.2, for mixtures of logistics with `"logit"`;
    Salimans et al. 2017 (PixelCNN++) for the bound.

    Examples:
        >>> transform = glowjax.mixture_cdf(components=4)
        >>> z, log_slope = transform.forward(jnp.zeros((5, 3)), jnp.zeros((5, 3, transform.size)))
        >>> transform.size, z.shape, log_slope.shape
        (12, (5, 3), (5, 3))
    """
    check_integer("components", components, 2)
    check_choice("family", family, FAMILIES)
    check_choice("to", to, TARGETS)
    target = TARGETS[to]
    size = 3 * components

    def forward(x, raw):
        chex.assert_axis_dimension(raw, -1, size)
        z = target.quantile(*_log_tails(x, raw, family))
        return z, mixture_log_prob(x, raw, family=family) - target.log_pdf(z)

    def inverse(z, raw):
        chex.assert_axis_dimension(raw, -1, size)
        z = promote(z)
        inside = (z > target.low) & (z < target.high)
        z = jnp.where(inside, z, 0.5)  # so that no NaN gets into gradients
        log_p, log_q = target.log_tails(z)
        _, mean, log_scale = _parameters(raw)
        # Each component has the probability of z at its own quantile: F's lies between those.
        quantile = FAMILIES[family].quantile(*lax.stop_gradient((log_p, log_q)))
        quantiles = mean + jnp.exp(log_scale) * quantile[..., None]

        def excess(x):  # in logits, whatever g is: well-conditioned all over
            log_cdf, log_survival = _log_tails(x, raw, family)
            return (log_cdf - log_survival) - (log_p - log_q)

        x = increasing_root(excess, jnp.min(quantiles, -1), jnp.max(quantiles, -1))
        log_slope = target.log_pdf(z) - mixture_log_prob(x, raw, family=family)
        return jnp.where(inside, x, jnp.nan), jnp.where(inside, log_slope, jnp.nan)

    return Elementwise(size, forward, inverse)


def mixture_log_prob(
    x: Float[AnyArray, "*shape"],
    raw: Float[AnyArray, "*shape size"],
    *,
    family: Family = "logistic",
) -> Float[Array, "*shape"]:
    """ln p(x) = ln Σ_k π_k·c((x - m_k)/s_k)/s_k, in nats: `mixture_cdf`'s log_slope to uniform.

    Args:
        x: `[...]`.
        raw: `[..., 3·K]`, as for `mixture_cdf`.
        family: of the components.

    Raises:
        ValueError: the last axis of raw is no multiple of 3; a family there is not.
    """
    check_choice("family", family, FAMILIES)
    return logsumexp(log_joint(x, _parameters(raw), family), axis=-1)


def log_joint(
    x: Float[AnyArray, "*shape"], mixture: tuple[Array, Array, Array], family: Family
) -> Float[Array, "*shape K"]:
    """ln (π_k·c((x - m_k)/s_k)/s_k) in nats, from (ln π, m, ln s), `[..., K]` each."""
    log_weight, mean, log_scale = mixture
    u = (promote(x)[..., None] - mean) * jnp.exp(-log_scale)
    return log_weight - log_scale + FAMILIES[family].log_pdf(u)


def mixture_sample(
    key: jax.Array, raw: Float[AnyArray, "*shape size"], *, family: Family = "logistic"
) -> Float[Array, "*shape"]:
    """x ~ p, by drawing a component and then from it: no inverse is sought.

    The gradient reaches the means and scales of the components drawn, and no logits.

    Args:
        key: a JAX key.
        raw: `[..., 3·K]`, as for `mixture_cdf`.
        family: of the components.

    Returns:
        x: `[...]`, one for every row of raw.

    Raises:
        ValueError: as for `mixture_log_prob`.
    """
    check_choice("family", family, FAMILIES)
    log_weight, mean, log_scale = _parameters(raw)
    key_component, key_noise = jax.random.split(key)
    drawn = jax.random.categorical(key_component, log_weight)[..., None]
    mean, log_scale = (jnp.take_along_axis(a, drawn, -1)[..., 0] for a in (mean, log_scale))
    draw = {"logistic": jax.random.logistic, "gaussian": jax.random.normal}[family]
    return mean + jnp.exp(log_scale) * draw_flat(draw, key_noise, mean.shape, mean.dtype)


def _parameters(raw):
    """(ln π, m, ln s), `[..., K]` each."""
    size = jnp.shape(raw)[-1]
    require(size and size % 3 == 0, "last axis of raw", size, "3 times the number of components")
    logits, mean, log_scale = jnp.split(promote(raw), 3, axis=-1)
    bounded = jnp.clip(log_scale, -LOG_SCALE_BOUND, LOG_SCALE_BOUND)
    return jax.nn.log_softmax(logits), mean + offsets(size // 3, mean.dtype), bounded


def offsets(components: int, dtype: Any) -> Float[Array, "K"]:
    """What is added to the means of raw, so that components differ at raw = 0."""
    return (2 * jnp.arange(components, dtype=dtype) + 1) / components - 1


def _log_tails(x, raw, family):
    """(ln F(x), ln(1 - F(x)))."""
    log_weight, mean, log_scale = _parameters(raw)
    u = (promote(x)[..., None] - mean) * jnp.exp(-log_scale)
    return tuple(logsumexp(log_weight + tail, axis=-1) for tail in FAMILIES[family].log_tails(u))


class _Distribution(NamedTuple):
    """A standard distribution on (low, high), known by the logarithms of both its tails.

    A quantile of both is as exact as the smaller of them, which the larger one would round away.
    """

    log_tails: Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # z -> ln P(≤ z), ln P(> z)
    log_pdf: Callable[[jax.Array], jax.Array]
    quantile: Callable[[jax.Array, jax.Array], jax.Array]  # both tails -> z
    low: float = -jnp.inf
    high: float = jnp.inf


def _logistic_log_tails(z):
    return jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)


def _logistic_log_pdf(z):
    return jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z)


def _logistic_quantile(log_p, log_q):
    return log_p - log_q


def _log_ndtr(z):
    return log_ndtr(z, 10)  # of the default order 3, float64 would jump by 4e-9 at z = -20


def _normal_log_tails(z):
    return _log_ndtr(z), _log_ndtr(-z)


def _normal_log_pdf(z):
    return -0.5 * (jnp.square(z) + jnp.log(2 * jnp.pi))


def _normal_quantile(log_p, log_q):
    lower = log_p < log_q  # not by minimum, whose gradient is a mean of both where they are equal
    z = _lower_normal_quantile(jnp.where(lower, log_p, log_q))
    return jnp.where(lower, z, -z)


@jax.custom_jvp
def _lower_normal_quantile(log_p):
    """The z <= 0 with ln Φ(z) = log_p, by Newton's method from below: ln Φ is concave."""
    start = -jnp.sqrt(jnp.maximum(-2 * (log_p + jnp.log(2)), 0))  # of Φ(z) ≤ exp(-z²/2)/2

    def step(_, z):
        log_cdf = _log_ndtr(z)
        return z + (log_p - log_cdf) * jnp.exp(log_cdf - _normal_log_pdf(z))

    return lax.fori_loop(0, NEWTON_STEPS, step, start)


@_lower_normal_quantile.defjvp
def _(primals, tangents):
    z = _lower_normal_quantile(*primals)
    return z, tangents[0] * jnp.exp(_log_ndtr(z) - _normal_log_pdf(z))


def _uniform_log_tails(z):
    return jnp.log(z), jnp.log1p(-z)


def _uniform_quantile(log_p, log_q):
    # By the smaller tail: log_p is rounded near 0, and exp of it may pass 1.
    return jnp.where(log_p < log_q, jnp.exp(log_p), -jnp.expm1(log_q))


LOGISTIC = _Distribution(_logistic_log_tails, _logistic_log_pdf, _logistic_quantile)
NORMAL = _Distribution(_normal_log_tails, _normal_log_pdf, _normal_quantile)
UNIFORM = _Distribution(_uniform_log_tails, jnp.zeros_like, _uniform_quantile, 0.0, 1.0)
FAMILIES = {"logistic": LOGISTIC, "gaussian": NORMAL}
TARGETS = {"logit": LOGISTIC, "normal": NORMAL, "uniform": UNIFORM}
