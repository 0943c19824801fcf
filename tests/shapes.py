"""The type checker of the tests: it holds calls to the shapes that a function states."""

import typing

from beartype import beartype
from jaxtyping import AbstractArray


def checked(function):
    """`function`, checked by beartype where it states shapes; its other types are ty's to check."""
    shapes = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    function.__annotations__ = shapes
    return beartype(function)


def _has_shape(hint):
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(hint)))
