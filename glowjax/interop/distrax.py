"""Flows as bijectors of distrax, and bijectors of distrax and TensorFlow Probability as flows.

    bijector = to_distrax(flow, params, event_ndims=1)
    data = distrax.Transformed(base, distrax.Inverse(bijector))
    flow = from_distrax(distrax.Lambda(jnp.sinh), event_ndims=1)

A flow's forward gives latents, so that the base of `data` is that of the latents.
"""

import functools
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from glowjax.checks import check_integer, described, require
from glowjax.expression import recorded
from glowjax.flow import Flow, checked
from glowjax.interop.batches import over_batches


class FlowBijector(distrax.Bijector):
    """A flow with its parameters: `forward` is the flow's, from data to latents.

    Args:
        flow: from one array to one of as many axes.
        params: its parameters.
        event_ndims: axes of an event: 1 for vectors, 3 for images.
        context: what the flow is conditioned on: rows for each of the examples, in one batch axis.

    Raises:
        ValueError: the flow makes more than one array of latents, as a multiscale flow does.
    """

    def __init__(self, flow: Flow, params: Any, event_ndims: int, context: Any = None):
        super().__init__(event_ndims_in=event_ndims)
        self._flow, self._flow_params, self._context = flow, params, context

    def forward_and_log_det(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """`(z, log|det ∂z/∂x|)`."""
        return self._apply(self._flow.forward, x)

    def inverse_and_log_det(self, y: Any) -> tuple[jax.Array, jax.Array]:
        """`(x, log|det ∂x/∂z|)`."""
        return self._apply(self._flow.inverse, y)

    def same_as(self, other: distrax.Bijector) -> bool:
        """Whether the two are one flow with the same parameters."""
        return (
            isinstance(other, FlowBijector)
            and self._flow is other._flow
            and self._flow_params is other._flow_params
            and self._context is other._context
        )

    def _apply(self, function, array):
        def one_batch(array):
            out, log_det = function(self._flow_params, array, self._context)
            single = isinstance(out, jax.Array)
            wanted = "one with a single array of latents"
            require(single, "flow", f"one that makes {described(out)}", wanted)
            return out, log_det

        return over_batches(one_batch, array, self.event_ndims_in)


def to_distrax(
    flow: Flow, params: Any, *, event_ndims: int = 1, context: Any = None
) -> FlowBijector:
    """A flow as a `distrax.Bijector`, from data to latents.

    Args:
        flow, params, event_ndims, context: see `FlowBijector`.

    Raises:
        ValueError: `flow` is none, or `event_ndims` is no number of axes; later, when it is
            applied: the flow has several arrays of latents, as Glow has.
    """
    flow = checked("flow", flow)
    check_integer("event_ndims", event_ndims, 0)
    return FlowBijector(flow, params, event_ndims, context)


@recorded
def from_distrax(bijector: Any, *, event_ndims: int = 1) -> Flow:
    """A bijector as a flow without parameters; `forward` is the bijector's.

    Args:
        bijector: of distrax, or of TensorFlow Probability's JAX side, or a function that distrax
            makes one of. What it does not count as an event, such as the entries of a vector under
            a bijector of numbers, is taken to be independent.
        event_ndims: axes of an event of the data, 1 for vectors: as many as the bijector's at
            least.

    Raises:
        ValueError: there is no bijector, or it has more axes than an event.
    """
    try:
        bijector = distrax.as_bijector(bijector)
    except (TypeError, ValueError, NotImplementedError) as error:
        given = described(bijector)
        raise ValueError(f"bijector must be one of distrax or TFP, got {given}: {error}") from error
    check_integer("event_ndims", event_ndims, bijector.event_ndims_in)

    def init(key, array, context=None):
        return {}

    def apply(function, inner, params, array, context=None, key=None):
        out, log_det = function(jnp.asarray(array))
        rest = tuple(range(1, 1 + event_ndims - inner))  # entries that are independent
        batch = jnp.shape(array)[: 1 + event_ndims - inner]
        return out, jnp.sum(jnp.broadcast_to(log_det, batch), axis=rest)

    inner = bijector.event_ndims_in
    return Flow(
        init=init,
        forward=functools.partial(apply, bijector.forward_and_log_det, inner),
        inverse=functools.partial(apply, bijector.inverse_and_log_det, bijector.event_ndims_out),
        init_inverse=init,
        takes_context=False,
    )
