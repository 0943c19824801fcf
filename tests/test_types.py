"""Types of the public functions: shapes that the tests hold calls to."""

import inspect

import jax.numpy as jnp
import jaxtyping
import pytest

import glowjax

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
