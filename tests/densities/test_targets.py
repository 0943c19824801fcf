"""Targets and toy data: formulas by hand, known normalisers, samples that follow the densities."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.special import erf

from glowjax.densities import targets, toy
from glowjax.densities.targets import Target, grid, grid_kl, grid_log_normalizer

NORMALISED: dict[str, Any] = {
    "circular_gaussians": targets.circular_gaussians(),
    "circular_gaussians_3": targets.circular_gaussians(3, radius=1.0, scale=0.5),
    "banana": targets.banana()._replace(extent=(-8.0, 16.0)),
    "banana_down": targets.banana(bend=-0.3, noise=1.0)._replace(extent=(-9.0, 9.0)),
    "funnel": targets.funnel(std=0.5)._replace(extent=(-16.0, 16.0)),
}
TARGETS = {
    **NORMALISED,
    **{f"energy_{i}": targets.energy(i) for i in (1, 2, 3, 4)},
    "energy_2_envelope": targets.energy(2, envelope=4.0),
    "two_modes": targets.two_modes(),
    "ring_mixture": targets.ring_mixture(),
    "funnel_of_neal": targets.funnel(),
}


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


# --------------------------------------------------------------------------------- formulas


def test_energies_at_points_worked_out_by_hand():
    """At z1 = 1: w1 = 1, w2 = 3, w3 = 3/2; at z1 = -4 all three are 0, w2 and w3 nearly so."""

    def log_p(number, z1, z2):
        return float(targets.energy(number).log_prob(jnp.array([[z1, z2]]))[0])

    def g(a, scale):
        return math.exp(-0.5 * (a / scale) ** 2)

    np.testing.assert_allclose(log_p(1, 2.0, 0.0), math.log(1 + g(4, 0.6)), atol=1e-12)
    np.testing.assert_allclose(log_p(1, 0.0, 3.0), -3.125 + math.log(2 * g(2, 0.6)), rtol=1e-12)
    np.testing.assert_allclose(log_p(2, 1.0, 1.4), -0.5, rtol=1e-12)
    np.testing.assert_allclose(log_p(2, 3.0, -0.6), -0.5, rtol=1e-12)
    for z2 in (1.0, -2.0):  # the two branches, 3 apart
        np.testing.assert_allclose(log_p(3, 1.0, z2), math.log1p(g(3, 0.35)), atol=1e-12)
    np.testing.assert_allclose(
        log_p(3, 1.0, -0.3), math.log(g(1.3, 0.35) + g(1.7, 0.35)), rtol=1e-12
    )
    np.testing.assert_allclose(log_p(3, -4.0, 0.0), math.log(2), atol=1e-12)
    np.testing.assert_allclose(log_p(4, 1.0, 0.5), math.log(g(0.5, 0.4) + g(1.0, 0.35)), rtol=1e-12)
    w3 = 3 * sigmoid(1 / 0.3)
    np.testing.assert_allclose(
        log_p(4, 2.0, -1.5), math.log(g(1.5, 0.4) + g(w3 - 1.5, 0.35)), rtol=1e-12
    )


@pytest.mark.slow
def test_an_envelope_makes_an_energy_integrable():
    plain, bounded = targets.energy(2), targets.energy(2, envelope=4.0)
    x = jnp.array([[1.0, -1.0], [0.0, 4.0], [8.0, 0.0]])
    np.testing.assert_allclose(
        bounded.log_prob(x) - plain.log_prob(x), [-1 / 256, -0.5, -8], rtol=1e-10
    )
    small, large = (
        [grid_log_normalizer(t._replace(extent=(-e, e)), 300) for e in (12.0, 24.0)]
        for t in (plain, bounded)
    )
    np.testing.assert_allclose(small[1] - small[0], math.log(2), rtol=1e-6)
    np.testing.assert_allclose(large[1] - large[0], 0, atol=1e-9)


def test_two_modes_is_the_first_energy_at_other_scales():
    x = jax.random.normal(jax.random.key(0), (20, 2))
    same = targets.two_modes(2.0, 0.2).log_prob(x)
    np.testing.assert_allclose(same, targets.energy(1).log_prob(x), rtol=1e-10)
    # (1.5, 2): |z| = 2.5, so the ring gives -½·(0.5 / 0.2)² and the side -½·(0.5 / 0.3)².
    value = targets.two_modes().log_prob(jnp.array([[1.5, 2.0]]))
    np.testing.assert_allclose(value, -3.125 - 0.5 * 25 / 9, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["energy_1", "two_modes", "ring_mixture", "circular_gaussians"])
def test_modes_are_symmetric(name):
    log_prob = TARGETS[name].log_prob
    x = jax.random.normal(jax.random.key(0), (50, 2))
    for signs in ([-1, 1], [1, -1], [-1, -1]):
        np.testing.assert_allclose(log_prob(x * jnp.array(signs)), log_prob(x), rtol=1e-9)
    angle = math.pi / 4
    turn = jnp.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = np.allclose(log_prob(x @ turn), log_prob(x))
    assert turned == (name in ("ring_mixture", "circular_gaussians"))


@pytest.mark.parametrize("name", TARGETS)
def test_gradients_are_finite_at_the_origin_too(name):
    x = jnp.array([[0.0, 0.0], [2.0, 0.0], [30.0, -30.0]])
    each = jax.vmap(jax.value_and_grad(lambda v: TARGETS[name].log_prob(v[None])[0]))
    value, gradient = jax.jit(each)(x)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(gradient))


@pytest.mark.float32
@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_float32(name):
    target = TARGETS[name]
    x = jnp.zeros((2, 2), jnp.bfloat16)
    assert jax.eval_shape(target.log_prob, x).dtype == jnp.float32
    if target.sample is not None:
        draw = functools.partial(target.sample, n=3)
        drawn = jax.eval_shape(draw, jax.random.key(0))
        assert drawn.dtype == jnp.float32


# ------------------------------------------------------------------------------- integrals


@pytest.mark.parametrize("name", NORMALISED)
def test_normalised_targets_integrate_to_one(name):
    log_z = jax.jit(lambda: grid_log_normalizer(NORMALISED[name], 700))()
    np.testing.assert_allclose(log_z, 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rings", [1, 3])
def test_rings_have_their_closed_normaliser(rings):
    """∫ over the plane of g(|z| - R; s) = 2π·(s²·exp(-R²/2s²) + R·s·√(π/2)·(1 + erf(R/s√2)))."""
    target, s = targets.ring_mixture(rings), 1 / (4 * rings)
    r = 2 * np.arange(1, rings + 1) / rings
    across = r * s * math.sqrt(math.pi / 2) * (1 + erf(r / s / math.sqrt(2)))
    total = 2 * np.pi * np.sum(s**2 * np.exp(-(r**2) / (2 * s**2)) + across)
    measured = grid_log_normalizer(target._replace(extent=(-5.0, 5.0)), 500)
    np.testing.assert_allclose(measured, math.log(total), atol=1e-8)


def normal(mean, deviation):
    def log_prob(x):
        return jax.scipy.stats.norm.logpdf(x, jnp.array(mean), jnp.array(deviation)).sum(-1)

    return log_prob


def test_grid_kl_of_normals_is_the_closed_one():
    q = ((0.5, -0.3), (0.8, 1.1))
    p = ((0.0, 0.4), (1.3, 0.9))

    def shifted(x):
        return normal(*p)(x) + 7.0  # is not normalised

    kl, outside = grid_kl(normal(*q), Target(shifted, (-12.0, 12.0)), 300)
    closed = sum(
        math.log(t / s) + (s**2 + (a - b) ** 2) / (2 * t**2) - 0.5
        for a, s, b, t in zip(*q, *p, strict=True)
    )
    np.testing.assert_allclose(kl, closed, atol=1e-6)
    np.testing.assert_allclose(outside, 0, atol=1e-9)
    same = grid_kl(normal(*p), Target(shifted, (-12.0, 12.0)), 300)
    np.testing.assert_allclose(same.kl, 0, atol=1e-9)


@pytest.mark.slow
def test_grid_kl_tells_of_mass_outside_and_of_empty_parts():
    target = Target(normal((0.0, 0.0), (1.0, 1.0)), (-5.0, 5.0))
    half = grid_kl(normal((5.0, 0.0), (0.5, 0.5)), target, 200)
    np.testing.assert_allclose(half.outside, 0.5, atol=1e-3)

    def inside(x, low):  # uniform on a square, -inf elsewhere
        within = jnp.all((x > low) & (x < 1), axis=-1)
        return jnp.where(within, -2 * math.log(1 - low), -jnp.inf)

    square = Target(lambda x: inside(x, -1.0), (-2.0, 2.0))
    kl, outside = grid_kl(lambda x: inside(x, 0.0), square, 400)
    np.testing.assert_allclose([kl, outside], [math.log(4), 0], atol=1e-9)
    assert grid_kl(lambda x: inside(x, -2.0), square, 400).kl == np.inf  # q where p has nothing


def test_grid_is_of_midpoints_row_by_row():
    x, area = grid((-1.0, 3.0), 2)
    np.testing.assert_array_equal(x, [[0, 0], [2, 0], [0, 2], [2, 2]])
    assert area == 4


# ----------------------------------------------------------------------------------- samples


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMALISED)
def test_samples_follow_the_density(name):
    """χ² of counts in the cells of a grid against the density's integrals over them."""
    target, n, cells, fine = NORMALISED[name], 20_000, 30, 20
    low, high = (-4.0, 4.0)
    x, area = grid((low, high), cells * fine)
    p = np.exp(jax.jit(target.log_prob)(x)).reshape(cells, fine, cells, fine).sum((1, 3)) * area
    drawn = np.asarray(jax.jit(target.sample, static_argnums=1)(jax.random.key(0), n))
    edges = np.linspace(low, high, cells + 1)
    counts = np.histogram2d(drawn[:, 1], drawn[:, 0], (edges, edges))[0]
    often = n * p > 5
    expected = np.append(n * p[often], n * (1 - p[often].sum()))
    observed = np.append(counts[often], n - counts[often].sum())
    assert scipy.stats.chisquare(observed, expected).pvalue > 0.001
    shifted = np.append(np.roll(expected[:-1], 1), expected[-1])
    assert scipy.stats.chisquare(observed, shifted).pvalue < 1e-9


