"""What all monotone maps promise: round trips near and far, lines in the tails, first gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import MONOTONE

from glowjax import bernstein, deep_sigmoidal, sum_of_squares, unconstrained_monotonic

DEFAULTS = {
    "bernstein": bernstein(),
    "sum_of_squares": sum_of_squares(),
    "deep_sigmoidal": deep_sigmoidal(4),
    "unconstrained_monotonic": unconstrained_monotonic(),
}
NAMES = pytest.mark.parametrize("name", DEFAULTS)


def drawn(transform, count=200, size=1.0):
    """x, some of them far outside, and parameters."""
    rng = np.random.default_rng(0)
    x = 3 * rng.normal(size=count)
    x[:6] = [-1e6, 1e6, -1e3, 30, -5, 5]
    raw = size * rng.normal(size=(count, transform.size))
    return jnp.asarray(x, jnp.result_type(float)), jnp.asarray(raw, jnp.result_type(float))


def there_and_back(transform, x, raw):
    @jax.jit
    def both(x, raw):
        z, log_slope = transform.forward(x, raw)
        return z, log_slope, *transform.inverse(z, raw)

    return map(np.asarray, both(x, raw))


@pytest.mark.slow
@NAMES
def test_near_the_identity_at_raw_0(name):
    transform, x = DEFAULTS[name], jnp.linspace(-5, 5, 101)
    z, log_slope = transform.forward(x, jnp.zeros((101, transform.size)))
    assert np.max(np.abs(z - x)) < 0.4 and np.max(np.abs(log_slope)) < 0.4


@pytest.mark.slow
@NAMES
def test_at_raw_0_every_parameter_matters_and_none_twice(name):
    """No two of them move z in the same way."""
    transform, x = DEFAULTS[name], np.linspace(-4.5, 4.5, 61)
    gradient = jax.vmap(jax.grad(lambda raw, x: transform.forward(x, raw)[0]), (None, 0))
    moves = np.asarray(gradient(jnp.zeros(transform.size), x))
    sizes = np.linalg.norm(moves, axis=0)
    assert np.all(sizes > 1e-4)
    cosines = np.abs((moves / sizes).T @ (moves / sizes)) - np.eye(transform.size)
    assert np.max(cosines) < 1 - 1e-9


@pytest.mark.slow
@NAMES
def test_exact_in_float64(name):
    x, raw = drawn(DEFAULTS[name])
    _, log_slope, back, inverse_log_slope = there_and_back(DEFAULTS[name], x, raw)
    np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(inverse_log_slope, -log_slope, atol=1e-10)
    slope = jax.vmap(jax.grad(lambda x, raw: DEFAULTS[name].forward(x, raw)[0]))(x, raw)
    tolerance = 1e-4 if name == "unconstrained_monotonic" else 1e-10  # its z is a quadrature
    np.testing.assert_allclose(np.log(slope), log_slope, atol=tolerance)
    assert np.ptp(log_slope) > 1.5  # far from the identity


@pytest.mark.float32
@NAMES
def test_float32_near_and_far(name):
    """Where the slope is least, e⁻⁷, rounding of z is a thousand times as much in x."""
    x, raw = drawn(DEFAULTS[name])
    z, log_slope, back, inverse_log_slope = there_and_back(DEFAULTS[name], x, raw)
    assert z.dtype == log_slope.dtype == back.dtype == inverse_log_slope.dtype == np.float32
    np.testing.assert_allclose(back, x, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(inverse_log_slope, -log_slope, atol=1e-3)
    with jax.enable_x64(True):
        exact_z, exact = DEFAULTS[name].forward(x.astype(float), raw.astype(float))
    np.testing.assert_allclose(z, exact_z, rtol=2e-6, atol=2e-5)
    np.testing.assert_allclose(log_slope, exact, rtol=2e-5, atol=2e-5)


@NAMES
def test_lines_in_the_tails(name):
    transform = DEFAULTS[name]
    raw = jnp.broadcast_to(drawn(transform)[1][:1], (6, transform.size))
    x = np.array([-3e5, -2e5, -1e5, 1e5, 2e5, 3e5])
    z, log_slope = jax.jit(transform.forward)(x, raw)
    np.testing.assert_allclose(np.diff(z)[[0, 3]] / 1e5, np.exp(log_slope)[[0, 3]], rtol=1e-9)
    np.testing.assert_allclose(np.diff(z)[[1, 4]] / 1e5, np.exp(log_slope)[[1, 4]], rtol=1e-9)


@pytest.mark.slow
@NAMES
def test_nets_gone_wild_are_still_increasing(name):
    transform = DEFAULTS[name]
    raw = jnp.broadcast_to(30 * drawn(transform)[1][6:16, None], (10, 2001, transform.size))
    x = np.broadcast_to(np.linspace(-8, 8, 2001), (10, 2001))
    z, log_slope = map(np.asarray, jax.jit(transform.forward)(x, raw))
    assert np.all(np.isfinite(z)) and np.all(np.isfinite(log_slope))
    assert np.all(np.diff(z) >= -1e-9 * np.max(np.abs(z), axis=1, keepdims=True))


@pytest.mark.slow
@NAMES
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_no_plausible_number(name, value):
    transform, raw = DEFAULTS[name], jnp.zeros((1, DEFAULTS[name].size))
    for apply in transform.forward, transform.inverse:
        assert not np.isfinite(jax.jit(apply)(np.array([value]), raw)[0])


@pytest.mark.slow
@NAMES
def test_gradients_through_the_inverse(name):
    """Against central differences, whose error is of the order of 1e-5² and 1e-16/1e-5."""
    transform = MONOTONE[name]

    @jax.jit
    def f(arguments):
        return jnp.stack(transform.inverse(arguments[..., 0], arguments[..., 1:]))

    for z in (0.3, 4.0):
        at = np.concatenate([[z], drawn(transform)[1][0]])
        step = 1e-5 * np.eye(len(at))
        above, below = np.split(np.asarray(f(np.concatenate([at + step, at - step]))), 2, axis=1)
        exact = np.asarray(jax.jit(jax.jacrev(f))(at))
        np.testing.assert_allclose(exact, (above - below) / 2e-5, rtol=1e-5, atol=1e-6)


@NAMES
def test_refuses_parameters_of_another_size(name):
    transform = DEFAULTS[name]
    for apply in transform.forward, transform.inverse:
        with pytest.raises(AssertionError):
            apply(jnp.zeros(2), jnp.zeros((2, transform.size + 1)))


@pytest.mark.parametrize("maker", [bernstein, sum_of_squares, unconstrained_monotonic])
@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, "wide"])
def test_a_bound_is_positive(maker, wrong):
    with pytest.raises(ValueError, match=r"bound must be in \(0, inf\), got"):
        maker(bound=wrong)


@pytest.mark.parametrize("maker", [bernstein, sum_of_squares])
@pytest.mark.parametrize("wrong", [0.0, 1.0, None])
def test_a_least_slope_is_below_1(maker, wrong):
    with pytest.raises(ValueError, match=r"min_slope must be in \(0, 1\), got"):
        maker(min_slope=wrong)


WRONG = {
    "degree must be a whole number in 2..64, got 1": lambda: bernstein(1),
    "degree must be a whole number in 2..64, got 65": lambda: bernstein(65),
    "degree must be a whole number in 1..16, got 0": lambda: sum_of_squares(0),
    "degree must be a whole number in 1..16, got 17": lambda: sum_of_squares(17),
    "width must be a whole number of at least 2, got 1": lambda: deep_sigmoidal(1),
    "layers must be a whole number of at least 2, got 1": lambda: deep_sigmoidal(layers=1),
    "width must be a whole number of at least 1, got 0": lambda: unconstrained_monotonic(0),
    "points must be a whole number of at least 2, got 1": lambda: unconstrained_monotonic(points=1),
    r"steepness must be in \(0, inf\), got 0": lambda: unconstrained_monotonic(steepness=0),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()
