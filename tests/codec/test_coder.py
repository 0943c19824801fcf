"""The coder is a stack whose size is the information in it, and transforms return it exactly."""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glowjax.codec.bins import coarsen, pop_uniform, push_uniform, refine
from glowjax.codec.coder import Coder
from glowjax.codec.fixed_point import FRACTION, RANGE, fixed, in_range, two_to
from glowjax.codec.gaussians import STARTS, pop_normal, push_normal
from glowjax.codec.lanes import pushed
from glowjax.codec.lifting import factors, lift, unlift
from glowjax.codec.modular_scale import ratio, scale_forward, scale_inverse
from glowjax.codec.symbols import pop_of, push_of

SEEDS = st.integers(0, 2**32 - 1)
SHAPE = (5, 9)  # numbers of five images
NUMBERS = hnp.arrays(np.int64, SHAPE, elements=st.integers(1 - RANGE, RANGE - 1))
slow = pytest.mark.slow
lanes = pytest.mark.parametrize(
    "lanes", [7, pytest.param(1, marks=slow), pytest.param(64, marks=slow)]
)


@functools.partial(jax.jit, static_argnums=0)
def _compiled(function, *args):
    return function(*args)


def on(coder, function, *args, room=64, valid=None, batch=SHAPE[0]):
    """What a function returns of arguments and the coder's stack, which it takes back."""
    stack = coder.stack(room, batch)
    if valid is not None:
        stack = stack._replace(valid=jnp.asarray(valid))
    out = _compiled(function, *args, stack)
    result, stack = out if isinstance(out, tuple) and len(out) == 2 else (None, out)
    assert stack.fits()
    coder.take(stack)
    return result


pop_numbers = functools.partial(pop_uniform, SHAPE)
pop_latents = functools.partial(pop_normal, SHAPE)
pop_bins = functools.partial(pop_of, SHAPE)


@lanes
@hypothesis.settings(deadline=None)  # the first compiles
@hypothesis.given(sizes=hnp.arrays(np.int64, SHAPE, elements=st.integers(1, 2**20)), seed=SEEDS)
def test_symbols_come_back_from_the_stack_and_before_them_the_seed(lanes, sizes, seed):
    coder, symbols = Coder.seeded(lanes), np.random.default_rng(seed).integers(0, sizes)
    on(coder, push_uniform, symbols, sizes)
    np.testing.assert_array_equal(on(coder, pop_numbers, sizes), symbols)
    assert coder.holds_only_seed()
    drawn = on(coder, pop_numbers, sizes)  # of the seed
    assert np.all(drawn < sizes)
    on(coder, push_uniform, drawn, sizes)
    assert coder.holds_only_seed()


def test_the_stack_is_as_large_as_the_information_in_it():
    coder, rng = Coder.seeded(16), np.random.default_rng(0)
    sizes = rng.integers(1, 2**15, (5, 819))
    on(coder, push_uniform, rng.integers(0, sizes), sizes, room=512)
    assert coder.bits == pytest.approx(np.log2(sizes).sum(), rel=1e-5)
    stored = coder.stored()
    assert stored.lengths.sum() == len(stored.words)
    assert coder.seed_words == 0


@lanes
def test_another_coder_goes_on_from_what_was_stored(lanes):
    coder, rng = Coder.seeded(lanes), np.random.default_rng(0)
    drawn = on(coder, pop_numbers, np.full(SHAPE, 2**20))  # so that the seed is in use
    symbols = rng.integers(0, 1000, SHAPE)
    on(coder, push_uniform, symbols, np.array(1000))
    other = Coder(coder.stored())
    assert not other.holds_only_seed()
    np.testing.assert_array_equal(on(other, pop_numbers, np.array(1000)), symbols)
    assert not other.holds_only_seed()
    on(other, push_uniform, drawn, np.full(SHAPE, 2**20))
    assert other.holds_only_seed()
    assert len(other.stored().words) == coder.seed_words > 0


@lanes
def test_lanes_that_fill_unevenly_keep_their_words(lanes):
    coder, rng, pushed_ones = Coder.seeded(lanes), np.random.default_rng(0), []
    n = np.array(2**20)
    for number in range(40):
        symbols, valid = rng.integers(0, n, SHAPE), rng.integers(0, 2, SHAPE[0]) > 0
        pushed_ones.append((symbols, valid))
        coder.turn = number
        on(coder, push_uniform, symbols, n, valid=valid)
    for number, (symbols, valid) in reversed([*enumerate(pushed_ones)]):
        coder.turn = number
        back = on(coder, pop_numbers, n, valid=valid)
        np.testing.assert_array_equal(back[valid], symbols[valid])
    assert coder.holds_only_seed()


def test_too_little_room_is_seen_and_leaves_the_coder_as_it_was():
    coder = Coder.seeded(2)
    stack = coder.stack(1, 5)
    assert stack.fits()
    _, short = jax.jit(pop_numbers)(np.full(SHAPE, 2**20), stack)
    assert not short.fits()
    assert not jax.jit(push_uniform)(np.zeros(SHAPE, int), np.array(2**20), stack).fits()
    assert coder.holds_only_seed()


@lanes
@hypothesis.settings(deadline=None)  # the first compiles
@hypothesis.given(x=NUMBERS, scale=st.floats(width=32, allow_subnormal=True), seed=SEEDS)
def test_any_scale_is_a_bijection_that_returns_the_coder(lanes, x, scale, seed):
    coder, valid = Coder.seeded(lanes), np.random.default_rng(seed).integers(0, 2, 5) > 0
    by = jax.tree.map(lambda a: jnp.broadcast_to(a, SHAPE), ratio(jnp.asarray(abs(scale))))
    z = on(coder, scale_forward, x, by, valid=valid)
    np.testing.assert_array_equal(z[~valid], 0)
    back = on(coder, scale_inverse, z, by, valid=valid)
    np.testing.assert_array_equal(back, np.where(valid[:, None], x, 0))
    assert coder.holds_only_seed()


