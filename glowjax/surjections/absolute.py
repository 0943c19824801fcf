"""The absolute value, of data that are as likely with either sign, or with signs of a net."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.checks import check_floats
from glowjax.densities.surjection import Surjection
from glowjax.expression import recorded


@recorded
def absolute_value(net: Callable[..., nn.Module] | None = None) -> Surjection:
    """v = |w|, of every number, whose signs are independent given v.

        ln q(w|v) = Σ_i ln σ(±net(v)_i), the sign that of w_i;   without a net Σ_i ln ½

    Without a net all signs are equally likely: the density is symmetric about 0 in every number.
    With `inference_surjection` it is exact, and the model is of numbers above 0: begin its flow
    with `preprocess.exp` or `preprocess.softplus`. With `generative_surjection` data are above 0,
    the log_prob is a bound, and a net is refused.

    Args:
        net: makes a Linen module from `features=`, such as `MLP`, which is called with v `[B, D]`
            and gives the logits of positive signs.

    Raises:
        ValueError: w or v is not a batch of floats.

    Source: Nielsen et al. 2020, table 1: absolute value, and appendix A.

    Examples:
        >>> surjection = glowjax.surjections.absolute_value()
        >>> surjection.project(jnp.array([[-2.0, 3.0]])).tolist()
        [[2.0, 3.0]]
    """

    def project(w):
        check_floats("w", w)
        return jnp.abs(promote(w))

    def init_from_projected(key, v):
        check_floats("v", v)
        return {} if net is None else net(features=v.shape[-1]).init(key, promote(v))["params"]

    def init(key, w):
        return init_from_projected(key, project(w))

    def log_odds(params, v):
        if net is None:
            return jnp.zeros_like(v)
        return promote(net(features=v.shape[-1]).apply({"params": params}, v))  # ty: ignore

    def draw(params, key, v):
        check_floats("v", v)
        v = promote(v)
        odds = log_odds(params, v)
        positive = jax.random.bernoulli(key, jax.nn.sigmoid(odds))
        return jnp.where(positive, v, -v), _signed(odds, positive)

    def log_prob(params, w):
        return _signed(log_odds(params, project(w)), promote(w) > 0)

    return Surjection(init, init_from_projected, project, draw, log_prob, pathwise=net is None)


def _signed(odds, positive):
    return sum_event(jax.nn.log_sigmoid(jnp.where(positive, odds, -odds)))
