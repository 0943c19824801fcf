"""Categories as the place of the largest of several numbers: argmax flows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from glowjax.arrays import AnyArray, promote
from glowjax.checks import check_floats, check_integer, require
from glowjax.densities.bases import class_conditional_normal
from glowjax.densities.density import density
from glowjax.densities.surjection import Surjection
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow, checked
from glowjax.preprocess.positive import softplus_forward, softplus_inverse
from glowjax.preprocess.table import Unchanged
from glowjax.surjections.whole import whole_numbers


def argmax_forward(
    w: Float[AnyArray, "B K"], labels: Integer[AnyArray, "B"]
) -> tuple[Float[Array, "B K"], Float[Array, "B"]]:
    """u_c = w_c and u_i = w_c - softplus⁻¹(w_c - w_i): numbers w, largest at c, to free numbers u.

    Args:
        w: `[B, K]`, whose largest number is that of the label.
        labels: c, `[B]` integers in 0 … K - 1.

    Returns:
        `(u, log_det)`: log_det `[B]` = -Σ ln σ(w_c - u_i) over i other than c, in nats.

    Source: Hoogeboom et al. 2021, section 3.1: softplus thresholding.
    """
    w = promote(w)
    at, top = _at(w, labels)
    z, log_det = softplus_forward(_others(at, jnp.maximum(top - w, _least(top))))
    own = softplus_forward(jnp.ones((len(w), 1), w.dtype))[1]  # of the 1 at c, which is no gap
    return jnp.where(at, w, top - z), log_det - own


def argmax_inverse(
    u: Float[AnyArray, "B K"], labels: Integer[AnyArray, "B"]
) -> tuple[Float[Array, "B K"], Float[Array, "B"]]:
    """w_c = u_c and w_i = u_c - softplus(u_c - u_i); returns `(w, log_det)` as `argmax_forward`.

    Rounding cannot take another number up to that of the label: they are kept apart.
    """
    u = promote(u)
    at, top = _at(u, labels)
    gaps, log_det = softplus_inverse(_others(at, top - u))
    own = softplus_inverse(jnp.ones((len(u), 1), u.dtype))[1]
    return jnp.where(at, u, top - jnp.maximum(gaps, _least(top))), log_det - own


def _at(array, labels):
    """Where the label of each row is, and the number there, `[B, 1]`."""
    at = jnp.arange(array.shape[-1]) == jnp.asarray(labels)[:, None]
    return at, jnp.sum(jnp.where(at, array, 0.0), axis=-1, keepdims=True)


def _others(at, gaps):
    return jnp.where(at, 1.0, gaps)


def _least(top):
    """A gap that rounding keeps."""
    return jnp.finfo(top.dtype).eps * (1 + jnp.abs(jax.lax.stop_gradient(top)))


@recorded
def argmax(categories: int, flow: Flow | None = None) -> Surjection:
    """v = argmax_i w_i: a column of categories 0 … K - 1, of which w has K numbers.

        w = argmax_inverse(u, v),   ln q(w|v) = ln q(u|v) + ln|det ∂u/∂w|

    With `generative_surjection` the log_prob is a bound on the probability of a category, in nats.
    No order or distance of categories is assumed. With `inference_surjection`, v are the categories
    of w, and `model` gives their probability.

    Args:
        categories: K, at least 2.
        flow: from u `[B, K]` to the numbers of a `class_conditional_normal(K)`, both of which see
            the labels. Default: the identity, so that u is normal, with a mean and a deviation for
            each number and category.

    Raises:
        ValueError: an argument is not as above; w is not `[B, K]`; v is not `[B, 1]` of whole
            numbers in 0 … K - 1 (under `jit` such a one gives NaN).

    Source: Hoogeboom et al. 2021, Argmax flows and multinomial diffusion, section 3.

    Examples:
        >>> surjection = glowjax.surjections.argmax(3)
        >>> surjection.project(jnp.array([[0.1, -2.0, 0.7]])).tolist()
        [[2.0]]
    """
    check_integer("categories", categories, 2)
    flow = as_flow(Unchanged()) if flow is None else checked("flow", flow)
    noise = density(flow, (categories,), class_conditional_normal(categories))

    def parts(w):
        check_floats("w", w)
        wanted = f"of shape [B, {categories}]"
        require(jnp.shape(w)[1:] == (categories,), "w", jnp.shape(w), wanted)
        w = promote(w)
        return w, jnp.argmax(w, axis=-1)

    def project(w):
        w, labels = parts(w)
        return labels[:, None].astype(w.dtype)

    def init(key, w):
        w, labels = parts(w)
        return noise.init(key, argmax_forward(w, labels)[0], labels)

    def init_from_projected(key, v):
        labels = _labels(v, categories)
        return noise.init_from_base(key, len(labels), labels)

    def draw(params, key, v):
        labels = _labels(v, categories)
        u, log_q = noise.sample_and_log_prob(params, key, len(labels), labels)
        w, log_det = argmax_inverse(u, labels)
        return w, log_q - log_det

    def log_prob(params, w):
        w, labels = parts(w)
        u, log_det = argmax_forward(w, labels)
        return noise.log_prob(params, u, labels) + log_det

    return Surjection(init, init_from_projected, project, draw, log_prob)


def _labels(v, categories):
    labels = whole_numbers("v", v, categories)
    require(labels.shape[1] == 1, "v", labels.shape, "of shape [B, 1]")
    return labels[:, 0]
