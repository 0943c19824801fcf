"""The examples in docstrings run as they stand."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import glowjax

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LIBRARY = ["models", "bijections", "compose", "loops", "flow", "densities", "fitting", "testing"]


def examples():
    """Every docstring with an example; all of them may use glowjax, jax and jnp."""
    names = {"glowjax": glowjax, "jax": jax, "jnp": jnp}
    for found in pkgutil.walk_packages(glowjax.__path__, "glowjax."):
        if found.name.split(".")[1] in LIBRARY:
            module = importlib.import_module(found.name)
            yield from (t for t in doctest.DocTestFinder().find(module, globs=names) if t.examples)


@pytest.mark.slow
@pytest.mark.parametrize("example", [pytest.param(e, id=e.name) for e in examples()])
def test_examples_run(example):
    said: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=said.append)
    assert not said, "".join(said)
