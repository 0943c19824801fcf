"""Rounding, which makes whole numbers: dequantization as a surjection."""

import math

import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.checks import check_floats, check_integer, require
from glowjax.densities.dequantizers import (
    noise_density,
    uniform_dequantizer,
    variational_dequantizer,
)
from glowjax.densities.quantization import bin_centres, quantize
from glowjax.densities.surjection import Surjection
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.surjections.whole import whole_numbers


@recorded
def rounding(levels: int, flow: Flow | None = None) -> Surjection:
    """v = ⌊(w + ½)·levels⌋: columns of counts or grades 0 … levels - 1, from w in (-½, ½).

        w = (v + u)/levels - ½,   ln q(w|v) = ln q(u|v) + D·ln levels

    u is the noise of `uniform_dequantizer`, or, with a flow, of `variational_dequantizer`. With
    `generative_surjection` the log_prob is a bound on the probability of v, in nats. Neighbouring
    numbers share probability, so take it where their order means something, and `argmax` elsewhere.
    `dequantized` is the same for images; its log_prob lacks the D·ln levels, as bits/dim need it.

    Args:
        levels: how many, in 2..256.
        flow: of u, see `variational_dequantizer`. Default: uniform noise.

    Raises:
        ValueError: an argument is not as above; w or v is not `[B, D]`; v is not of whole numbers
            in 0 … levels - 1 (under `jit` such a one gives NaN).

    Sources: Theis et al. 2016, section 3.1; Ho et al. 2019, section 3.1; Nielsen et al. 2020,
    table 1: rounding.

    Examples:
        >>> glowjax.surjections.rounding(4).project(jnp.array([[-0.4, 0.3]])).tolist()
        [[0.0, 3.0]]
    """
    check_integer("levels", levels, 2, 256)
    if flow is None:
        dequantizer = uniform_dequantizer(levels=levels)
    else:
        dequantizer = variational_dequantizer(flow, levels=levels)

    def binned(w):
        check_floats("w", w)
        require(jnp.ndim(w) == 2, "w", jnp.shape(w), "of shape [B, D]")
        w = promote(w)
        return w, quantize(w, levels=levels)

    def project(w):
        w, v = binned(w)
        return v.astype(w.dtype)

    def init_from_projected(key, v):
        return dequantizer.init(key, whole_numbers("v", v, levels))

    def in_bins(log_q, w):
        return log_q + math.log(levels) * w.shape[1]

    def draw(params, key, v):
        w, log_q = dequantizer.sample(params, key, whole_numbers("v", v, levels))
        return w, in_bins(log_q, w)

    def log_prob(params, w):
        w, v = binned(w)
        if flow is None:
            return in_bins(jnp.zeros(len(w), w.dtype), w)
        u, noise = (w + 0.5) * levels - v, noise_density(flow, w.shape[1:])
        centres = bin_centres(v, levels=levels)
        return in_bins(noise.log_prob({"logit": {}, "flow": params}, u, centres), w)

    return Surjection(
        lambda key, w: init_from_projected(key, project(w)),
        init_from_projected,
        project,
        draw,
        log_prob,
    )
