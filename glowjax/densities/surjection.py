"""Surjections, which map many to one, and the densities that they make: exact, or a bound."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from glowjax.arrays import split_key
from glowjax.checks import require
from glowjax.densities.density import Density
from glowjax.expression import expressed, recorded


@expressed
class Surjection(NamedTuple):
    """A map v = project(w) of many w to one v, and a distribution q(w|v) of the w that become v.

        init(key, w)                   -> params
        init_from_projected(key, v)    -> params, where v alone is known
        project(w)                     -> v
        draw(params, key, v)           -> w, log_q of each
        log_prob(params, w)            -> log_q = ln q(w | v = project(w)), [B], nats

    It is no bijection, and so no `Flow`: no log-determinant could be exact both ways. What it adds
    to ln p is exact one way, and a bound the other way:

        `inference_surjection`    data are w: ln p(w) = ln p(v) + ln q(w|v), exact
        `generative_surjection`   data are v: ln p(v) ≥ E_q[ln p(w) - ln q(w|v)], a bound

    w and v are arrays `[B, ...]`; q is a density, or a probability where there are finitely many w,
    such that q(w|v)·p(v) is the density of w. `pathwise` says that gradients of params pass through
    `draw`, as those of a random sign do not.

    Source: Nielsen et al. 2020 (SurVAE flows), section 3 and table 1.
    """

    init: Callable[..., Any]
    init_from_projected: Callable[..., Any]
    project: Callable[[Any], jax.Array]
    draw: Callable[..., tuple[jax.Array, jax.Array]]
    log_prob: Callable[..., jax.Array]
    pathwise: bool = True


@recorded
def inference_surjection(model: Density, surjection: Surjection) -> Density:
    """The density of data w whose v = project(w) has the density `model`. Its log_prob is exact.

        ln p(w) = ln p(v) + ln q(w|v)

    A sample is a draw of w given a sample of v. It is exact as far as `model` is: if its log_prob
    is a `bound`, this one is too. Params are the pair of those of the model and of the surjection.

    Args:
        model: of v; a context is its.
        surjection: what takes data to v, such as `surjections.sorting`.

    Raises:
        ValueError: `surjection` is none; `decode`, since many w have one latent.

    Source: Nielsen et al. 2020, section 3.1: inference surjections.

    Examples:
        >>> ordered = glowjax.chain(glowjax.preprocess.ordered(), glowjax.maf(steps=1, width=4))
        >>> model = glowjax.density(ordered, (3,))
        >>> model = glowjax.inference_surjection(model, glowjax.surjections.sorting())
        >>> x = jax.random.normal(jax.random.key(0), (8, 3))
        >>> params = model.init(jax.random.key(1), x)
        >>> log_p, of_reversed = (model.log_prob(params, w) for w in (x, x[:, ::-1]))
        >>> bool(jnp.all(log_p == of_reversed)), model.bound
        (True, False)
    """
    _check(model, surjection)

    def init(key, x, context=None):
        key, model_key = split_key(key)
        return model.init(model_key, surjection.project(x), context), surjection.init(key, x)

    def init_from_base(key, n, context=None):
        key, model_key, draw_key = split_key(key, 3)
        params = model.init_from_base(model_key, n, context)
        v = model.sample(params, draw_key, n, context=context)
        return params, surjection.init_from_projected(key, v)

    def log_prob(params, x, context=None, key=None):
        return encode_and_log_prob(params, x, context, key)[1]

    def sample(params, key, n, temperature=1.0, context=None):
        key, model_key = split_key(key)
        v = model.sample(params[0], model_key, n, temperature, context)
        return surjection.draw(params[1], key, v)[0]

    def sample_and_log_prob(params, key, n, context=None):
        key, model_key = split_key(key)
        v, log_p = model.sample_and_log_prob(params[0], model_key, n, context)
        x, log_q = surjection.draw(params[1], key, v)
        return x, log_p + log_q

    def encode(params, x, context=None):
        return model.encode(params[0], surjection.project(x), context)

    def encode_and_log_prob(params, x, context=None, key=None):
        v = surjection.project(x)
        z, log_p = model.encode_and_log_prob(params[0], v, context, key)
        return z, log_p + surjection.log_prob(params[1], x)

    def decode(params, z, context=None):
        raise ValueError("z must be given by the way of sample: many x have the same latents")

    return Density(
        init=init,
        init_from_base=init_from_base,
        log_prob=log_prob,
        sample=sample,
        sample_and_log_prob=sample_and_log_prob,
        encode=encode,
        encode_and_log_prob=encode_and_log_prob,
        decode=decode,
        fixed_units=True,
        bound=model.bound,
    )


@recorded
def generative_surjection(model: Density, surjection: Surjection) -> Density:
    """The density of data v = project(w) where w has the density `model`. Its log_prob is a bound.

        log_prob = ln p(w) - ln q(w|v), w drawn from q(w|v):   at most ln p(v) on average

    So log_prob needs a key. The gap is KL(q(w|v) ‖ p(w|v)), which `fit` makes small with the rest,
    and `importance_weighted_log_prob` closes. Samples are those of the model, projected, and have
    the density p(v) itself. Where v is a category, p(v) is its probability. Params are the pair of
    those of the model and of the surjection.

    Args:
        model: of w; a context is its.
        surjection: what takes w to data, such as `surjections.argmax`; it must be `pathwise`.

    Raises:
        ValueError: an argument is not as above; `log_prob` without a key; `sample_and_log_prob`,
            since no draw given a sample is a bound from below; `encode`, which has no key.

    Sources: Nielsen et al. 2020, section 3.1: generative surjections; Chen et al. 2020 (VFlow);
    Hoogeboom et al. 2021 (argmax flows).

    Examples:
        >>> model = glowjax.density(glowjax.realnvp_mlp(steps=1, width=4), (3,))
        >>> model = glowjax.generative_surjection(model, glowjax.surjections.slicing(1))
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> params = model.init(jax.random.key(1), x)
        >>> model.log_prob(params, x, key=jax.random.key(2)).shape, model.bound
        ((8,), True)
    """
    _check(model, surjection)
    wanted = "pathwise: no gradient would reach its params through draws"
    require(surjection.pathwise, "surjection", surjection, wanted)

    def init(key, x, context=None):
        key, model_key, draw_key = split_key(key, 3)
        params = surjection.init_from_projected(key, x)
        w, _ = surjection.draw(params, draw_key, x)
        return model.init(model_key, w, context), params

    def init_from_base(key, n, context=None):
        key, model_key, draw_key = split_key(key, 3)
        params = model.init_from_base(model_key, n, context)
        return params, surjection.init(key, model.sample(params, draw_key, n, context=context))

    def log_prob(params, x, context=None, key=None):
        return encode_and_log_prob(params, x, context, key)[1]

    def sample(params, key, n, temperature=1.0, context=None):
        return surjection.project(model.sample(params[0], key, n, temperature, context))

    def sample_and_log_prob(params, key, n, context=None):
        raise ValueError("model must have an exact log_prob for this: here it is a bound")

    def encode(params, x, context=None):
        raise ValueError("x must be encoded by encode_and_log_prob, with a key: w is drawn")

    def encode_and_log_prob(params, x, context=None, key: Any = None):
        key, model_key = split_key(key)
        w, log_q = surjection.draw(params[1], key, x)
        z, log_p = model.encode_and_log_prob(params[0], w, context, model_key)
        return z, log_p - log_q

    def decode(params, z, context=None):
        return surjection.project(model.decode(params[0], z, context))

    return Density(
        init=init,
        init_from_base=init_from_base,
        log_prob=log_prob,
        sample=sample,
        sample_and_log_prob=sample_and_log_prob,
        encode=encode,
        encode_and_log_prob=encode_and_log_prob,
        decode=decode,
        fixed_units=True,
        bound=True,
    )


def _check(model, surjection) -> None:
    require(isinstance(model, Density), "model", model, "a Density, as glowjax.density makes")
    wanted = "a Surjection, as glowjax.surjections has them"
    require(isinstance(surjection, Surjection), "surjection", surjection, wanted)
