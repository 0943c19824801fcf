"""Linear maps of channels: they are the products that they say, exact also at extremes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import glowjax
from glowjax import as_flow
from glowjax.bijections.linear import factorizations, householder, woodbury
from glowjax.bijections.linear.matrix import LowRank, Matrix, mix, unmix

C, K = 6, 3
RNG = np.random.default_rng(0)
SQUARE, X = RNG.normal(size=(C, C)), RNG.normal(size=(5, 2, C))
V = RNG.normal(size=(K, C))


def cayley(packed):
    skew = np.tril(packed, -1) - np.tril(packed, -1).T
    return (np.eye(C) - skew) @ np.linalg.inv(np.eye(C) + skew)


def triangle(packed):
    return np.triu(packed, 1) + np.diag(np.exp(np.diag(packed)))


def square(places, numbers):
    """Numbers at `places` of a matrix that is 0 elsewhere."""
    whole = np.zeros((C, C))
    whole[places] = numbers
    return whole


def reflected():
    whole = np.eye(C)
    for v in V:
        whole = whole @ (np.eye(C) - 2 * np.outer(v, v) / (v @ v))
    return whole


ABOVE, UPPER = np.triu_indices(C, 1), np.triu_indices(C)
TURNS, TRIANGLE = RNG.normal(size=len(ABOVE[0])), RNG.normal(size=len(UPPER[0]))
LOW_RANK = RNG.normal(size=C), RNG.normal(size=(C, K)), RNG.normal(size=(K, C))
SINGULAR = np.exp(np.diag(SQUARE))


def of(product):
    """Both ways of the matrix that a function makes of its parameters."""
    return (lambda x, *p: mix(x, product(*p))), (lambda z, *p: unmix(z, product(*p)))


HOUSEHOLDER = glowjax.householder_forward, glowjax.householder_inverse
WOODBURY = glowjax.woodbury_forward, glowjax.woodbury_inverse
MAPS: dict[str, Any] = {  # name -> forward and inverse, parameters, the matrix by NumPy
    "qr": (of(factorizations.qr_product), (SQUARE,), cayley(SQUARE) @ triangle(SQUARE)),
    "svd": (
        of(factorizations.svd_product),
        (SQUARE,),
        cayley(SQUARE) @ np.diag(SINGULAR) @ cayley(SQUARE.T),
    ),
    "triangular": (of(factorizations.triangle), (TRIANGLE,), triangle(square(UPPER, TRIANGLE))),
    "rotation": (of(factorizations.rotation), (TURNS,), cayley(square(ABOVE, TURNS).T)),
    "exponential": (of(factorizations.exponential), (SQUARE,), scipy.linalg.expm(SQUARE)),
    "householder": (HOUSEHOLDER, (V,), reflected()),
    "woodbury": (
        WOODBURY,
        LOW_RANK,
        np.diag(np.exp(LOW_RANK[0])) + LOW_RANK[1] @ LOW_RANK[2],
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_the_product_that_it_says(name):
    (forward, inverse), params, weight = MAPS[name]
    z, log_det = forward(X, *params)
    np.testing.assert_allclose(z, X @ weight, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(log_det, 2 * np.linalg.slogdet(weight)[1], rtol=1e-10, atol=1e-11)
    back, inverse_log_det = inverse(z, *params)
    np.testing.assert_allclose(back, X, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-14)


def test_rotations_and_reflections_keep_lengths_and_the_sign_of_volumes():
    for matrix in (factorizations.rotation(100 * TURNS), factorizations.rotation(0 * TURNS)):
        whole = np.asarray(matrix.weight)
        np.testing.assert_allclose(whole @ whole.T, np.eye(C), atol=1e-13)
        np.testing.assert_allclose(np.linalg.det(whole), 1, rtol=1e-12)
    many = RNG.normal(size=(40, C)) * np.logspace(-100, 100, 40)[:, None]
    left, right = householder.reflection_factors(many)
    whole = np.asarray(np.eye(C) + left @ right)
    np.testing.assert_allclose(whole @ whole.T, np.eye(C), atol=1e-13)
    np.testing.assert_allclose(np.linalg.det(whole), 1, rtol=1e-12)


@pytest.mark.parametrize("log_scale", [-300.0, 0.0, 300.0])
def test_singular_values_are_positive_however_small(log_scale):
    packed = np.where(np.eye(C, dtype=bool), log_scale, SQUARE)
    forward, inverse = MAPS["svd"][0]
    z, log_det = forward(X, packed)
    back, _ = inverse(z, packed)
    np.testing.assert_allclose(back, X, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(log_det, 2 * C * log_scale)
    slope = jax.grad(lambda p: jnp.sum(forward(X, p)[1]))(packed)
    np.testing.assert_allclose(slope, 10 * np.eye(C), atol=1e-12)


@pytest.mark.parametrize("norm", [1e-8, 1.0, 16.0])
def test_the_exponential_is_right_up_to_its_norm(norm):
    generator = SQUARE * norm / np.linalg.norm(SQUARE, 2)
    matrix, due = factorizations.exponential(generator), scipy.linalg.expm(generator)
    np.testing.assert_allclose(matrix.weight, due, atol=1e-12 * np.abs(due).max())
    due = scipy.linalg.expm(-generator)
    np.testing.assert_allclose(matrix.inverse, due, atol=1e-12 * np.abs(due).max())


def test_a_matrix_without_inverse_gives_no_plausible_number():
    left, right = np.zeros((C, 1)), np.zeros((1, C))
    left[0], right[0, 0] = 1.0, -1.0
    _, log_det = glowjax.woodbury_forward(X, np.zeros(C), left, right)
    assert not np.any(np.isfinite(log_det))


def test_the_inverse_of_a_low_rank_is_of_low_rank_too():
    matrix = woodbury.diagonal_plus_low_rank(*LOW_RANK)
    assert isinstance(matrix.inverse, LowRank)
    assert matrix.inverse.left.shape == (C, K) and matrix.inverse.right.shape == (K, C)
    weight = jnp.asarray(MAPS["woodbury"][2])
    whole = Matrix(weight, jnp.linalg.inv(weight), matrix.log_abs_det)
    for ours, due in zip(unmix(X, matrix), unmix(X, whole), strict=True):
        np.testing.assert_allclose(ours, due, rtol=1e-10, atol=1e-10)


STARTS = {
    "qr": as_flow(glowjax.InvertibleConv1x1("qr")),
    "svd": as_flow(glowjax.InvertibleConv1x1("svd")),
    "triangular": as_flow(glowjax.InvertibleConv1x1("triangular")),
    "rotation": as_flow(glowjax.InvertibleConv1x1("rotation")),
    "exponential": as_flow(glowjax.InvertibleConv1x1("exponential")),
    "householder": as_flow(glowjax.Householder(2)),
    "woodbury": as_flow(glowjax.Woodbury(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTS)
def test_the_start_keeps_volumes_and_all_parameters_have_a_gradient(name):
    flow, x = STARTS[name], RNG.normal(size=(7, C))
    params = flow.init(jax.random.key(0), x)
    z, log_det = flow.forward(params, x)
    near = 0.2 if name == "woodbury" else 1e-12
    np.testing.assert_allclose(log_det, 0, atol=near)
    lengths = np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), lengths, rtol=near)

    def loss(params):
        z, log_det = flow.forward(params, x)
        return jnp.sum(jnp.sin(z)) + jnp.sum(log_det)

    for gradient in jax.tree.leaves(jax.grad(loss)(params)):
        assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


def test_errors():
    key, x = jax.random.key(0), jnp.ones((4, 3))
    wrong: list = [0, 1.5, True]
    for count in wrong:
        with pytest.raises(ValueError, match=f"rank must be a whole number of .* got {count}"):
            as_flow(glowjax.Woodbury(count)).init(key, x)
        with pytest.raises(ValueError, match=f"reflections must be a whole .* got {count}"):
            as_flow(glowjax.Householder(count)).init(key, x)
    with pytest.raises(ValueError, match="x must be of 2 channels or more, to be turned, got"):
        as_flow(glowjax.InvertibleConv1x1("rotation")).init(key, x[:, :1])
    for name in ("qr", "rotation", "householder"):
        params = STARTS[name].init(key, x)
        with pytest.raises(ValueError, match="do not fit x"):
            STARTS[name].forward(params, jnp.ones((4, 5)))
        with pytest.raises(ValueError, match="x must be of 3 channels, as params are, got"):
            STARTS[name].forward(STARTS[name].prepare(params), jnp.ones((4, 5)))
