"""Functions of one batch axis, for libraries whose arrays have any number of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Map = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def over_batches(function: Map, x: jax.typing.ArrayLike, event_ndim: int) -> tuple:
    """`function`, from `[B, ...]` to `([B, ...], [B])`, of an array with any batch shape.

    Args:
        function: such as a flow's forward, without its parameters.
        x: `[*batch, *event]`.
        event_ndim: the number of axes of an event.
    """
    x = jnp.asarray(x)
    batch, event = x.shape[: x.ndim - event_ndim], x.shape[x.ndim - event_ndim :]
    y, log_det = function(x.reshape(-1, *event) if batch else x[None])
    return y.reshape(*batch, *y.shape[1:]), log_det.reshape(batch)
