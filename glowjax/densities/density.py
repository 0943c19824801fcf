"""Densities: a flow and a base distribution, with log-probabilities and samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    require,
)
from glowjax.compose import passing_by
from glowjax.densities.bases import Base, distrax_base, standard_normal
from glowjax.densities.batches import over_any_batch
from glowjax.densities.spaces import circular_base
from glowjax.densities.standardized import taking_standardized
from glowjax.expression import expressed, recorded
from glowjax.flow import Flow, checked, initialised


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

    x is `[B, *event]`. `log_prob` takes any number of batch axes, and a shape in place of n gives
    samples of as many: `sample(params, key, (2, 3))`. A context has these batch axes first.

    `params` are the flow's, or the pair of the flow's and the base's where the base has any; or
    either of them in `Standardized`, which `fit` returns for data in other units.
    `sample_and_log_prob` goes through the flow once, from the base, and is what reverse KL needs.
    `fixed_units` is the flow's. `bound` says that log_prob is not exact: it is a draw, by the key,
    whose mean is at most ln p(x). `importance_weighted_log_prob` comes closer. A `density` is exact
    as its flow is; `generative_surjection` and `dequantized` make bounds.
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
    bound: bool = False


@recorded
def density(flow: Flow, event_shape: Sequence[int], base: Any = None) -> Density:
    """The density p(x) = base(z)·|det ∂z/∂x|, z = flow.forward(x).

    Args:
        flow: from data to latents.
        event_shape: of one example of x, without the batch axis.
        base: a `Base`; or a distribution of distrax or TensorFlow Probability, of scalars (then of
            every number of z, independently) or of whole events of z; default: the standard normal,
            or `circular_base` of the spaces of the flow, where it has such.

    A context goes to the flow and the base as far as they take one, and is refused if neither does.

    Raises:
        ValueError: the base is in other spaces than the flow; x is not `[B, *event_shape]`; n < 1;
            a negative temperature; a context that is not one for each example, or that none takes;
            the flow cannot be initialised from its latents.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), event_shape=(2,))
        >>> x = jax.random.normal(jax.random.key(0), (8, 2))
        >>> params = model.init(jax.random.key(1), x)
        >>> model.log_prob(params, x).shape, model.sample(params, jax.random.key(2), 5).shape
        ((8,), (5, 2))
    """
    flow = checked("flow", flow)
    event_shape = check_event_shape(event_shape)
    base = _of_the_spaces_of(flow) if base is None else base
    base = base if isinstance(base, Base) else distrax_base(base)
    same = None in (base.spaces, flow.spaces) or base.spaces == flow.spaces
    require(same, "spaces of base", base.spaces, f"those of the flow, {flow.spaces}")
    flow = passing_by(flow) if base.takes_context else flow
    model = _OfFlow(flow, event_shape, base)
    standardized = taking_standardized(
        Density(
            init=model.init,
            init_from_base=model.init_from_base,
            log_prob=model.log_prob,
            sample=model.sample,
            sample_and_log_prob=model.sample_and_log_prob,
            encode=model.encode,
            encode_and_log_prob=model.encode_and_log_prob,
            decode=model.decode,
            fixed_units=flow.fixed_units,
        )
    )
    return over_any_batch(standardized, event_shape)


def _of_the_spaces_of(flow: Flow) -> Base:
    return circular_base(flow.spaces) if flow.spaces else standard_normal()


@dataclass(frozen=True, eq=False)
class _OfFlow:
    """The functions of a `Density`, of a flow, an event's shape and a base."""

    flow: Flow
    event_shape: tuple[int, ...]
    base: Base

    def init(self, key, x, context=None):
        self._check(x)
        flow_key, base_key = split_key(key)
        if self.base.init is None:
            return self.flow.init(flow_key, x, context)
        params, z = initialised(self.flow, flow_key, x, context)
        return params, self.base.init(base_key, z)

    def init_from_base(self, key, n, context=None):
        _check_draws(n, context)
        if self.flow.init_inverse is None:
            raise ValueError("flow has no init_inverse: initialise it on data, with init")
        flow_key, base_key, draw_key = split_key(key, 3)
        x = jax.ShapeDtypeStruct((n, *self.event_shape), jnp.result_type(float))
        abstract = jax.eval_shape(self.flow.init, flow_key, x, context)
        like = self._latents(abstract, n, context, x.dtype)
        z = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        base_params = None if self.base.init is None else self.base.init(base_key, z)
        z = self.base.sample(base_params, draw_key, like, 1.0, context)
        params = self.flow.init_inverse(flow_key, z, context)
        return params if self.base.init is None else (params, base_params)

    def log_prob(self, params, x, context=None, key=None):
        return self.encode_and_log_prob(params, x, context, key)[1]

    def sample(self, params, key, n, temperature=1.0, context=None):
        if not isinstance(temperature, Tracer):
            check_in(NON_NEGATIVE, temperature=temperature)
        return self.decode(params, self._draw(params, key, n, temperature, context), context)

    def sample_and_log_prob(self, params, key, n, context=None):
        key, flow_key = split_key(key)
        z = self._draw(params, key, n, 1.0, context)
        flow_params, base_params = self._parts(params)
        x, log_det = self.flow.inverse(flow_params, z, context, flow_key)
        return x, self.base.log_prob(base_params, z, context) - log_det

    def encode(self, params, x, context=None):
        self._check(x)
        return self.flow.forward(self._parts(params)[0], x, context, _unused_key())[0]

    def encode_and_log_prob(self, params, x, context=None, key=None):
        self._check(x)
        flow_params, base_params = self._parts(params)
        z, log_det = self.flow.forward(flow_params, x, context, key)
        return z, self.base.log_prob(base_params, z, context) + log_det

    def decode(self, params, z, context=None):
        return self.flow.inverse(self._parts(params)[0], z, context, _unused_key())[0]

    def _parts(self, params):
        """Parameters of the flow and of the base."""
        return params if self.base.init else (params, None)

    def _check(self, x):
        check_array("x", x)
        if jnp.shape(x)[1:] != self.event_shape or jnp.ndim(x) != 1 + len(self.event_shape):
            wanted = ", ".join(map(str, ("B", *self.event_shape)))
            raise ValueError(f"x must be of shape [{wanted}], got {jnp.shape(x)}")

    def _latents(self, params, n, context, dtype):
        """Shapes of the latents of n examples."""
        x = jax.ShapeDtypeStruct((n, *self.event_shape), dtype)
        return jax.eval_shape(self.flow.forward, params, x, context, _unused_key())[0]

    def _draw(self, params, key, n, temperature, context):
        """Latents of n samples."""
        check_key("key", key)
        _check_draws(n, context)
        flow_params, base_params = self._parts(params)
        numbers = jax.tree.leaves(params) or [jnp.zeros(())]
        dtype = jnp.result_type(jnp.float32, *numbers)
        like = self._latents(flow_params, n, context, dtype)
        return self.base.sample(base_params, key, like, temperature, context)


def _check_draws(n, context):
    check_positive(n=n)
    for leaf in jax.tree.leaves(context):
        if jnp.shape(leaf)[:1] != (n,):
            raise ValueError(
                f"context must have one row per sample, n={n}, got shape {jnp.shape(leaf)}"
            )


def _unused_key():
    """Where an estimated log-determinant, which needs a key, is dropped."""
    return jax.random.key(0)
