"""Densities: a flow and a base distribution, with log-probabilities and samples."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from glowjax.arrays import split_key
from glowjax.checks import (
    NON_NEGATIVE,
    check_array,
    check_event_shape,
    check_in,
    check_key,
    check_positive,
)
from glowjax.compose import passing_by
from glowjax.densities.bases import Base, distrax_base, standard_normal
from glowjax.densities.standardized import taking_standardized
from glowjax.expression import expressed, recorded
from glowjax.flow import Flow, checked


@expressed
class Density(NamedTuple):
    """A normalized density of data, as pure functions.

        init(key, x, context=None)                                 -> params
        init_from_base(key, n, context=None)                       -> params, without data
        log_prob(params, x, context=None, key=None)                -> [B], nats
        sample(params, key, n, temperature=1.0, context=None)      -> x, n of them
        sample_and_log_prob(params, key, n, context=None)          -> x, log_prob of each
        encode(params, x, context=None)                            -> z
        encode_and_log_prob(params, x, context=None, key=None)     -> z, log_prob of x
        decode(params, z, context=None)                            -> x

    `params` are the flow's, or the pair of the flow's and the base's where the base has any; or
    either of them in `Standardized`, which `fit` returns for data in other units.
    `sample_and_log_prob` goes through the flow once, from the base, and is what reverse KL needs.
    `fixed_units` is the flow's.
    """

    init: Callable[..., Any]
    init_from_base: Callable[..., Any]
    log_prob: Callable[..., jax.Array]
    sample: Callable[..., jax.Array]
    sample_and_log_prob: Callable[..., tuple[jax.Array, jax.Array]]
    encode: Callable[..., Any]
    encode_and_log_prob: Callable[..., tuple[Any, jax.Array]]
    decode: Callable[..., Any]
    fixed_units: bool = False


@recorded
def density(flow: Flow, event_shape: Sequence[int], base: Any = None) -> Density:
    """The density p(x) = base(z)·|det ∂z/∂x|, z = flow.forward(x).

    Args:
        flow: from data to latents.
        event_shape: of one example of x, without the batch axis.
        base: a `Base`; or a distribution of distrax or TensorFlow Probability, of scalars (then of
            every number of z, independently) or of whole events of z; default: the standard normal.

    A context goes to the flow and the base as far as they take one, and is refused if neither does.

    Raises:
        ValueError: x is not `[B, *event_shape]`; n < 1; a negative temperature; a context that is
            not one for each example, or that none takes; the flow cannot be initialised from its
            latents.
    """
    flow = checked("flow", flow)
    event_shape = check_event_shape(event_shape)
    base = standard_normal() if base is None else base
    base = base if isinstance(base, Base) else distrax_base(base)
    flow = passing_by(flow) if base.takes_context else flow

    def parts(params):
        return params if base.init else (params, None)

    def check(x):
        check_array("x", x)
        if jnp.shape(x)[1:] != event_shape or jnp.ndim(x) != 1 + len(event_shape):
            due = ", ".join(map(str, ("B", *event_shape)))
            raise ValueError(f"x must be of shape [{due}], got {jnp.shape(x)}")

    def check_draws(n, context):
        check_positive(n=n)
        for leaf in jax.tree.leaves(context):
            if jnp.shape(leaf)[:1] != (n,):
                raise ValueError(
                    f"context must have one row per sample, n={n}, got shape {jnp.shape(leaf)}"
                )

    def unused_key():  # where an estimated log-determinant, which needs one, is dropped
        return jax.random.key(0)

    def latents(params, n, context, dtype):
        """Shapes of the latents of n examples."""
        x = jax.ShapeDtypeStruct((n, *event_shape), dtype)
        return jax.eval_shape(flow.forward, params, x, context, unused_key())[0]

    def init(key, x, context=None):
        check(x)
        flow_key, base_key = split_key(key)
        params = flow.init(flow_key, x, context)
        if base.init is None:
            return params
        return params, base.init(base_key, flow.forward(params, x, context, flow_key)[0])

    def init_from_base(key, n, context=None):
        check_draws(n, context)
        if flow.init_inverse is None:
            raise ValueError("flow has no init_inverse: initialise it on data, with init")
        flow_key, base_key, draw_key = split_key(key, 3)
        x = jax.ShapeDtypeStruct((n, *event_shape), jnp.result_type(float))
        abstract = jax.eval_shape(flow.init, flow_key, x, context)
        like = latents(abstract, n, context, x.dtype)
        z = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        base_params = None if base.init is None else base.init(base_key, z)
        z = base.sample(base_params, draw_key, like, 1.0, context)
        params = flow.init_inverse(flow_key, z, context)
        return params if base.init is None else (params, base_params)

    def encode_and_log_prob(params, x, context=None, key=None):
        check(x)
        flow_params, base_params = parts(params)
        z, log_det = flow.forward(flow_params, x, context, key)
        return z, base.log_prob(base_params, z, context) + log_det

    def log_prob(params, x, context=None, key=None):
        return encode_and_log_prob(params, x, context, key)[1]

    def draw(params, key, n, temperature, context):
        """Latents of n samples."""
        check_key("key", key)
        check_draws(n, context)
        flow_params, base_params = parts(params)
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        like = latents(flow_params, n, context, dtype)
        return base.sample(base_params, key, like, temperature, context)

    def sample(params, key, n, temperature=1.0, context=None):
        if not isinstance(temperature, Tracer):
            check_in(NON_NEGATIVE, temperature=temperature)
        z = draw(params, key, n, temperature, context)
        return flow.inverse(parts(params)[0], z, context, unused_key())[0]

    def sample_and_log_prob(params, key, n, context=None):
        key, flow_key = split_key(key)
        z = draw(params, key, n, 1.0, context)
        flow_params, base_params = parts(params)
        x, log_det = flow.inverse(flow_params, z, context, flow_key)
        return x, base.log_prob(base_params, z, context) - log_det

    def encode(params, x, context=None):
        check(x)
        return flow.forward(parts(params)[0], x, context, unused_key())[0]

    def decode(params, z, context=None):
        return flow.inverse(parts(params)[0], z, context, unused_key())[0]

    return taking_standardized(
        Density(
            init=init,
            init_from_base=init_from_base,
            log_prob=log_prob,
            sample=sample,
            sample_and_log_prob=sample_and_log_prob,
            encode=encode,
            encode_and_log_prob=encode_and_log_prob,
            decode=decode,
            fixed_units=flow.fixed_units,
        )
    )
