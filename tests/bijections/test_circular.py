"""Angles: densities go on over the end of a turn, nets see no end, and all integrates to 1."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import glowjax
from glowjax import as_flow, preprocess
from glowjax.models.circular import _orders
from glowjax.testing import moved

POINTS = 300


def middles(low, high):
    return low + (np.arange(POINTS) + 0.5) / POINTS * (high - low)


def square(first, second):
    """A grid `[POINTS², 2]` of two axes."""
    return np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)


def fitted(flow, shape, spaces, noise=0.3):
    """The density of a flow with moved parameters, as a function of x."""
    model = glowjax.density(flow, shape, glowjax.circular_base(spaces, concentration=0.5))
    params = model.init_from_base(jax.random.key(0), 8)
    return jax.jit(functools.partial(model.log_prob, moved(params, noise)))


@pytest.mark.slow
def test_the_end_of_a_turn_is_its_start():
    spline = glowjax.circular_spline(4)
    raw = jnp.asarray(np.random.default_rng(0).normal(size=(3, spline.size)))
    for direction in (spline.forward, spline.inverse):
        ends = [direction(jnp.full(3, end), raw) for end in (np.pi, -np.pi, 3 * np.pi)]
        for z, log_slope in ends:
            np.testing.assert_allclose(jnp.cos(z - ends[0][0]), 1, atol=1e-12)
            np.testing.assert_allclose(log_slope, ends[0][1], atol=1e-12)
        slope = jax.grad(lambda x, f=direction: jnp.sum(f(x, raw)[0]))(jnp.full(3, np.pi))
        np.testing.assert_allclose(slope, jnp.exp(ends[0][1]), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("model", [glowjax.circular_maf, glowjax.circular_spline_flow])
def test_a_density_on_the_torus_is_periodic_and_integrates_to_one(model):
    spaces = ("circle", "circle")
    log_prob = fitted(model(spaces, steps=1, bins=3, width=8), (2,), spaces)
    x = square(*[middles(-np.pi, np.pi)] * 2)
    log_p = log_prob(x)
    np.testing.assert_allclose(log_prob(x + 2 * np.pi * np.array([1, -2])), log_p, atol=1e-9)
    total = np.exp(log_p).sum() * (2 * np.pi / POINTS) ** 2
    np.testing.assert_allclose(total, 1, atol=1e-3)


@pytest.mark.slow
def test_a_density_on_a_cylinder_integrates_to_one():
    spaces = ("circle", "line")
    flow = glowjax.circular_spline_flow(spaces, steps=1, bins=3, width=8)
    log_prob = fitted(flow, (2,), spaces, noise=0.1)
    p = np.exp(log_prob(square(middles(-np.pi, np.pi), middles(-8, 8))))
    np.testing.assert_allclose(p.sum() * 2 * np.pi * 16 / POINTS**2, 1, atol=1e-3)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 12, 33])
def test_any_two_columns_are_in_different_halves_of_one_order(size):
    orders = _orders(size)
    assert len(orders) <= math.ceil(math.log2(size + 2))
    apart = np.zeros((size, size), bool)
    for order in orders:
        assert sorted(order) == list(range(size))
        first = np.isin(np.arange(size), order[: size // 2])
        apart |= first[:, None] != first
    assert np.all(apart | np.eye(size, dtype=bool))


@pytest.mark.slow
def test_one_step_lets_every_column_act_on_every_other():
    flow = glowjax.circular_spline_flow(("circle", "line", "interval"), steps=1, bins=3, width=8)
    x = jnp.array([0.5, 0.2, 0.3])
    params = moved(flow.init(jax.random.key(0), jnp.stack([x, -x, x / 2])), 0.3)
    jacobian = jax.jit(jax.jacobian(lambda x: flow.forward(params, x[None])[0][0]))(x)
    assert np.all(np.abs(jacobian) > 1e-9)


@pytest.mark.slow
def test_a_density_on_the_sphere_integrates_to_one_over_its_area():
    """Over polar angles and azimuths, whose area has a factor that no code here knows of."""
    spaces = ("circle", "interval")
    flow = glowjax.chain(
        preprocess.sphere(), glowjax.circular_maf(spaces, steps=1, bins=3, width=8)
    )
    polar, azimuth = square(middles(0, np.pi), middles(-np.pi, np.pi)).T
    x = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1
    )
    p = np.exp(fitted(flow, (3,), spaces)(x))
    total = (p * np.sin(polar)).sum() * 2 * np.pi**2 / POINTS**2
    np.testing.assert_allclose(total, 1, atol=3e-3)


@pytest.mark.slow
def test_poles_of_the_sphere_have_finite_gradients_and_come_back():
    flow = preprocess.sphere()
    for size in (3, 4):
        x = jnp.concatenate([jnp.eye(size), -jnp.eye(size)])
        z, log_det = flow.forward({}, x)
        assert np.all(np.isfinite(z)) and np.all(np.isfinite(log_det))
        np.testing.assert_allclose(flow.inverse({}, z)[0], x, atol=1e-12)

        def total(x, f):
            z, log_det = f({}, x)
            return jnp.sum(z) + jnp.sum(log_det)

        for at, f in ((x, flow.forward), (z, flow.inverse)):
            assert np.all(np.isfinite(jax.grad(total)(at, f)))
    _, log_det = flow.forward({}, jnp.array([[0.6, 0.0, 0.8], [0.6, 0.0, 0.9]]))
    assert log_det[0] == 0 and log_det[1] == -np.inf


@pytest.mark.parametrize("concentration", [0.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_von_mises_is_that_of_scipy(concentration):
    base, z = glowjax.von_mises(concentration), np.linspace(-9, 9, 40)[:, None]
    if concentration:
        due = stats.vonmises(concentration).logpdf(z[:, 0])
    else:
        due = np.full(40, -np.log(2 * np.pi))
    np.testing.assert_allclose(base.log_prob(None, z), due, rtol=1e-6)
    like = jnp.zeros((20_000, 1))
    for temperature in (0.5, 1.0):
        draws = base.sample(None, jax.random.key(0), like, temperature)
        mean = stats.vonmises(concentration / temperature**2) if concentration else None
        cosine = np.cos(np.asarray(draws)).mean()
        expected = mean.expect(np.cos, lb=-np.pi, ub=np.pi) if mean else 0.0
        np.testing.assert_allclose(cosine, expected, atol=0.02)
    coldest = base.sample(None, jax.random.key(0), like, 0.0)
    assert np.all(coldest == 0) == (concentration > 0) and np.all(np.isfinite(coldest))


def test_a_product_of_bases_is_the_sum_of_their_logarithms():
    parts = glowjax.von_mises(2.0), (glowjax.diagonal_normal(), 2)
    base, z = glowjax.product_base(*parts), np.random.default_rng(0).normal(size=(5, 3))
    assert base.init is not None
    params = moved(base.init(jax.random.key(0), z), 0.3)
    due = glowjax.von_mises(2.0).log_prob(None, z[:, :1])
    due += glowjax.diagonal_normal().log_prob(params[1], z[:, 1:])
    np.testing.assert_allclose(base.log_prob(params, z), due, rtol=1e-12)
    assert base.sample(params, jax.random.key(1), z, 1.0).shape == (5, 3)


def test_fit_leaves_the_units_of_angles_as_they_are():
    circle, line = glowjax.circular_spline(3), glowjax.affine()
    maps = [circle, glowjax.by_column(circle, line)]
    for transform in maps:
        assert as_flow(glowjax.ElementwiseFlow(transform)).fixed_units
        assert as_flow(glowjax.Coupling(transform)).fixed_units
        assert as_flow(glowjax.Autoregressive(transform)).fixed_units
    assert glowjax.circular_maf(("line", "circle")).fixed_units
    assert not glowjax.circular_maf(("line", "line")).fixed_units


@pytest.mark.slow
def test_the_base_is_in_the_spaces_of_the_flow():
    spaces = ("interval", "circle", "line")
    flow = glowjax.chain(glowjax.circular_maf(spaces, steps=1, width=4))
    model = glowjax.density(flow, (3,))
    params = model.init_from_base(jax.random.key(0), 8)
    x = model.sample(params, jax.random.key(1), 200)
    assert np.all(np.abs(x[:, 0]) <= 1) and np.all(np.abs(x[:, 1]) <= np.pi)
    given = glowjax.density(flow, (3,), glowjax.circular_base(spaces))
    np.testing.assert_array_equal(model.log_prob(params, x), given.log_prob(params, x))


def test_a_base_of_other_spaces_is_refused():
    spaces = ("interval", "circle", "line")
    flow = glowjax.circular_maf(spaces)
    glowjax.density(flow, (3,), glowjax.product_base(*[glowjax.uniform(-1, 1)] * 3))  # one's own
    for one in (flow, glowjax.chain(flow), glowjax.with_context(flow, None)):
        with pytest.raises(ValueError, match="spaces of base must be those of the flow"):
            glowjax.density(one, (3,), glowjax.circular_base(spaces[::-1]))


def test_errors():
    wrong: list = [(), "circle", ("circle", "sphere")]
    for spaces in wrong:
        with pytest.raises(ValueError, match=r"spaces.* must be"):
            glowjax.circular_maf(spaces)
        with pytest.raises(ValueError, match=r"spaces.* must be"):
            glowjax.circular_base(spaces)
    with pytest.raises(ValueError, match="spaces must be of 2 columns or more, of which one moves"):
        glowjax.circular_spline_flow(("circle",))
    with pytest.raises(ValueError, match=r"concentration must be in \[0, inf\), got -1"):
        glowjax.von_mises(-1.0)
    with pytest.raises(ValueError, match="transforms must be maps without shared parameters"):
        glowjax.by_column(glowjax.affine(scale="tanh"))
    pair = glowjax.by_column(glowjax.affine(), glowjax.additive())
    with pytest.raises(ValueError, match="x must be of 2 columns, one for each of transforms"):
        as_flow(glowjax.ElementwiseFlow(pair)).init(jax.random.key(0), jnp.ones((4, 3)))
    for angles in ((3,), (0, 0)):
        net = functools.partial(glowjax.MADE, angles=angles)
        with pytest.raises(ValueError, match="angles must be"):
            flow = as_flow(glowjax.Autoregressive(glowjax.circular_spline(), net))
            flow.init(jax.random.key(0), jnp.ones((4, 3)))
    with pytest.raises(ValueError, match=r"x must be of shape \[B, n\], of 2 numbers or more"):
        preprocess.sphere().forward({}, jnp.ones((4, 1)))
    with pytest.raises(ValueError, match=r"z must be one array of shape \[B, 2\]"):
        glowjax.circular_base(("circle", "line")).log_prob(None, jnp.ones((4, 3)))
