"""Contexts: who takes one, how they are dropped in training, what is said if one does not fit."""

import contextlib
import inspect
from collections.abc import Callable, Generator
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.checks import BELOW_ONE, check_in, check_key, described, is_array, require


def takes_context(module: nn.Module, method: str = "__call__") -> bool:
    """Whether a module's method has a parameter `context`, unless its `takes_context` says.

    That attribute or property is for modules of which it depends on their options.
    """
    stated = getattr(module, "takes_context", None)
    if stated is not None:
        return bool(stated)
    return "context" in inspect.signature(getattr(module, method)).parameters


def net_takes_context(net: Callable[..., nn.Module]) -> bool:
    """Whether the module that `net` makes takes a context.

    Raises:
        ValueError: `net` is a module, and makes none.
    """
    wanted = "a function that makes a module, such as functools.partial(glowjax.MLP, width=32)"
    require(not isinstance(net, nn.Module), "net", f"a {type(net).__name__}", wanted)
    return takes_context(net(features=1))


def net_inputs(net: nn.Module, x: Any, context: Any) -> tuple[Any, ...]:
    """What a net is called with: x, and the context if it takes one.

    Raises:
        ValueError: there is a context, and the net takes none.
    """
    if takes_context(net):
        return x, context
    refuse_context(context)
    return (x,)


def refuse_context(context: Any) -> None:
    """Raises `ValueError` unless context is None."""
    if context is not None:
        raise ValueError(
            f"context must be None, as no part of this flow takes one, got {described(context)}"
            " (with_context(flow, None) makes a flow that passes it by)"
        )


def drop_context(key: jax.Array, context: Any, rate: float) -> Any:
    """`context` with all numbers of some examples 0, each example's with probability `rate`.

    So a net also learns what to say without a context, in whose place it sees 0. The option
    `guidance` of `CausalViT` needs that.

        loss = lambda params, batch, key, step: glowjax.forward_kl(
            model, params, batch.x, glowjax.drop_context(key, batch.context, 0.1))

    Args:
        key: a JAX key, a fresh one a step.
        context: floats `[B, ...]`, such as one-hot labels, or a tree of them.
        rate: in [0, 1).

    Raises:
        ValueError: a key that is none; a context that is not floats with the same B; a rate that is
            not in [0, 1).

    Source: Ho & Salimans 2022 (Classifier-free diffusion guidance), algorithm 1.

    Examples:
        >>> dropped = glowjax.drop_context(jax.random.key(0), jnp.ones((1000, 2)), 0.1)
        >>> dropped.shape, bool(jnp.all(dropped[:, 0] == dropped[:, 1]))
        ((1000, 2), True)
    """
    check_key("key", key)
    check_in(BELOW_ONE, rate=rate)
    leaves = jax.tree.leaves(context)
    floats = all(
        is_array(leaf) and jnp.ndim(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        for leaf in leaves
    )
    sizes = {jnp.shape(leaf)[0] for leaf in leaves} if floats else set()
    if len(sizes) != 1:
        raise ValueError(
            f"context must be floats with one row an example, got {described(context)}"
        )
    kept = jax.random.bernoulli(key, 1 - rate, (*sizes,))

    def drop(leaf):
        return jnp.where(kept.reshape(-1, *(1,) * (jnp.ndim(leaf) - 1)), leaf, 0)

    return jax.tree.map(drop, context)


@contextlib.contextmanager
def as_at_init(module: str, **arrays: Any) -> Generator[None]:
    """Says of arrays of other shapes than those that parameters were made for what does not fit."""
    try:
        yield
    except (flax.errors.ScopeParamShapeError, flax.errors.ScopeParamNotFoundError) as error:
        given = " with ".join(f"{name} {described(array)}" for name, array in arrays.items())
        misfit = f"params of {module} do not fit {given}: {error}"
        raise ValueError(f"{' and '.join(arrays)} must be as at init: {misfit}") from error
