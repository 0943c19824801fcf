"""Types of the public functions: shapes that the tests hold calls to, and results."""

import ast
import inspect
from pathlib import Path

import jax.numpy as jnp
import jaxtyping
import pytest

import glowjax

ROOT = Path(__file__).parent.parent
PURE = [name for name in glowjax.__all__ if name.endswith(("_forward", "_inverse"))]


@pytest.mark.quick
def test_tests_hold_calls_to_the_shapes_that_functions_state():
    x, u, b = jnp.ones((4, 2)), jnp.ones(2), jnp.ones(())
    glowjax.planar_forward(x, u, u, b)
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'u'"):
        glowjax.planar_forward(x, jnp.ones(3), u, b)


@pytest.mark.quick
@pytest.mark.parametrize("name", PURE)
def test_pure_functions_state_shapes(name):
    signature = inspect.signature(getattr(glowjax, name))
    array = next(iter(signature.parameters.values())).annotation
    for hint in (array, signature.return_annotation):
        assert "Float[" in str(hint), hint


def public_functions(parts, where):
    """Functions and methods of a module or a class without a leading underscore, by their place."""
    for node in parts:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            place = f"{where}:{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from public_functions(node.body, place)
            else:
                yield place, node


@pytest.mark.quick
@pytest.mark.parametrize("folder", ["glowjax", "experiments"])
def test_public_functions_state_what_they_return(folder):
    found = [
        place
        for path in (ROOT / folder).rglob("*.py")
        for place, node in public_functions(ast.parse(path.read_text(encoding="utf-8")).body, path)
        if node.returns is None
    ]
    assert not found
