"""Tuples of functions that know the expression which made them: it is what they pickle and print.

    flow = glowjax.maf(steps=5)
    flow                               # maf(steps=5, width=64, depth=2)
    pickle.loads(pickle.dumps(flow))   # calls maf again, with the same arguments

Closures cannot be pickled; the call that made them can.
"""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import flax.linen as nn
import numpy as np

P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 88  # of a printed line


class Expressed:
    """What `expressed` gives to a NamedTuple class."""

    __slots__ = ()

    def __repr__(self) -> str:
        return show(self)

    def __reduce__(self):
        fields: Any = self
        expression = vars(self).get("_expression")
        return (type(self), tuple(fields)) if expression is None else (expression, ())

    def __copy__(self):  # as functions are copied
        return self

    def __deepcopy__(self, memo):
        return self


def expressed(cls: type[T]) -> type[T]:
    """A NamedTuple class, with room for the expression that made an instance.

    The expression belongs to that very instance: what `_replace`, `_make` or `jax.tree` make of it
    is another thing, and has none. It then pickles by its fields.
    """
    names = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
    with_room: Any = type(cls.__name__, (Expressed, cls), names)
    return with_room


def recorded(function: Callable[P, T]) -> Callable[P, T]:
    """Makes the result of `function` know the call that made it, and so pickle and print.

        @glowjax.recorded
        def my_flow(*, steps: int) -> glowjax.Flow:
            return glowjax.repeat(glowjax.chain(...), steps)

        my_flow(steps=4)                # prints as that
        pickle.dumps(my_flow(steps=4))  # holds `my_flow` by its name, and steps=4

    `function` is one of a module, so that it can be found by its name, and returns a `Flow`,
    `Density`, `Base`, `Elementwise`, `Dequantizer`, `Surjection` or `Target` that its arguments
    alone decide.
    Defaults are pickled too: another version of the function with other defaults makes the same.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    named = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    defaults = {p.name: p.default for p in named if p.default is not p.empty}

    @functools.wraps(function)
    def record(*args: P.args, **kwargs: P.kwargs) -> T:
        made: Any = function(*args, **kwargs)
        made = made._replace()  # if it was an argument, that one keeps its own expression
        given = signature.bind(*args, **kwargs).arguments
        rest = {name: value for name, value in defaults.items() if name not in given}
        full = kwargs | rest
        full = {name: full[name] for name in (*parameters, *full) if name in full}  # in order
        vars(made)["_expression"] = functools.partial(record, *_kept(args), **_kept(full))
        return made

    return record


def call_of(value: Any) -> tuple[Callable, inspect.BoundArguments] | None:
    """The function that made `value`, as it was before `recorded`, and its arguments, if known."""
    expression = vars(value).get("_expression")
    if expression is None:
        return None
    function = inspect.unwrap(expression.func)
    return function, inspect.signature(function).bind(*expression.args, **expression.keywords)


def expanded(value: Any) -> Any:
    """What the function that made `value` returns without `recorded`: an expression of its parts.

    It is made once, so that what is compiled for the parts is found again. `value` must be one of
    which `call_of` knows the call.
    """
    known = vars(value)
    if "_expanded" not in known:
        function, bound = known["_expression"].func, known["_expression"]
        known["_expanded"] = inspect.unwrap(function)(*bound.args, **bound.keywords)
    return known["_expanded"]


def _kept(value: Any) -> Any:
    """`value` with its lists, dicts and NumPy arrays copied: the caller may change his own."""
    if type(value) in (tuple, list):
        return type(value)(map(_kept, value))
    if type(value) is dict:
        return {name: _kept(v) for name, v in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def show(value: Any, margin: int = 0, start: str = "") -> str:
    """`start` and `value` as an expression: on one line if it fits, else one line an argument."""
    opening, items, closing = _parts(value)
    line = start + _flat(value)
    if not items or len(line) <= WIDTH - margin:
        return line
    if len(items) == 1:
        return show(items[0][1], margin, start + opening + items[0][0]) + closing
    inner = margin + 4
    lines = [f"\n{'':{inner}}{show(item, inner, label)}," for label, item in items]
    return f"{start}{opening}{''.join(lines)}\n{'':{margin}}{closing}"


def _flat(value: Any) -> str:
    opening, items, closing = _parts(value)
    return opening + ", ".join(label + _flat(item) for label, item in items) + closing


Parts = tuple[str, list[tuple[str, Any]], str]  # opening, labelled items, closing


def _parts(value: Any) -> Parts:
    if isinstance(value, Expressed):
        expression = vars(value).get("_expression")
        if expression is None:
            fields: Any = value
            return _call(type(value), (), fields._asdict(), fields._field_defaults)
        parameters = inspect.signature(expression.func).parameters.values()
        defaults = {p.name: p.default for p in parameters}
        return _call(expression.func, expression.args, expression.keywords, defaults)
    if isinstance(value, nn.Module):
        fields = type(value).__dataclass_fields__
        attributes = {name: getattr(value, name) for name in fields if name != "parent"}
        return _call(type(value), (), attributes, {n: f.default for n, f in fields.items()})
    if isinstance(value, functools.partial):
        return _call(functools.partial, (value.func, *value.args), value.keywords, {})
    if type(value) is dict:
        return "{", [(f"{name!r}: ", v) for name, v in value.items()], "}"
    if type(value) is list:
        return "[", [("", v) for v in value], "]"
    if type(value) is tuple:
        return "(", [("", v) for v in value], ",)" if len(value) == 1 else ")"
    return _leaf(value), [], ""


def _call(function: Any, args: tuple, kwargs: dict[str, Any], defaults: dict[str, Any]) -> Parts:
    """A call, without arguments left at their defaults unless they are sizes."""

    def shown(name, value):
        default = defaults.get(name, inspect.Parameter.empty)
        if type(value) is type(default) and isinstance(value, int | float | str):
            return value != default or (isinstance(value, int) and value > 1)
        return value is not default

    named = [(f"{name}=", value) for name, value in kwargs.items() if shown(name, value)]
    return f"{_leaf(function)}(", [("", value) for value in args] + named, ")"


def _leaf(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(name, str):
        return name
    if getattr(value, "shape", ()):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if type(value).__repr__ is object.__repr__:
        return f"<{type(value).__qualname__}>"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
