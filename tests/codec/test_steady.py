"""Two machines whose floats differ in the last bits make the same whole numbers of them."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glowjax.codec.affine import affine
from glowjax.codec.coder import Coder
from glowjax.codec.fixed_point import FRACTION
from glowjax.codec.steady import APART, SHIFTS, steady_forward, steady_inverse

APARTS = -APART, APART
forward, inverse = jax.jit(steady_forward), jax.jit(steady_inverse)


def stack_of(x):
    return Coder.seeded(8).stack(256, len(x))


def assert_comes_back_elsewhere(x, scale, offset, seed):
    before, rng = stack_of(x), np.random.default_rng(seed)
    z, stack = forward(x, scale, offset, before)
    assert not stack.bad.any()
    error = APART * rng.uniform(-1, 1, (2, *scale.shape))
    there = scale * (1 + error[0]), offset + error[1] * np.maximum(1, np.abs(offset))
    back, stack = inverse(z, *there, stack)
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(stack.lanes, before.lanes)
    np.testing.assert_array_equal(stack.top, before.top)
    assert stack.fits()


def numbers(seed, shape=(12, 40)):
    """Integers, scales and offsets as those of a flow."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-(2**17), 2**17, shape)
    return x, np.exp(rng.normal(size=shape)), rng.normal(size=shape)


@hypothesis.settings(deadline=None)  # the first compiles
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_any_numbers_come_back(seed):
    assert_comes_back_elsewhere(*numbers(seed), seed)


@pytest.mark.parametrize("places", range(SHIFTS - 1))
def test_numbers_at_an_edge_of_many_shifts_come_back(places):
    x, scale, offset = numbers(places)
    for column in range(places + 1):  # the edges of the first shifts, so that the next is taken
        edge = 100 + 0.5 - column / (2 * SHIFTS)
        scale[:, 2 * column], offset[:, 2 * column] = 1, edge / 2**FRACTION
        scale[:, 2 * column + 1], offset[:, 2 * column + 1] = (2**14 + edge) / 2**14, 0
    assert_comes_back_elsewhere(x, scale, offset, places)
    low, high = (affine(jnp.asarray(scale * (1 + e)), jnp.asarray(offset + e)) for e in APARTS)
    assert np.any(low.scale.numerator != high.scale.numerator)  # so it needs the shifts
    assert np.any(low.offset != high.offset)


def test_a_power_of_two_is_no_edge():
    x, scale, offset = numbers(0)
    scale, offset = np.exp2(np.rint(np.log2(scale))), np.rint(offset)
    assert_comes_back_elsewhere(x, scale, offset, 0)
    low, high = (affine(jnp.asarray(scale * (1 + e)), jnp.asarray(offset)) for e in APARTS)
    np.testing.assert_array_equal(low.scale.numerator, high.scale.numerator)
    np.testing.assert_array_equal(low.scale.bits, high.scale.bits)


def test_what_no_shift_fits_or_is_not_finite_is_said():
    x, scale, offset = numbers(0)
    scale[3, 5] = np.nan
    _, stack = forward(x, scale, offset, stack_of(x))
    assert np.flatnonzero(stack.bad).tolist() == [3]
    scale[3, 5] = 1
    offset[7, :SHIFTS] = (100 + 0.5 - np.arange(SHIFTS) / (2 * SHIFTS)) / 2**FRACTION
    scale[7, :SHIFTS] = 1
    _, stack = forward(x, scale, offset, stack_of(x))
    assert np.flatnonzero(stack.bad).tolist() == [7]
