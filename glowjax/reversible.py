"""Gradients without stored activations, by inverting the flow.

A flow's input can be rebuilt from its output, so backpropagation needs to keep the output alone
(Gomez et al. 2017, The Reversible Residual Network).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import vary_as

if TYPE_CHECKING:
    from glowjax.flow import Flow

Gradients = tuple[Any, Any, Any]  # of params, x and context


def backward(flow: "Flow", params, z, cotangents, context=None, key=None) -> tuple[Any, Gradients]:
    """Rebuilds `x` from `z = forward(x)` and pulls the cotangents of `(z, log_det)` back.

    A coupling's input half is unchanged, so that under `jit` XLA evaluates its net once for the
    inverse and the gradient together.

    Returns:
        `(x, (g_params, g_x, g_context))`; integer leaves of `context` get `float0` zeros, as from
        `jax.vjp`.
    """
    if flow.backward is not None:
        return flow.backward(params, z, cotangents, context, key)
    x, _ = flow.inverse(params, z, context, key)
    like = jax.tree.leaves(x)[0]

    def forward(params, x, context):  # a log-det of params alone varies over devices too
        return vary_as(flow.forward(params, x, context, key), like)

    _, pull = jax.vjp(forward, params, x, context)
    return x, pull(cotangents)


def rebuilding(flow: "Flow") -> Callable[..., Any]:
    """`flow.forward` with gradients by `backward`: activation memory that depth does not touch."""

    @jax.custom_vjp
    def forward(params, x, context, key):
        return vary_as(flow.forward(params, x, context, key), jax.tree.leaves(x)[0])

    def save(params, x, context, key):
        z, log_det = forward(params, x, context, key)
        return (z, log_det), (params, z, context, key)

    def pull(saved, cotangents):
        params, z, context, key = saved
        _, gradients = backward(flow, params, z, cotangents, context, key)
        return *gradients, jax.tree.map(_float0, key)

    forward.defvjp(save, pull)

    def varying(params, x, context=None, key=None):  # outside, where gradients are then summed
        like = jax.tree.leaves(x)[0]
        return forward(*vary_as((params, x, jax.tree.map(jnp.asarray, context)), like), key)

    return varying


def float_leaves(tree: Any) -> list[jax.Array]:
    """The leaves that have gradients: labels, keys and `float0` zeros have none."""
    leaves = jax.tree.leaves(tree)
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def with_float_leaves(tree: Any, floats: list[jax.Array]) -> Any:
    """The gradient tree of `tree`: `floats` for its float leaves, `float0` zeros elsewhere."""
    rest = iter(floats)
    return jax.tree.map(
        lambda leaf: next(rest) if jnp.issubdtype(leaf.dtype, jnp.floating) else _float0(leaf), tree
    )


def add_gradients(a: Any, b: Any) -> Any:
    """Sums two gradient trees of the same context."""
    return jax.tree.map(lambda g, h: g if g.dtype == jax.dtypes.float0 else g + h, a, b)


def _float0(leaf: jax.Array) -> np.ndarray:
    return np.zeros(leaf.shape, jax.dtypes.float0)
