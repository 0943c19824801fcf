"""Monotone maps against their formulas, by scipy and NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
import scipy.special

from glowjax import bernstein, deep_sigmoidal, sum_of_squares, unconstrained_monotonic

BOUND = 3.0
X = np.linspace(-BOUND, BOUND, 31)


def on_rows(transform, raw, x=X):
    """(z, log_slope) at all of x, for one row of parameters."""
    return map(
        np.asarray, jax.jit(transform.forward)(x, jnp.broadcast_to(raw, (*x.shape, len(raw))))
    )


def draw(size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


@pytest.mark.parametrize("degree", [2, 7, 64])
def test_bernstein_is_the_polynomial_of_scipy(degree):
    raw = draw(degree + 1)
    slopes = 1e-3 + np.log1p(np.exp(raw[1:] + np.log(np.expm1(1 - 1e-3))))
    values = np.concatenate([[0], np.cumsum(slopes)]) * 2 * BOUND / degree
    values += raw[0] - values[-1] / 2
    expected = scipy.interpolate.BPoly(values[:, None], [-BOUND, BOUND])
    z, log_slope = on_rows(bernstein(degree, bound=BOUND), raw)
    np.testing.assert_allclose(z, expected(X), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.exp(log_slope), expected.derivative()(X), rtol=1e-10)


@pytest.mark.parametrize("degree", [1, 4, 16])
def test_sum_of_squares_is_the_integral_of_its_polynomial(degree):
    raw, least = draw(2 * degree + 2), 1e-3
    start = np.polynomial.Polynomial([1j, (2 * degree) ** -0.5]) ** degree
    whole = scipy.integrate.quad(lambda u: abs(start(u)) ** 2, -1, 1)[0]
    start = start * ((1 - least) * 2 / whole) ** 0.5
    p = np.polynomial.Polynomial(start.coef.real + raw[1 : degree + 2])
    q = np.polynomial.Polynomial(start.coef.imag[:-1] + raw[degree + 2 :])

    def slope(x):
        return least + p(x / BOUND) ** 2 + q(x / BOUND) ** 2

    z, log_slope = on_rows(sum_of_squares(degree, bound=BOUND), raw)
    expected = [raw[0] + scipy.integrate.quad(slope, 0, x, epsrel=1e-13)[0] for x in X]
    np.testing.assert_allclose(z, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.exp(log_slope), slope(X), rtol=1e-11)


@pytest.mark.parametrize("degree", [1, 3])
def test_two_squares_reach_every_positive_polynomial(degree):
    """At raw = 0 the parameters move the slope in as many directions as it has coefficients."""
    transform, u = sum_of_squares(degree, bound=1.0), np.linspace(-1, 1, 41)
    slope = jax.vmap(lambda raw, u: jnp.exp(transform.forward(u, raw)[1]), (None, 0))
    moves = jax.jacobian(slope)(jnp.zeros(transform.size), u)
    assert np.linalg.matrix_rank(np.asarray(moves), tol=1e-6) == 2 * degree + 1


@pytest.mark.parametrize(("width", "layers"), [(2, 2), (3, 4)])
def test_deep_sigmoidal_is_its_formula(width, layers):
    transform = deep_sigmoidal(width, layers=layers)
    raw, x = draw(transform.size), np.linspace(-4, 4, 31)
    square = (layers - 1, width, width)
    shapes = [(layers, width), (layers, width), square, square, (width,)]
    parts = np.split(raw, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
    log_a, b, u, w, last = (p.reshape(shape) for p, shape in zip(parts, shapes, strict=True))
    b = b + (2 * np.arange(width) + 1) / width - 1
    u, w = (scipy.special.softmax(a + 2 * np.eye(width), axis=-1) for a in (u, w))
    u = [np.ones((width, 1)), *u]
    w = [*w, scipy.special.softmax(last)[None]]

    def net(x):
        h = x[None]
        for layer in range(layers):
            unit = np.exp(log_a[layer])[:, None] * (u[layer] @ h) + b[layer][:, None]
            h = scipy.special.logit(w[layer] @ scipy.special.expit(unit))
        return h[0]

    z, log_slope = on_rows(transform, raw, x)
    np.testing.assert_allclose(z, net(x), rtol=1e-9, atol=1e-9)
    step = 1e-5
    slope = (net(x + step) - net(x - step)) / (2 * step)
    np.testing.assert_allclose(np.exp(log_slope), slope, rtol=1e-6)


def integrand(raw, width, steepness):
    """exp(log_scale + g) of `unconstrained_monotonic`, and exp(log_scale + Σ|v|)."""
    (_, log_scale), (v, w, m) = raw[:2], np.split(raw[2:], 3)
    v = v + 0.2 / width * (-1.0) ** np.arange(width)
    v = v / (1 + np.sum(np.abs(v)) / 7)
    w = steepness * scipy.special.expit(w)
    m = m + (2 * np.arange(width) + 1) / width - 1
    log_scale = np.clip(log_scale, -7, 7)

    def f(x):
        return np.exp(log_scale + np.sum(v * np.tanh(w * (x / BOUND - m))))

    return f, np.exp(log_scale + np.sum(np.abs(v)))


def test_unconstrained_monotonic_is_the_integral_of_its_net():
    raw = draw(3 * 4 + 2)
    f, _ = integrand(raw, 4, 8.0)
    z, log_slope = on_rows(unconstrained_monotonic(4, bound=BOUND, points=64), raw)
    expected = [raw[0] + scipy.integrate.quad(f, 0, x, epsrel=1e-12)[0] for x in X]
    np.testing.assert_allclose(z, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_slope, [np.log(f(x)) for x in X], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("steepness", "points"), [(4.0, 8), (8.0, 8), (8.0, 32), (20.0, 16)])
def test_the_quadrature_keeps_within_its_stated_error(steepness, points):
    """Nets as steep as they may be: w is steepness/(1 + e⁻⁹), and the error is not far below."""
    width, rate = 3, np.pi / steepness
    rho = (rate + np.sqrt(rate**2 + 4)) / 2
    stated = 32 / 15 * rho ** (-2.0 * points) / (1 - rho**-2.0)
    transform = unconstrained_monotonic(width, bound=BOUND, steepness=steepness, points=points)
    worst = 0.0
    for seed in range(20):
        raw = draw(3 * width + 2, seed)
        raw[2 : 2 + width] *= 5
        raw[2 + width : 2 + 2 * width] = 9.0
        raw[2 + 2 * width :] *= 0.3
        f, largest = integrand(raw, width, steepness)
        z, _ = on_rows(transform, raw)
        breaks = dict(limit=400, epsrel=1e-13, epsabs=0)
        exact = np.array([raw[0] + scipy.integrate.quad(f, 0, x, **breaks)[0] for x in X])
        relative = np.abs(z - exact) / (np.abs(X) * largest + 1e-300)
        worst = max(worst, np.max(relative - 1e-14))
    assert worst <= stated
    assert worst > 1e-5 * stated