@pytest.mark.parametrize("scale", [2.0**-13, 0.3, 1.0, 1.7, 1000.0])
def test_scaling_costs_minus_its_log_det(scale):
    coder, x = Coder.seeded(8), np.arange(-2048, 2048).reshape(8, -1)
    by = jax.tree.map(lambda a: jnp.broadcast_to(a, x.shape), ratio(jnp.asarray(scale)))
    z = on(coder, scale_forward, x, by, room=1024, batch=8)
    exact = by.numerator[0, 0] / 2.0 ** by.bits[0, 0]
    assert exact == pytest.approx(scale, rel=2**-14)
    assert np.abs(z - x * exact).max() <= max(exact, 1)
    assert coder.bits == pytest.approx(-4096 * np.log2(exact), abs=0.5)


def test_quotients_in_floats_are_those_of_whole_numbers():
    rng = np.random.default_rng(0)
    size = rng.integers(1, 2**30, 4000)
    x = rng.integers(2**33, 2**34, 4000).astype(np.uint64) * size.astype(np.uint64)
    for whole in (x - np.uint64(1), x, x + np.uint64(1)):
        quotient, rest = np.divmod(whole, size.astype(np.uint64))
        exact = (quotient << np.uint64(30)) + rest
        np.testing.assert_array_equal(pushed(*map(jnp.asarray, (whole, 0, size))), exact)


@lanes
@hypothesis.settings(deadline=None)  # the first compiles
@hypothesis.given(z=NUMBERS)
def test_any_latents_come_back(lanes, z):
    coder = Coder.seeded(lanes)
    on(coder, push_normal, z, room=256)
    np.testing.assert_array_equal(on(coder, pop_latents, room=256), z)
    assert coder.holds_only_seed()


def test_symbols_of_a_table_come_back_and_cost_what_it_says():
    coder, index = Coder.seeded(8), np.random.default_rng(0).integers(0, len(STARTS) - 1, SHAPE)
    on(coder, push_of, index, STARTS)
    assert coder.bits == pytest.approx(-np.log2(np.diff(STARTS)[index] / 2**30).sum(), rel=1e-4)
    np.testing.assert_array_equal(on(coder, pop_bins, STARTS), index)
    assert coder.holds_only_seed()


def test_latents_cost_minus_the_log_of_their_density():
    coder = Coder.seeded(8)
    z = fixed(np.random.default_rng(0).normal(size=(5, 819)))
    on(coder, push_normal, z, room=1024)
    log_p = -0.5 * (z / 2**FRACTION) ** 2 - 0.5 * np.log(2 * np.pi)
    expected = -log_p.sum() / np.log(2) + z.size * FRACTION
    assert coder.bits == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 7])
@hypothesis.settings(deadline=None)  # the first compiles
@hypothesis.given(seed=SEEDS, size=st.floats(0.01, 100))
def test_any_matrix_is_undone_by_lifting(channels, seed, size):
    rng = np.random.default_rng(seed)
    by = factors(size * rng.normal(size=(channels, channels)))
    x = rng.integers(-RANGE, RANGE, (20, channels))
    for factor in (by.lower, by.upper):
        back = _compiled(unlift, _compiled(lift, x, factor), factor)
        np.testing.assert_array_equal(back, x)


def test_the_factors_are_those_of_the_matrix():
    weight = np.random.default_rng(0).normal(size=(5, 5))
    by = factors(weight)
    x = np.random.default_rng(1).integers(-100_000, 100_000, (50, 5))
    z = jnp.rint(lift(jnp.asarray(x[:, by.columns]), by.upper) * by.scale).astype(jnp.int64)
    z = lift(z, by.lower)[:, np.argsort(by.rows)]
    np.testing.assert_allclose(z, x @ weight, atol=10)


def test_a_singular_matrix_is_refused():
    with pytest.raises(ValueError, match="weight must be finite and invertible"):
        factors(np.ones((3, 3)))
    with pytest.raises(ValueError, match="weight must be finite and invertible"):
        factors(np.full((3, 3), np.nan))


@lanes
@hypothesis.settings(deadline=None)  # the first compiles
@hypothesis.given(index=hnp.arrays(np.int64, SHAPE, elements=st.integers(0, 4)))
def test_places_in_bins_are_popped_and_returned(lanes, index):
    coder, edges = Coder.seeded(lanes), np.array([-7000, -6999, -3, 8, 5000, 2**19])
    x = on(coder, refine, index, edges)
    assert np.all((edges[index] <= x) & (x < edges[index + 1]))
    np.testing.assert_array_equal(on(coder, coarsen, x, edges), index)
    assert coder.holds_only_seed()


def test_images_with_numbers_out_of_range_are_marked():
    x = np.zeros((4, 3), np.int64)
    x[1, 2], x[3, 0] = RANGE, -RANGE
    stack = in_range(jnp.asarray(x), Coder.seeded(1).stack(1, 4))
    assert stack.bad.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(fixed(np.array([np.nan, np.inf, 0.5])), [0, RANGE, 2**13])


def test_powers_of_two_are_exact():
    exponents = np.arange(-1000, 1000)
    np.testing.assert_array_equal(two_to(jnp.asarray(exponents)), np.ldexp(1.0, exponents))
