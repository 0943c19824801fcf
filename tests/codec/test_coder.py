"""The coder is a stack whose size is the information in it, and transforms return it exactly."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from glowjax.codec.bins import coarsen, refine
from glowjax.codec.coder import LEAST, WORD, Coder
from glowjax.codec.fixed_point import FRACTION, RANGE, OutOfRange, fixed, in_range
from glowjax.codec.gaussians import pop_normal, push_normal
from glowjax.codec.lifting import factors, lift, unlift
from glowjax.codec.modular_scale import ratio, scale_forward, scale_inverse

LANES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32 - 1)
NUMBERS = st.lists(st.integers(1 - RANGE, RANGE - 1), min_size=1, max_size=60)


def bits(coder: Coder) -> float:
    """The content of a coder, less its seed."""
    lanes = np.log2(coder.lanes.astype(np.float64) / LEAST).sum()
    return WORD * (coder.top - coder.seed_words) + lanes


@hypothesis.given(LANES, st.lists(st.integers(1, 2**20), min_size=1, max_size=60), SEEDS)
def test_symbols_come_back_from_the_stack_and_before_them_the_seed(lanes, sizes, seed):
    coder, sizes = Coder.seeded(lanes), np.array(sizes)
    symbols = np.random.default_rng(seed).integers(0, sizes)
    rows = coder.rows(len(sizes))
    for row in rows:
        coder.push_uniform(symbols[row], sizes[row])
    for row in reversed(rows):
        np.testing.assert_array_equal(coder.pop_uniform(len(sizes[row]), sizes[row]), symbols[row])
    assert coder.holds_only_seed()
    drawn = [coder.pop_uniform(len(sizes[row]), sizes[row]) for row in rows]  # of the seed
    assert all(np.all(d < sizes[row]) for d, row in zip(drawn, rows, strict=True))
    for row, d in zip(reversed(rows), reversed(drawn), strict=True):
        coder.push_uniform(d, sizes[row])
    assert coder.holds_only_seed()


def test_the_stack_is_as_large_as_the_information_in_it():
    coder, rng = Coder.seeded(16), np.random.default_rng(0)
    sizes = rng.integers(1, 2**15, 4096)
    symbols = rng.integers(0, sizes)
    for row in coder.rows(4096):
        coder.push_uniform(symbols[row], sizes[row])
    assert bits(coder) == pytest.approx(np.log2(sizes).sum(), rel=1e-5)


def test_what_was_popped_and_pushed_since_the_mark_is_rolled_back():
    coder, rng = Coder.seeded(4), np.random.default_rng(0)
    before = rng.integers(0, 1000, 40)
    for row in coder.rows(40):
        coder.push_uniform(before[row], 1000)
    coder.mark()
    stored = coder.stored()
    for n in (7, 2**12, 2**15):
        for _ in range(30):
            coder.pop_uniform(4, n)
        coder.push_uniform(np.arange(4), 5)
    coder.roll_back()
    np.testing.assert_array_equal(coder.lanes, stored.lanes)
    np.testing.assert_array_equal(coder.stored().words[coder.seed_words :], stored.words)
    for row in reversed(coder.rows(40)):
        np.testing.assert_array_equal(coder.pop_uniform(4, 1000), before[row])
    assert coder.holds_only_seed()


@hypothesis.given(LANES, NUMBERS, st.floats(width=32, allow_subnormal=True))
def test_any_scale_is_a_bijection_that_returns_the_coder(lanes, x, scale):
    coder, x = Coder.seeded(lanes), np.array(x)
    by = ratio(np.full(len(x), abs(scale)))
    z = scale_forward(x, by, coder)
    np.testing.assert_array_equal(scale_inverse(z, by, coder), x)
    assert coder.holds_only_seed()


@pytest.mark.parametrize("scale", [2.0**-13, 0.3, 1.0, 1.7, 1000.0])
def test_scaling_costs_minus_its_log_det(scale):
    coder, x = Coder.seeded(8), np.arange(-2048, 2048)
    by = ratio(np.full(4096, scale))
    z = scale_forward(x, by, coder)
    exact = by.numerator[0] / 2.0 ** by.bits[0]
    assert exact == pytest.approx(scale, rel=2**-14)
    assert np.abs(z - x * exact).max() <= max(exact, 1)
    assert bits(coder) == pytest.approx(-4096 * np.log2(exact), abs=0.5)


@hypothesis.given(LANES, NUMBERS)
def test_any_latents_come_back(lanes, z):
    coder, z = Coder.seeded(lanes), np.array(z)
    push_normal(z, coder)
    np.testing.assert_array_equal(pop_normal(len(z), coder), z)
    assert coder.holds_only_seed()


def test_latents_cost_minus_the_log_of_their_density():
    coder = Coder.seeded(8)
    z = fixed(np.random.default_rng(0).normal(size=4096))
    push_normal(z, coder)
    log_p = -0.5 * (z / 2**FRACTION) ** 2 - 0.5 * np.log(2 * np.pi)
    expected = -log_p.sum() / np.log(2) + 4096 * FRACTION
    assert bits(coder) == pytest.approx(expected, rel=1e-5)


@hypothesis.given(st.integers(1, 7), SEEDS, st.floats(0.01, 100))
def test_any_matrix_is_undone_by_lifting(channels, seed, size):
    rng = np.random.default_rng(seed)
    by = factors(size * rng.normal(size=(channels, channels)))
    x = rng.integers(-RANGE, RANGE, (20, channels))
    for factor in (by.lower, by.upper):
        np.testing.assert_array_equal(unlift(lift(x, factor), factor), x)


def test_the_factors_are_those_of_the_matrix():
    weight = np.random.default_rng(0).normal(size=(5, 5))
    by = factors(weight)
    x = np.random.default_rng(1).integers(-100_000, 100_000, (50, 5))
    z = np.rint(lift(x[:, by.columns], by.upper) * by.scale).astype(np.int64)
    z = lift(z, by.lower)[:, np.argsort(by.rows)]
    np.testing.assert_allclose(z, x @ weight, atol=10)


def test_a_singular_matrix_is_refused():
    with pytest.raises(ValueError, match="weight must be finite and invertible"):
        factors(np.ones((3, 3)))
    with pytest.raises(ValueError, match="weight must be finite and invertible"):
        factors(np.full((3, 3), np.nan))


@hypothesis.given(LANES, st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_places_in_bins_are_popped_and_returned(lanes, index):
    coder, index = Coder.seeded(lanes), np.array(index)
    edges = np.array([-7000, -6999, -3, 8, 5000, 2**19])
    x = refine(index, edges, coder)
    assert np.all((edges[index] <= x) & (x < edges[index + 1]))
    np.testing.assert_array_equal(coarsen(x, edges, coder), index)
    assert coder.holds_only_seed()


def test_numbers_out_of_range_are_named_by_their_rows():
    x = np.zeros((4, 3), np.int64)
    x[1, 2], x[3, 0] = RANGE, -RANGE
    with pytest.raises(OutOfRange) as caught:
        in_range(x)
    np.testing.assert_array_equal(caught.value.rows, [1, 3])
    np.testing.assert_array_equal(fixed(np.array([np.nan, np.inf, 0.5])), [0, RANGE, 2**13])