def test_eight_gaussians_have_the_targets_density():
    target, key = NORMALISED["circular_gaussians"], jax.random.key(0)
    np.testing.assert_allclose(toy.eight_gaussians(key, 5), target.sample(key, 5), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", toy.TOY)
def test_toy_data(name):
    draw = jax.jit(toy.TOY[name], static_argnums=1)  # float32, though x64 is on
    x, again, other = (draw(jax.random.key(seed), 2000) for seed in (0, 0, 1))
    assert x.shape == (2000, 2) and x.dtype == jnp.float32
    np.testing.assert_array_equal(x, again)
    assert np.all(np.any(x != other, axis=-1))
    assert np.all(np.abs(x) < 6) and np.all(np.std(x, axis=0) > 0.8)
    assert len(np.unique(x, axis=0)) > 1990
    with pytest.raises(ValueError, match="n must be a whole number"):
        toy.TOY[name](jax.random.key(0), 0)


def test_toy_shapes():
    names = ("checkerboard", "rings", "spirals", "two_moons")
    draws = jax.jit(lambda key: {name: toy.TOY[name](key, 4000) for name in names})
    x = {name: np.asarray(points) for name, points in draws(jax.random.key(0)).items()}
    radius = {name: np.hypot(*v.T) for name, v in x.items()}
    column, row = (np.floor((x["checkerboard"] + 4) / 2).astype(int)).T
    np.testing.assert_array_equal((column + row) % 2, 0)
    assert len(set(zip(column, row, strict=True))) == 8
    nearest = np.abs(radius["rings"][:, None] - 0.75 * np.arange(1, 5)).min(1)
    assert np.quantile(nearest, 0.95) < 0.2
    # An arm goes outwards as angle does, and one spiral is the other through the origin.
    spirals, angle = x["spirals"], 3 * radius["spirals"]
    arm = np.stack([np.cos(np.pi - angle), np.sin(np.pi - angle)], axis=-1)
    along = np.abs(np.sum(spirals * arm, axis=-1)) / radius["spirals"]
    assert np.mean(along[radius["spirals"] > 1] > 0.8) > 0.95
    moons = x["two_moons"] / 2 + np.array([0.5, 0.25])
    circle = [np.hypot(*(moons - np.array(c)).T) for c in ([0, 0], [1, 0.5])]
    assert np.quantile(np.minimum(*(np.abs(r - 1) for r in circle)), 0.95) < 0.25


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: targets.energy(5), "number must be one of 1, 2, 3, 4, got 5"),
        (lambda: targets.energy(2, envelope=0.0), r"envelope must be None or in \(0, inf\)"),
        (lambda: targets.two_modes(loc=0.0), r"loc must be in \(0, inf\)"),
        (lambda: targets.two_modes(scale=-1.0), r"scale must be in \(0, inf\)"),
        (lambda: targets.circular_gaussians(0), "modes must be a whole number"),
        (lambda: targets.circular_gaussians(radius=0.0), r"radius must be in \(0, inf\)"),
        (lambda: targets.circular_gaussians(scale=0.0), r"scale must be None or in \(0, inf\)"),
        (lambda: targets.ring_mixture(0), "rings must be a whole number"),
        (lambda: targets.banana(noise=0.0), r"noise must be in \(0, inf\)"),
        (lambda: targets.funnel(std=0.0), r"std must be in \(0, inf\)"),
        (lambda: toy.eight_gaussians(jax.random.key(0), 0), "n must be a whole number"),
        (lambda: grid((1.0, -1.0), 5), r"extent must be \(low, high\)"),
        (lambda: grid((0.0, 1.0), 0), "points must be a whole number"),
    ],
)
def test_targets_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()
