"""Sorting, of data whose order means nothing."""

import functools
import math

import jax
import jax.numpy as jnp

from glowjax.arrays import per_example, promote
from glowjax.checks import check_floats
from glowjax.densities.surjection import Surjection
from glowjax.expression import recorded


@recorded
def sorting() -> Surjection:
    """v = w in increasing order along the last axis, where any order of w is equally likely.

        ln q(w|v) = -ln K!   for each vector of K numbers

    With `inference_surjection` the density does not depend on the order, and is exact. The model is
    of vectors that increase: begin its flow with `preprocess.ordered`. With `generative_surjection`
    data are ordered, and the log_prob is a bound. It has no parameters.

    Raises:
        ValueError: w or v is not a batch of floats.

    Source: Nielsen et al. 2020, table 1: sorting, and appendix C.

    Examples:
        >>> glowjax.surjections.sorting().project(jnp.array([[3.0, 1.0, 2.0]])).tolist()
        [[1.0, 2.0, 3.0]]
    """

    def init(key, w):
        check_floats("w", w)
        return {}

    def project(w):
        check_floats("w", w)
        return jnp.sort(promote(w), axis=-1)

    def draw(params, key, v):
        check_floats("v", v)
        shuffle = functools.partial(jax.random.permutation, axis=-1, independent=True)
        return shuffle(key, promote(v)), log_prob(params, v)

    def log_prob(params, w):
        check_floats("w", w)
        w = promote(w)
        vectors = math.prod(w.shape[1:-1])
        return per_example(jnp.asarray(-vectors * math.lgamma(w.shape[-1] + 1), w.dtype), w)

    return Surjection(init, init, project, draw, log_prob)
