"""Max-pooling, which keeps the largest number of each group."""

import math

import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.squeeze import squeeze_forward, squeeze_inverse
from glowjax.checks import check_floats, check_integer, require
from glowjax.compose import chain, passing_by
from glowjax.densities.density import density
from glowjax.densities.surjection import Surjection
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow, checked
from glowjax.preprocess.positive import exp


@recorded
def max_pooling(window: int = 2, flow: Flow | None = None) -> Surjection:
    """v = the largest number of each group of K: squares of an image, or neighbours in a vector.

        ln q(w|v) = -M·ln K + ln p(d|v),   d = v - the K - 1 others,  M the number of groups

    Any place in a group is equally likely to have the largest number. The distances d above 0 have
    the density of exp(flow⁻¹(ε)), ε from N(0, I).

    With `inference_surjection` the density of data w is exact. It is 0 where two numbers of a group
    are equally the largest, so dequantize whole numbers first. With `generative_surjection` the
    log_prob of maxima is a bound.

    Args:
        window: f, at least 2. Images `[B, f·h, f·w, C]` have squares of K = f² numbers and become
            `[B, h, w, C]`; vectors `[B, f·D]` have groups of K = f and become `[B, D]`.
        flow: of ln d, of the shape of v with (K - 1)·C in the place of C. Its context is v, if it
            takes one. Default: an `ActNorm`, so that distances are log-normal and independent.

    Raises:
        ValueError: an argument is not as above; w is not as above.

    Source: Nielsen et al. 2020, table 1: maximum value, and section 5.2.

    Examples:
        >>> pooling = glowjax.surjections.max_pooling()
        >>> pooling.project(jnp.array([[1.0, 3.0, 2.0, 0.0]])).tolist()
        [[3.0, 2.0]]
        >>> pooling.project(jnp.zeros((5, 4, 6, 3))).shape
        (5, 2, 3, 3)
    """
    check_integer("window", window, 2)
    flow = as_flow(ActNorm()) if flow is None else checked("flow", flow)
    flow = passing_by(chain(positive=exp(), flow=flow))

    def split(w):
        """The largest number of each group, and the distances of the others, in order after it."""
        groups = _groups(w, window)
        k = jnp.argmax(groups, axis=-1, keepdims=True)
        groups = jnp.take_along_axis(groups, _turned(k, groups.shape[-1]), axis=-1)
        v, others = groups[..., 0], groups[..., 1:]
        return v, (v[..., None] - others).reshape(*v.shape[:-1], -1)

    def distances(v):
        others = window ** (2 if v.ndim == 4 else 1) - 1
        return density(flow, (*v.shape[1:-1], others * v.shape[-1]))

    def place(v):
        """ln q of the places of the largest numbers."""
        return -sum_event(jnp.full_like(v, math.log(window ** (2 if v.ndim == 4 else 1))))

    def init(key, w):
        v, d = split(w)
        return distances(v).init(key, d, v)

    def init_from_projected(key, v):
        v = _checked("v", v)
        return distances(v).init_from_base(key, len(v), v)

    def draw(params, key, v):
        v = _checked("v", v)
        key, place_key = jax.random.split(key)
        d, log_q = distances(v).sample_and_log_prob(params, key, len(v), v)
        others = v[..., None] - d.astype(v.dtype).reshape(*v.shape, -1)
        groups = jnp.concatenate([v[..., None], others], axis=-1)
        size = groups.shape[-1]
        k = jax.random.randint(place_key, (*v.shape, 1), 0, size)
        groups = jnp.take_along_axis(groups, _turned(-k, size), axis=-1)
        return _ungrouped(groups, window), place(v) + log_q

    def log_prob(params, w):
        v, d = split(w)
        return place(v) + distances(v).log_prob(params, d, v)

    def project(w):
        return jnp.max(_groups(w, window), axis=-1)

    return Surjection(init, init_from_projected, project, draw, log_prob)


def _turned(k, size):
    """Indices that bring the k-th of each group to its front, and the others round after it."""
    return (jnp.arange(size) + k) % size


def _checked(name, array):
    check_floats(name, array)
    shape = jnp.shape(array)
    require(len(shape) in (2, 4), name, shape, "of shape [B, D] or [B, H, W, C]")
    return promote(array)


def _groups(w, window):
    """`[B, D, K]` of vectors, and `[B, h, w, C, K]` of images."""
    w = _checked("w", w)
    sizes = w.shape[1:-1] or w.shape[1:]
    wanted = f"of sizes that {window} divides, of an image or a vector"
    require(all(size % window == 0 for size in sizes), "w", w.shape, wanted)
    if w.ndim == 4:
        w, _ = squeeze_forward(w, factor=window)
        return w.reshape(*w.shape[:-1], -1, window**2)
    return w.reshape(len(w), -1, window)


def _ungrouped(groups, window):
    flat = groups.reshape(*groups.shape[:-2], -1)
    return squeeze_inverse(flat, factor=window)[0] if flat.ndim == 4 else flat
