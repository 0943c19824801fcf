"""Slicing, and its other way round, augmentation by noise (VFlow)."""

import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.checks import check_floats, check_positive, require
from glowjax.compose import passing_by
from glowjax.densities.density import density
from glowjax.densities.surjection import Surjection
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow, checked
from glowjax.preprocess.table import Unchanged


@recorded
def slicing(size: int, flow: Flow | None = None) -> Surjection:
    """v = w without the last `size` numbers e of its last axis, whose density given v is q(e|v).

        ln q(w|v) = ln N(flow(e; v); 0, I) + ln|det ∂flow/∂e|

    With `generative_surjection` it augments data by noise, as VFlow does: a flow of more columns
    bends and tears more than one of the data's, and the log_prob is a bound. With
    `inference_surjection` a part of the data leaves, as in `Split`, and the density is exact.

    Args:
        size: how many numbers, at least 1.
        flow: of e, `[B, ..., size]`; its context is v, if it takes one. Default: the identity, so
            that e is standard normal noise.

    Raises:
        ValueError: an argument is not as above; w is not `[B, ..., C]` with C above `size`.

    Sources: Chen et al. 2020, VFlow, section 3; Nielsen et al. 2020, table 1: slicing.

    Examples:
        >>> noise, v = glowjax.surjections.slicing(2), jnp.zeros((5, 3))
        >>> w, log_q = noise.draw(noise.init_from_projected(jax.random.key(0), v),
        ...                       jax.random.key(1), v)
        >>> w.shape, log_q.shape, noise.project(w).shape
        ((5, 5), (5,), (5, 3))
    """
    check_positive(size=size)
    flow = passing_by(as_flow(Unchanged()) if flow is None else checked("flow", flow))

    def noise(v):
        return density(flow, (*v.shape[1:-1], size))

    def parts(w):
        check_floats("w", w)
        wanted = f"of shape [B, ..., C] with C above {size}"
        require(jnp.shape(w)[-1] > size, "w", jnp.shape(w), wanted)
        w = promote(w)
        return w[..., :-size], w[..., -size:]

    def init(key, w):
        v, e = parts(w)
        return noise(v).init(key, e, v)

    def init_from_projected(key, v):
        check_floats("v", v)
        v = promote(v)
        return noise(v).init_from_base(key, len(v), v)

    def draw(params, key, v):
        check_floats("v", v)
        v = promote(v)
        e, log_q = noise(v).sample_and_log_prob(params, key, len(v), v)
        return jnp.concatenate([v, e.astype(v.dtype)], axis=-1), log_q

    def log_prob(params, w):
        v, e = parts(w)
        return noise(v).log_prob(params, e, v)

    return Surjection(init, init_from_projected, lambda w: parts(w)[0], draw, log_prob)
