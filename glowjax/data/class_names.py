"""Classes by their names."""

from __future__ import annotations

from collections.abc import Sequence


def class_number(given: str, names: Sequence[str]) -> int | None:
    """The label of a class given by its name, or by its number unless names are numbers; or None.

    Numbers that are names are left alone, for classes `3` and `7` have the labels 0 and 1.
    """
    if given in names:
        return names.index(given)
    by_number = given.isdecimal() and not any(name.isdecimal() for name in names)
    return int(given) if by_number and int(given) < len(names) else None
