"""Variational dequantization: the noise that makes images real-valued is learned (Flow++)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.bijections.logit import logit_forward, logit_inverse
from glowjax.checks import check_integer, require
from glowjax.compose import chain, passing_by
from glowjax.densities.density import Density, density
from glowjax.densities.quantization import (
    bin_centres,
    check_images,
    dequantize,
    one_key_each,
    place,
)
from glowjax.expression import expressed, recorded
from glowjax.flow import Flow, as_flow, checked

EDGE = 2.0**-14  # of a bin, kept free on either side


@expressed
class Dequantizer(NamedTuple):
    """A distribution q(u|v) of the noise u in (0, 1)^D that is added to images v.

        init(key, images)              -> params
        sample(params, key, images)    -> (x, log_q)

    images: `[B, ...]` integers in 0 … levels - 1; x = (v + u) / levels - ½, floats in (-½, ½);
    log_q: `[B]`, ln q(u|v) in nats, of u: that of uniform noise is 0. `key` is one key, or `[B]`
    keys, one an example.
    """

    init: Callable[..., Any]
    sample: Callable[..., tuple[jax.Array, jax.Array]]


@recorded
def uniform_dequantizer(*, levels: int = 256) -> Dequantizer:
    """Uniform noise, by `dequantize`: log_q = 0. No parameters.

    Raises:
        ValueError: `levels` is not a whole number in 2..256.
    """
    check_integer("levels", levels, 2, 256)

    def init(key, images):
        check_images(images, levels)
        return {}

    def sample(params, key, images):
        x = dequantize(key, images, levels=levels)
        return x, jnp.zeros(x.shape[:1], x.dtype)

    return Dequantizer(init, sample)


@recorded
def variational_dequantizer(flow: Flow, *, levels: int = 256) -> Dequantizer:
    """Noise u = σ(y), y = flow.inverse(ε; v), with ε from N(0, I); q(u|v) is `noise_density`.

    Its params are those of the flow.

    Args:
        flow: from y to ε, both of the shape of the images; its context is the images, as floats
            at the centres of their bins in (-½, ½). `dequantization_flow`, say.
        levels: grey levels of the images.

    Raises:
        ValueError: images as `dequantize` refuses them (under `jit`: NaN); the flow cannot be
            initialised from its latents.

    Source: Ho et al. 2019 (Flow++), section 3.1.
    """
    check_integer("levels", levels, 2, 256)
    flow = passing_by(checked("flow", flow))

    def init(key, images):
        centres = bin_centres(images, levels=levels)
        q = noise_density(flow, centres.shape[1:])
        return q.init_from_base(key, len(centres), centres)["flow"]

    def draw(params, key, images):
        centres = bin_centres(images, levels=levels)
        q = noise_density(flow, centres.shape[1:])
        u, log_q = q.sample_and_log_prob({"logit": {}, "flow": params}, key, len(centres), centres)
        return place(images, u, levels), log_q

    def sample(params, key, images):
        check_images(images, levels)
        if not one_key_each(key, jnp.shape(images)[0]):
            return draw(params, key, images)
        one = jax.vmap(functools.partial(draw, params))(key, jnp.asarray(images)[:, None])
        return jax.tree.map(lambda a: a[:, 0], one)

    return Dequantizer(init, sample)


@recorded
def noise_density(flow: Flow, event_shape: Sequence[int]) -> Density:
    """The density of u = δ + (1 - 2δ)·σ(y), y = flow.inverse(ε), ε from N(0, I), with δ = 2⁻¹⁴.

    On (δ, 1 - δ)^D it integrates to 1; outside it is 0, here NaN. With δ = 0, σ would round to 0
    or 1, and float32 would take v + u into the next bin; with δ, all u are at least as far from
    their bin's edges as the outermost of `dequantize`. Its params are
    `{"logit": {}, "flow": those of the flow}`.
    """
    return density(chain(logit=as_flow(_NoiseLogit()), flow=flow), event_shape)


class _NoiseLogit(nn.Module):
    """y = logit((u - δ) / (1 - 2δ)): `logit_forward` with an α below 0."""

    alpha = -EDGE / (1 - 2 * EDGE)

    def forward(self, x):
        return logit_forward(promote(x) - 0.5, self.alpha)

    def inverse(self, z):
        x, log_det = logit_inverse(z, self.alpha)
        return x + 0.5, log_det


def log_prob_bound(
    model: Density,
    dequantizer: Dequantizer,
    params: Any,
    key: Any,
    images: Any,
    context: Any = None,
) -> jax.Array:
    """bound = ln p(x) - ln q(u|v), u from q: below ln P(v) + D·ln levels on average, `[B]`, nats.

    It takes the place of ln p(x) in `bits_per_dim`, which subtracts D·ln levels, and with uniform
    noise it is ln p(x). `log_mean_exp` of n draws is a tighter bound, which rises with n.

    Args:
        model: p, of x in (-½, ½); `context` is its.
        dequantizer: q.
        params: the pair of theirs; gradients reach both.
        key, images: as for `Dequantizer`.

    Source: Ho et al. 2019 (Flow++), section 3.1, equation 12.
    """
    x, log_q = dequantizer.sample(params[1], key, images)
    return model.log_prob(params[0], x, context) - log_q


@recorded
def dequantized(model: Density, dequantizer: Dequantizer) -> Density:
    """Density and dequantizer as one, for `fit` on whole images: log_prob is `log_prob_bound`.

        fit(dequantized(model, dequantizer), images)

    Its params are the pair of theirs. `log_prob(params, images, context, key)` needs the key, of
    the noise; `init(key, images, context)` initialises the density on dequantized images. Samples
    and latents are the density's, of x in (-½, ½): `quantize` makes images of samples.

    Raises:
        ValueError: images as `dequantize` refuses them; there is no key; `init_from_base`, since
            the noise depends on images.
    """

    def init(key, images, context=None):
        noise_key, model_key, sample_key = jax.random.split(key, 3)
        noise = dequantizer.init(noise_key, images)
        x, _ = dequantizer.sample(noise, sample_key, images)
        return model.init(model_key, x, context), noise

    def init_from_base(key, n, context=None):
        raise ValueError("a dequantized density must be initialised on images, with init")

    def log_prob(params, images, context=None, key=None):
        require(key is not None, "key", key, "given: the noise is drawn by it")
        return log_prob_bound(model, dequantizer, params, key, images, context)

    def of_model(function):
        return lambda params, *args, **kwargs: function(params[0], *args, **kwargs)

    return Density(
        init=init,
        init_from_base=init_from_base,
        log_prob=log_prob,
        sample=of_model(model.sample),
        sample_and_log_prob=of_model(model.sample_and_log_prob),
        encode=of_model(model.encode),
        encode_and_log_prob=of_model(model.encode_and_log_prob),
        decode=of_model(model.decode),
        fixed_units=model.fixed_units,
        bound=True,
    )
