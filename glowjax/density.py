"""Densities: a flow and a base distribution, with log-probabilities and samples."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from glowjax.arrays import check_event_shape, check_positive, promote, sum_event
from glowjax.flow import Flow


class Base(NamedTuple):
    """A distribution of latents `z`, an array `[B, ...]` or a tuple of them.

        log_prob(params, z)                       -> [B], nats
        sample(params, key, like, temperature)    -> z of the shapes of `like`

    `init(key, z) -> params` is None where there is nothing to learn; then `params` is None too.
    """

    log_prob: Callable[..., jax.Array]
    sample: Callable[..., Any]
    init: Callable[..., Any] | None = None


class Density(NamedTuple):
    """A normalized density of data, as pure functions.

        init(key, x, context=None)                                 -> params
        log_prob(params, x, context=None, key=None)                -> [B], nats
        sample(params, key, n, temperature=1.0, context=None)      -> x, n of them
        encode(params, x, context=None)                            -> z
        decode(params, z, context=None)                            -> x

    `params` are the flow's, or the pair of the flow's and the base's where the base has any.
    """

    init: Callable[..., Any]
    log_prob: Callable[..., jax.Array]
    sample: Callable[..., jax.Array]
    encode: Callable[..., Any]
    decode: Callable[..., jax.Array]


def density(flow: Flow, event_shape: Sequence[int], base: Any = None) -> Density:
    """The density p(x) = base(z)·|det ∂z/∂x|, z = flow.forward(x).

    Args:
        flow: from data to latents.
        event_shape: of one example of x, without the batch axis.
        base: a `Base`; or a distrax distribution, of scalars (then of every number of z,
            independently) or of whole events of z; default: the standard normal.

    Raises:
        ValueError: x is not `[B, *event_shape]`; n < 1; a negative temperature; a context that is
            not one for each example.
    """
    event_shape = check_event_shape(event_shape)
    base = standard_normal() if base is None else base
    base = base if isinstance(base, Base) else distrax_base(base)

    def parts(params):
        return params if base.init else (params, None)

    def check(x):
        if jnp.shape(x)[1:] != event_shape or jnp.ndim(x) != 1 + len(event_shape):
            due = ", ".join(map(str, ("B", *event_shape)))
            raise ValueError(f"x must be of shape [{due}], got {jnp.shape(x)}")

    def init(key, x, context=None):
        check(x)
        flow_key, base_key = jax.random.split(key)
        params = flow.init(flow_key, x, context)
        if base.init is None:
            return params
        return params, base.init(base_key, flow.forward(params, x, context, flow_key)[0])

    def log_prob(params, x, context=None, key=None):
        check(x)
        flow_params, base_params = parts(params)
        z, log_det = flow.forward(flow_params, x, context, key)
        return base.log_prob(base_params, z) + log_det

    def sample(params, key, n, temperature=1.0, context=None):
        check_positive(n=n)
        if not isinstance(temperature, Tracer) and not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        for leaf in jax.tree.leaves(context):
            if jnp.shape(leaf)[:1] != (n,):
                raise ValueError(
                    f"context must have one row per sample, n={n}, got shape {jnp.shape(leaf)}"
                )
        flow_params, base_params = parts(params)
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        x = jax.ShapeDtypeStruct((n, *event_shape), dtype)
        like, _ = jax.eval_shape(flow.forward, flow_params, x, context)
        z = base.sample(base_params, key, like, temperature)
        return flow.inverse(flow_params, z, context)[0]

    def encode(params, x, context=None):
        check(x)
        return flow.forward(parts(params)[0], x, context)[0]

    def decode(params, z, context=None):
        return flow.inverse(parts(params)[0], z, context)[0]

    return Density(init, log_prob, sample, encode, decode)


def standard_normal() -> Base:
    """N(0, I) over all latents; temperature T samples N(0, T²·I)."""

    def log_prob(_, z):
        return _sum_leaves(lambda a: -0.5 * (jnp.square(a) + jnp.log(2 * jnp.pi)), z)

    def sample(_, key, like, temperature):
        return jax.tree.map(
            lambda k, a: temperature * jax.random.normal(k, a.shape, a.dtype),
            _key_tree(key, like),
            like,
        )

    return Base(log_prob, sample)


def distrax_base(distribution: Any) -> Base:
    """A fixed distrax distribution as a base; temperature scales samples around its mean.

    Raises:
        ValueError: `distribution` is none, or has a batch shape; z is not of its event shape.
    """
    if not hasattr(distribution, "batch_shape"):
        raise ValueError(f"base must be a Base or a distrax distribution, got {distribution!r}")
    if distribution.batch_shape:
        raise ValueError(
            f"base must have an empty batch shape, got {distribution.batch_shape}"
            " (distrax.Independent makes it an event shape)"
        )
    scalar = not distribution.event_shape

    def check(z):
        shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(z)]
        if not scalar and shapes != [tuple(distribution.event_shape)]:
            raise ValueError(
                f"base must have the event shape of z, {shapes}, got {distribution.event_shape}"
            )

    def log_prob(_, z):
        check(z)
        return _sum_leaves(distribution.log_prob, z) if scalar else distribution.log_prob(z)

    def sample(_, key, like, temperature):
        check(like)

        def draw(k, a):
            shape = a.shape if scalar else a.shape[:1]
            x = distribution.sample(seed=k, sample_shape=shape).astype(a.dtype)
            if isinstance(temperature, float | int) and temperature == 1:
                return x  # not every distribution has a mean
            mean = distribution.mean()
            return mean + temperature * (x - mean)

        return jax.tree.map(draw, _key_tree(key, like), like)

    return Base(log_prob, sample)


def _sum_leaves(log_prob, z):
    return sum(sum_event(promote(log_prob(a))) for a in jax.tree.leaves(z))


def _key_tree(key, tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(list(jax.random.split(key, len(leaves))))
