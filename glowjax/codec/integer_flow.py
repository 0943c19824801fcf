"""What a flow is as an exact bijection of integers."""

from typing import Any

from flax.struct import field

from glowjax.codec.lanes import Stack

Coded = tuple[Any, Stack]  # numbers, and the stack beside them


class IntegerFlow:
    """A flow on int64 numbers in fixed point, `[B, ...]` or tuples of them, beside a stack of bits.

    It is a tree of arrays (a dataclass of `flax.struct`), and all else of it is static. So programs
    are compiled for the kind of flow once, and serve all weights; steps of a kind can be stacked,
    and then be looped over. All is made and called with 64 bits enabled.

    Attributes:
        event: shape of an example of z, or a tuple of shapes.
    """

    event: Any

    def encode(self, x: Any, stack: Stack, context: Any) -> Coded:
        """z, and the stack, on which images that do not fit become `bad`."""
        raise NotImplementedError

    def decode(self, z: Any, stack: Stack, context: Any) -> Coded:
        """The exact inverse of `encode`, the stack included."""
        raise NotImplementedError


def static() -> Any:
    """A field of an `IntegerFlow` that is no array."""
    return field(pytree_node=False)
