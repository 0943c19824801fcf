"""Wavelet flow (Yu et al. 2020): an image at a low resolution, and details given those below."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from glowjax.arrays import AnyArray
from glowjax.bijections.haar import Haar, haar_forward
from glowjax.checks import check_positive, require
from glowjax.compose import invert, multiscale
from glowjax.expression import recorded
from glowjax.flow import Flow, Init, as_flow, checked, initialised


class WaveletLevel(NamedTuple):
    """The Haar transform of images of twice the size, in its two parts."""

    details: jax.Array  # [B, h, w, 3·C]
    low: jax.Array  # [B, h, w, C]


def wavelet_levels(x: AnyArray, levels: int) -> list[WaveletLevel]:
    """The Haar transform of x, then that of its low part, and so on: the finest level first.

    Args:
        x: `[B, H, W, C]`, H and W divisible by 2^levels.
        levels: how often.

    Returns:
        Of each level the details `[B, h, w, 3·C]` and the low part `[B, h, w, C]`.

    Raises:
        ValueError: an argument is not as above.

    Examples:
        >>> levels = glowjax.wavelet_levels(jnp.zeros((2, 8, 8, 1)), 2)
        >>> [(level.details.shape, level.low.shape) for level in levels]
        [((2, 4, 4, 3), (2, 4, 4, 1)), ((2, 2, 2, 3), (2, 2, 2, 1))]
    """
    check_positive(levels=levels)
    found: list[WaveletLevel] = []
    for _ in range(levels):
        found.append(_parted(haar_forward(found[-1].low if found else x)[0]))
    return found


@recorded
def wavelet_flow(details: Sequence[Flow], low: Flow) -> Flow:
    """Wavelet flow: images `[B, H, W, C]` -> a latent of each level's details, and one of the rest.

        ln p(x) = ln p(low_n) + Σ_i ln p(details_i | low_i)

    where low_i and details_i are the orthonormal Haar transform of low_{i-1}, and low_0 is x. The
    transform keeps volumes, so that log_det is the sum of those of the parts. No part needs what
    another learned: each can be trained alone, also at the same time as the others, as

        density(details[i], shape)    on wavelet_levels(x, n)[i].details, with its low as context
        density(low, shape)           on wavelet_levels(x, n)[-1].low

    Args:
        details: of each level a flow of `[B, h, w, 3·C]`, the finest first, that takes the images
            `[B, h, w, C]` of the same size as its context; one that takes none has details that do
            not depend on them.
        low: a flow of the last low part, which may be a multiscale one. It takes no context.

    Returns:
        A flow whose params are `{"level1": {}, "split1": of details[0], "level2": {}, …, "levelN":
        of low}`.

    Raises:
        ValueError: an argument is not as above.

    Source: Yu et al. 2020, Wavelet flow: fast training of high resolution normalizing flows.

    Examples:
        >>> details = glowjax.as_flow(glowjax.AffineCoupling(glowjax.ResNet))
        >>> flow = glowjax.wavelet_flow([details], low=glowjax.as_flow(glowjax.ActNorm()))
        >>> x = jnp.zeros((2, 4, 4, 1))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> [latent.shape for latent in z]
        [(2, 2, 2, 3), (2, 2, 2, 1)]
    """
    require(len(details) > 0, "details", details, "one flow at least")
    splits = [_split(checked(f"details[{i}]", flow)) for i, flow in enumerate(details)]
    return multiscale([as_flow(Haar()) for _ in splits] + [low], splits)


def _split(flow: Flow) -> Flow:
    """The Haar transform of images -> the latents of its details, and its low part."""

    def context(low):
        return low if flow.takes_context else None

    def init(key, h, _=None):
        details, low = _parted(h)
        params, z = initialised(flow, key, details, context(low))
        return params, (z, low)

    def forward(params, h, _=None, key=None):
        details, low = _parted(h)
        z, log_det = flow.forward(params, details, context(low), key)
        return (z, low), log_det

    def inverse(params, z, _=None, key=None):
        z, low = z
        details, log_det = flow.inverse(params, z, context(low), key)
        return jnp.concatenate([low, details], axis=-1), log_det

    def init_inverse(key, z, _=None):
        z, low = z
        params, details = initialised(invert(flow), key, z, context(low))
        return params, jnp.concatenate([low, details], axis=-1)

    return Flow(
        Init(init),
        forward,
        inverse,
        Init(init_inverse),
        takes_context=False,
        fixed_units=flow.fixed_units,
    )


def _parted(h: jax.Array) -> WaveletLevel:
    channels = h.shape[-1] // 4
    return WaveletLevel(h[..., channels:], h[..., :channels])
