"""What a light installation leaves out: the packages of `glowjax[train]` and other extras."""

import contextlib
from collections.abc import Generator


@contextlib.contextmanager
def extra(name: str, purpose: str) -> Generator[None]:
    """Around imports: says which extra holds the package that is not installed.

    Raises:
        ModuleNotFoundError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{purpose} needs {error.name}, which is not installed: pip install 'glowjax[{name}]'",
            name=error.name,
        ) from error
