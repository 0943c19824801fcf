"""Wavelet flow: its transform is orthonormal, and its parts add up and learn alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax import as_flow
from glowjax.testing import moved

X = np.random.default_rng(0).normal(size=(3, 4, 8, 2))
STEP = glowjax.realnvp_step(net=functools.partial(glowjax.ResNet, width=4, blocks=1))
LOW = glowjax.chain(as_flow(glowjax.ActNorm()), as_flow(glowjax.InvertibleConv1x1()))


def test_the_haar_transform_is_orthonormal():
    units = jnp.eye(32).reshape(32, 4, 4, 2)
    z, log_det = glowjax.haar_forward(units)
    whole = np.asarray(z).reshape(32, 32)
    np.testing.assert_allclose(whole @ whole.T, np.eye(32), atol=1e-15)
    np.testing.assert_array_equal(log_det, 0)
    np.testing.assert_allclose(glowjax.haar_inverse(z)[0], units, atol=1e-15)


def test_the_parts_of_a_block_are_its_sum_and_its_differences():
    (details, low), *_ = glowjax.wavelet_levels(X, 1)
    a, b, c, d = X[:, ::2, ::2], X[:, ::2, 1::2], X[:, 1::2, ::2], X[:, 1::2, 1::2]
    due = [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
    found = np.concatenate([low, details], axis=-1)
    np.testing.assert_allclose(found, np.concatenate(due, axis=-1) / 2, atol=1e-15)


def test_of_a_constant_image_only_the_low_parts_are_left():
    levels = glowjax.wavelet_levels(np.full((1, 8, 8, 1), 3.0), 3)
    for number, (details, low) in enumerate(levels, 1):
        np.testing.assert_allclose(details, 0, atol=1e-14)
        np.testing.assert_allclose(low, 3.0 * 2**number)


@pytest.mark.slow
def test_the_density_is_the_product_of_parts_that_were_made_alone():
    first, second = glowjax.wavelet_levels(X, 2)
    parts = [
        (glowjax.density(STEP, (2, 4, 6)), first.details, first.low),
        (glowjax.density(STEP, (1, 2, 6)), second.details, second.low),
        (glowjax.density(LOW, (1, 2, 2)), second.low, None),
    ]
    params, log_ps = [], []
    for number, (density, x, context) in enumerate(parts):
        alone = jax.jit(density.init)(jax.random.key(number), x, context)
        params.append(moved(alone, 0.1, number))
        log_ps.append(density.log_prob(params[-1], x, context))
    flow = glowjax.wavelet_flow([STEP, STEP], LOW)
    names = ("level1", "split1", "level2", "split2", "level3")
    whole = dict(zip(names, ({}, params[0], {}, params[1], params[2]), strict=True))
    log_p = glowjax.density(flow, X.shape[1:]).log_prob(whole, X)
    np.testing.assert_allclose(log_p, sum(log_ps), rtol=1e-12)
    z, _ = flow.forward(whole, X)
    np.testing.assert_allclose(flow.inverse(whole, z)[0], X, atol=1e-10)


def test_details_depend_on_the_low_part_below_them_only_if_the_flow_takes_it():
    for part, depends in ((STEP, True), (as_flow(glowjax.ActNorm()), False)):
        flow = glowjax.wavelet_flow([part], LOW)
        params = moved(jax.jit(flow.init)(jax.random.key(0), X), 0.1)
        brighter = X + np.random.default_rng(1).normal(size=(3, 2, 4, 2)).repeat(2, 1).repeat(2, 2)
        (details, low), (others, lower) = (flow.forward(params, x)[0] for x in (X, brighter))
        assert np.allclose(details, others, atol=1e-12) != depends
        assert not np.allclose(low, lower)


def test_errors():
    with pytest.raises(ValueError, match=r"details must be one flow at least, got \[\]"):
        glowjax.wavelet_flow([], LOW)
    module: Any = glowjax.ActNorm()
    with pytest.raises(ValueError, match=r"details\[1\] must be a Flow, as as_flow\(ActNorm"):
        glowjax.wavelet_flow([LOW, module], LOW)
    with pytest.raises(ValueError, match="must have height and width divisible by 2, got 1×2"):
        glowjax.wavelet_levels(X, 3)
    with pytest.raises(ValueError, match="levels must be a whole number of at least 1, got 0"):
        glowjax.wavelet_levels(X, 0)


@pytest.mark.usefixtures("as_users_call")
def test_errors_of_the_transform():
    with pytest.raises(ValueError, match="z must be of channels divisible by 4, got"):
        glowjax.haar_inverse(X)
    with pytest.raises(ValueError, match="x must have height and width divisible by 2, got 3×8"):
        glowjax.haar_forward(X[:, :3])
