"""Who takes a context: a flow, a module or a net says so; what takes none is called without."""

import inspect
from typing import Any

import flax.linen as nn

from glowjax.checks import described


def takes_context(module: nn.Module, method: str = "__call__") -> bool:
    """Whether a module's method has a parameter `context`, unless its `takes_context` says.

    That attribute or property is for modules of which it depends on their options.
    """
    stated = getattr(module, "takes_context", None)
    if stated is not None:
        return bool(stated)
    return "context" in inspect.signature(getattr(module, method)).parameters


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
