"""Sylvester flow: extreme parameters, its frame, the constraint and what is without it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case, parameters
from jax.test_util import check_grads
from vector_checks import check_start, integral_2d, program_size

import glowjax
import glowjax.bijections.sylvester as module
from glowjax import Sylvester, as_flow, sylvester_forward, sylvester_inverse

SIZE, RANK = 5, 3


def draw(seed, rank=RANK, size=SIZE, scale=1.0):
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = [(rank, size), (rank, rank + 1), (rank,), (8, size)]
    reflections, packed, bias, x = map(jax.random.normal, keys, shapes)
    return x, reflections, scale * packed, bias


def round_trip(x, *params):
    """Errors of x, to which flat places add, and of z again."""
    z, log_det = sylvester_forward(x, *params)
    back, _ = sylvester_inverse(z, *params)
    again, _ = sylvester_forward(back, *params)
    slope = jnp.minimum(1, jnp.exp(log_det))
    return jnp.max(jnp.abs(back - x), axis=1) * slope, jnp.max(jnp.abs(again - z), axis=1)


def against(packed):
    """`packed` with R and R̃ that the constraint must part: diagonals -20 and 1, of product -20."""
    rows = jnp.arange(len(packed))
    return packed.at[rows, rows].set(1.0).at[rows, rows + 1].set(-20.0)


@pytest.mark.slow
def test_invertible_with_extreme_parameters(monkeypatch):
    x, reflections, packed, bias = draw(0)
    extremes = [packed, 4 * packed, against(packed), 1e-12 * packed, 0 * packed]

    def worst():
        trips = [round_trip(x, reflections, p, bias) for p in extremes]
        return jnp.asarray([[jnp.max(error) for error in trip] for trip in trips])

    assert np.max(jax.jit(worst)()) < 1e-12

    def unconstrained(u, w):
        return u, 1 + (u * w)[:, 0]

    monkeypatch.setattr(module, "constrain", unconstrained)
    assert not np.max(jax.jit(lambda: worst())()[2]) < 0.1  # NaN, or points that met


@pytest.mark.slow
def test_the_frame_is_orthonormal_and_the_rest_stays():
    for rank in (1, 3, 5):
        x, reflections, packed, bias = draw(1, rank)
        frame = module._frame(reflections)
        assert frame.shape == (SIZE, rank)
        np.testing.assert_allclose(frame.T @ frame, np.eye(rank), atol=1e-14)
        moved = sylvester_forward(x, reflections, packed, bias)[0] - x
        np.testing.assert_allclose(moved @ frame @ frame.T, moved, atol=1e-13)


@pytest.mark.slow
def test_the_triangles():
    """z is of the formula, with R and R̃ upper triangular and of all numbers that are packed."""
    x, reflections, packed, bias = draw(2)
    _, frame, outer, inner, slope, _ = module._parameters(x, reflections, packed, bias)
    for triangle in (outer, inner):
        np.testing.assert_array_equal(triangle, np.triu(triangle))
    np.testing.assert_allclose(1 + np.diag(outer) * np.diag(inner), slope, rtol=1e-12)
    assert np.all(slope > 0)
    z = x + (frame @ outer @ jnp.tanh(inner @ frame.T @ x.T + bias[:, None])).T
    np.testing.assert_allclose(sylvester_forward(x, reflections, packed, bias)[0], z, rtol=1e-12)

    def loss(packed):
        return jnp.sum(jnp.sin(sylvester_forward(x, reflections, packed, bias)[0]))

    assert np.all(jax.grad(loss)(packed) != 0)


@pytest.mark.slow
def test_one_direction_is_a_planar_flow():
    x, reflections, packed, bias = draw(3, rank=1)
    q = module._frame(reflections)[:, 0]
    inner, outer = packed[0]
    planar = glowjax.planar_forward(x, outer * q, inner * q, bias[0])
    sylvester = sylvester_forward(x, reflections, packed, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), sylvester, planar)


@pytest.mark.slow
@pytest.mark.parametrize("inverted", [False, True])
def test_integrates_to_one_in_2d(inverted):
    flow = glowjax.repeat(as_flow(Sylvester(rank=2)), 2)
    total = integral_2d(glowjax.invert(flow) if inverted else flow, noise=0.2)
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.slow
def test_gradients_through_the_inverse():
    x, *params = draw(4, rank=2, size=3)
    check_grads(jax.jit(sylvester_inverse), (x[:2], *params), order=1)


@pytest.mark.slow
def test_the_start():
    check_start(glowjax.repeat(as_flow(Sylvester(rank=RANK)), 2), SIZE)


@pytest.mark.slow
def test_more_directions_are_no_larger_program():
    def sizes(rank):
        flow = as_flow(Sylvester(rank=rank))
        params, x = parameters(Case(flow, (6,), ())), jnp.ones((3, 6))
        gradient = jax.grad(lambda p, x: jnp.sum(flow.inverse(p, x)[0]))
        return [program_size(f, params, x) for f in (flow.forward, flow.inverse, gradient)]

    assert sizes(2) == sizes(6)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_call")
def test_errors():
    key, x = jax.random.key(0), jnp.ones((4, 3))
    wrongs: list[Any] = [0, 4, 1.5]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=rf"rank must be a whole number in 1..3, got {wrong}"):
            as_flow(Sylvester(rank=wrong)).init(key, x)
    flow = as_flow(Sylvester(rank=2))
    with pytest.raises(ValueError, match=r"x must be of shape \[B, D\], got \(4, 2, 3\)"):
        flow.init(key, jnp.ones((4, 2, 3)))
    with pytest.raises(ValueError, match=r"params of Sylvester do not fit x .*\(4, 5\)"):
        flow.forward(flow.init(key, x), jnp.ones((4, 5)))
    with pytest.raises(AssertionError):
        sylvester_forward(x, jnp.ones((2, 3)), jnp.ones((2, 2)), jnp.ones(2))
