"""Invertible convolutions: they are the matrices that they say, and their errors are as stated."""

import functools
import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import glowjax
from glowjax import as_flow
from glowjax.bijections.linear.conv_exponential import series_terms

H, W, C, K = 3, 5, 2, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, H, W, C))
WEIGHT = RNG.normal(size=(K, K, C, C))
PACKED, AFTER, BEFORE = RNG.normal(size=(C, C)), *RNG.normal(size=(2, K**2 // 2, C, C))


def matrix(weight, *, periodic=False):
    """`[H·W·C, H·W·C]`: what a convolution does to a flattened image (a row vector)."""
    whole = np.zeros((H, W, C, H, W, C))
    reach = len(weight) // 2
    for h, w, i, j in np.ndindex(H, W, len(weight), len(weight)):
        y, x = h + i - reach, w + j - reach
        if periodic:
            whole[y % H, x % W, :, h, w] += weight[i, j]
        elif 0 <= y < H and 0 <= x < W:
            whole[y, x, :, h, w] += weight[i, j]
    return whole.reshape(H * W * C, H * W * C)


def masked(weights, *, after):
    """A kernel with an identity in its centre, and weights at the places after it, or before."""
    kernel, none = np.zeros((K**2, C, C)), K**2 // 2
    kernel[none] = np.eye(C)
    kernel[none + 1 :] = weights if after else 0
    kernel[:none] = 0 if after else weights
    return kernel.reshape(K, K, C, C)


def capped(norm):
    return WEIGHT * min(1, norm / np.abs(WEIGHT).sum(axis=(0, 1, 2)).max())


LOWER, UPPER = (
    np.tril(PACKED, -1) + np.eye(C),
    np.triu(PACKED, 1) + np.diag(np.exp(np.diag(PACKED))),
)
EMERGING = (
    matrix(masked(AFTER, after=True))
    @ np.kron(np.eye(H * W), LOWER @ UPPER)
    @ matrix(masked(BEFORE, after=False))
)
BIG = RNG.normal(size=(7, 7, C, C))  # beyond H and W
PERIODIC = glowjax.periodic_conv_forward, glowjax.periodic_conv_inverse
EXPONENTIAL = glowjax.conv_exponential_forward, glowjax.conv_exponential_inverse
MAPS: dict[str, Any] = {  # forward and inverse, parameters, the matrix by NumPy
    "periodic": (PERIODIC, (WEIGHT,), matrix(WEIGHT, periodic=True)),
    "periodic_beyond": (PERIODIC, (BIG,), matrix(BIG, periodic=True)),
    "emerging": (
        (glowjax.emerging_conv_forward, glowjax.emerging_conv_inverse),
        (PACKED, AFTER, BEFORE),
        EMERGING,
    ),
    "exponential": (EXPONENTIAL, (0.1 * WEIGHT,), scipy.linalg.expm(0.1 * matrix(WEIGHT))),
    "exponential_scaled": (EXPONENTIAL, (WEIGHT,), scipy.linalg.expm(matrix(capped(2.0)))),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_the_matrix_that_it_says(name):
    (forward, inverse), params, whole = MAPS[name]
    z, log_det = jax.jit(forward)(X, *params)
    np.testing.assert_allclose(z.reshape(4, -1), X.reshape(4, -1) @ whole, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(log_det, np.full(4, np.linalg.slogdet(whole)[1]), rtol=1e-10)
    back, inverse_log_det = jax.jit(inverse)(z, *params)
    np.testing.assert_allclose(back, X, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-14)


@pytest.mark.parametrize("name", ["periodic", "emerging", "exponential"])
def test_images_may_be_of_fewer_digits_than_the_parameters(name):
    (forward, inverse), params, whole = MAPS[name]
    x = X.astype(np.float32)
    z, _ = forward(x, *params)
    np.testing.assert_allclose(z.reshape(4, -1), x.reshape(4, -1) @ whole, rtol=1e-5, atol=1e-5)
    assert inverse(x, *params)[0].shape == X.shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm", [1e-6, 0.3, 2.0, 5.5, 12.0])
def test_the_series_leaves_out_less_than_rounding_and_no_more_terms_than_needed(norm, dtype):
    terms, eps = series_terms(norm, dtype), Fraction(float(np.finfo(dtype).eps))

    def left_out(terms):
        """The sum of the next 60 terms, exactly, and what bounds all after them."""
        norms = Fraction(norm)
        some = sum(norms**n / math.factorial(n) for n in range(terms + 1, terms + 61))
        return some, some + norms ** (terms + 61) / math.factorial(terms + 61) * 2

    assert left_out(terms)[1] <= eps
    assert norm != 2.0 or terms == {np.float32: 14, np.float64: 23}[dtype]  # as docstrings say
    assert left_out(terms - 1)[0] > eps / 2 or terms == 0


@pytest.mark.slow
@pytest.mark.float32
def test_errors_in_float32_are_as_stated():
    x = X.astype(np.float32)
    eps, largest = np.finfo(np.float32).eps, np.abs(X).max()
    for norm in (0.5, 2.0, 4.0):
        whole = scipy.linalg.expm(matrix(capped(norm)))
        weight = (1000 * WEIGHT).astype(np.float32)  # however large, it is scaled down
        z, _ = EXPONENTIAL[0](x, weight, max_norm=norm)
        back, _ = EXPONENTIAL[1](z, weight, max_norm=norm)
        truth = (X.reshape(4, -1) @ whole).reshape(X.shape)
        assert np.abs(z - truth).max() < 3 * eps * np.exp(norm) * largest
        assert np.abs(back - x).max() < eps * np.exp(2 * norm) * largest
    bounded = [0.9 * w / np.abs(w).sum(axis=(0, 1)).max() for w in (AFTER, BEFORE)]
    params = [p.astype(np.float32) for p in (0 * PACKED, *bounded)]
    long = RNG.normal(size=(1, 40, 40, C)).astype(np.float32)
    z, _ = glowjax.emerging_conv_forward(long, *params)
    back, _ = glowjax.emerging_conv_inverse(z, *params)
    assert np.abs(back - long).max() < 5e-6


def test_the_emerging_inverse_takes_as_few_steps_as_it_says():
    arguments = jnp.ones((1, 6, 9, C)), PACKED, AFTER, BEFORE
    program = str(jax.make_jaxpr(glowjax.emerging_conv_inverse)(*arguments))
    assert program.count("length=19") == 2 == program.count("length=")  # 9 + 5·2


@pytest.mark.parametrize("mixing", ["periodic_conv", "emerging_conv", "conv_exponential"])
def test_a_glow_may_mix_by_it_and_starts_as_with_a_rotation(mixing):
    net = functools.partial(glowjax.ConvNet, width=4)
    step = glowjax.glow_step(net=net, coupling="additive", scale="sigmoid", mixing=mixing)
    params = jax.eval_shape(step.init, jax.random.key(0), X)
    assert set(params) == {"actnorm", "mixing", "coupling"}
    modules = {
        "periodic_conv": as_flow(glowjax.PeriodicConv()),
        "emerging_conv": as_flow(glowjax.EmergingConv()),
        "conv_exponential": as_flow(glowjax.ConvExponential()),
    }
    flow = modules[mixing]
    z, log_det = flow.forward(flow.init(jax.random.key(0), X), X)
    lengths = np.linalg.norm(X, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), lengths, rtol=1e-12)
    np.testing.assert_allclose(log_det, 0, atol=1e-12)


def test_a_weight_without_inverse_gives_no_plausible_number():
    average = np.zeros((K, K, C, C))
    average[1, 1], average[1, 2] = np.eye(C), -np.eye(C)  # of a constant image: 0
    _, log_det = PERIODIC[0](X, average)
    assert not np.any(np.isfinite(log_det))


@pytest.mark.usefixtures("as_users_call")
def test_errors():
    key = jax.random.key(0)
    wrong: list = [1, 2, 4, 3.5, True]
    for module in (glowjax.PeriodicConv, glowjax.EmergingConv, glowjax.ConvExponential):
        for kernel in wrong:
            with pytest.raises(ValueError, match=f"kernel must be .* got {kernel}"):
                as_flow(module(kernel)).init(key, X)
        with pytest.raises(ValueError, match=r"x must be images \[B, H, W, C\]"):
            as_flow(module()).init(key, X[0])
        params = as_flow(module()).init(key, X)
        with pytest.raises(ValueError, match="do not fit x"):
            as_flow(module()).forward(params, X[..., :1])
    with pytest.raises(ValueError, match=r"max_norm must be in \(0, inf\), got 0"):
        EXPONENTIAL[0](X, WEIGHT, max_norm=0)
    for forward in (PERIODIC[0], EXPONENTIAL[0]):
        for weight in (WEIGHT[:2, :2], WEIGHT[:2], WEIGHT[..., :1], WEIGHT[0]):
            with pytest.raises(ValueError, match=r"weight must be of shape \[K, K, 2, 2\], K odd"):
                forward(X, weight)
    for after in (AFTER[:3], AFTER[..., :1], AFTER[:0], BIG.reshape(-1, C, C)[:24]):
        with pytest.raises(ValueError, match=r"after must be of (the )?shape"):
            glowjax.emerging_conv_forward(X, PACKED, after, BEFORE)
