"""Rational-quadratic splines: the identity at first and outside, round trips, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax import rational_quadratic

BINS, BOUND = 5, 4.0
SPLINE = rational_quadratic(BINS, bound=BOUND)
RAW = np.random.default_rng(0).normal(size=(20, SPLINE.size))


def knots(raw, bound=BOUND, min_bin=1e-3):
    """Of the x axis, then of the y axis, by the softmax that the paper has."""
    for part in np.split(raw[..., : 2 * BINS], 2, axis=-1):
        share = np.exp(part) / np.sum(np.exp(part), axis=-1, keepdims=True)
        size = share * (2 * bound - BINS * min_bin) + min_bin
        yield np.cumsum(size, axis=-1)[..., :-1] - bound


def test_identity_at_raw_0():
    x = np.concatenate([np.linspace(-6, 6, 97), [-4.0, 4.0]])
    raw = jnp.zeros((len(x), SPLINE.size))
    for apply in SPLINE.forward, SPLINE.inverse:
        y, log_slope = jax.jit(apply)(x, raw)
        np.testing.assert_allclose(y, x, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(log_slope, 0, atol=1e-13)


def test_identity_outside():
    x = np.array([-1e30, -1e6, -7, -4.001, -4, 4, 4.001, 7, 1e6, 1e30])
    raw = jnp.broadcast_to(RAW[:, None], (20, 10, SPLINE.size))
    for apply in SPLINE.forward, SPLINE.inverse:
        y, log_slope = jax.jit(apply)(jnp.broadcast_to(x, (20, 10)), raw)
        np.testing.assert_allclose(y, np.broadcast_to(x, (20, 10)), rtol=1e-14)
        np.testing.assert_allclose(log_slope, 0, atol=1e-12)


def test_learned_end_slopes_are_those_of_the_spline_within():
    spline = rational_quadratic(BINS, bound=BOUND, end_slopes="learned")
    raw = jnp.zeros((2, 3 * BINS + 1))
    raw = raw.at[:, 2 * BINS].set(1.0).at[:, -1].set(-1.0)  # slopes by a softplus, 1 at 0
    slopes = np.log1p(np.exp(np.array([1.0, -1.0]) + np.log(np.expm1(1 - 1e-3)))) + 1e-3
    inside, outside = BOUND * (1 - 1e-9), BOUND * (1 + 1e-9)
    z, log_slope = spline.forward(jnp.array([-inside, inside]), raw)
    np.testing.assert_allclose(log_slope, np.log(slopes), atol=1e-6)
    z, log_slope = spline.forward(jnp.array([-outside, outside]), raw)
    np.testing.assert_array_equal(z, [-outside, outside])
    np.testing.assert_array_equal(log_slope, 0)


def test_a_circular_spline_goes_on_periodically():
    spline = rational_quadratic(BINS, bound=BOUND, end_slopes="circular")
    assert spline.size == 3 * BINS
    raw = np.random.default_rng(1).normal(size=(20, 1, spline.size))
    x = np.linspace(-BOUND, BOUND, 41)
    raw = jnp.broadcast_to(raw, (20, 41, spline.size))
    x = jnp.broadcast_to(x, (20, 41))
    z, log_slope = spline.forward(x, raw)
    np.testing.assert_allclose(z[:, [0, -1]], x[:, [0, -1]], rtol=1e-12)
    np.testing.assert_allclose(log_slope[:, 0], log_slope[:, -1], rtol=1e-9)
    assert np.std(log_slope[:, 0]) > 0.1  # the slope at the ends is learned
    for turns in (-3, 1, 1000):
        further, log_slope_there = spline.forward(x + 2 * BOUND * turns, raw)
        np.testing.assert_allclose(further, z + 2 * BOUND * turns, rtol=1e-11)
        np.testing.assert_allclose(log_slope_there, log_slope, atol=1e-9)
        back, minus = spline.inverse(further, raw)
        np.testing.assert_allclose(back, x + 2 * BOUND * turns, rtol=1e-11)
        np.testing.assert_allclose(minus, -log_slope, atol=1e-9)


@pytest.mark.parametrize("end_slopes", ["one", "learned"])
def test_it_is_the_spline_of_distrax(end_slopes):
    import distrax

    spline = rational_quadratic(BINS, bound=BOUND, end_slopes=end_slopes)
    raw = jax.random.normal(jax.random.key(2), (500, spline.size))
    x = jax.random.uniform(jax.random.key(3), (500,), minval=-BOUND, maxval=BOUND)
    theirs = raw
    if end_slopes == "one":
        ends = jnp.zeros((500, 1))
        theirs = jnp.concatenate([raw[:, : 2 * BINS], ends, raw[:, 2 * BINS :], ends], axis=1)
    kind = {"one": "identity", "learned": "unconstrained"}[end_slopes]
    expected = distrax.RationalQuadraticSpline(theirs, -BOUND, BOUND, kind, 1e-3, 1e-3)
    for ours, wanted in (
        (spline.forward(x, raw), expected.forward_and_log_det(x)),
        (spline.inverse(x, raw), expected.inverse_and_log_det(x)),
    ):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12, atol=1e-12)


def test_end_slopes_are_one_of_three_kinds():
    wanted = "end_slopes must be one of 'one', 'learned', 'circular', got 'free'"
    with pytest.raises(ValueError, match=wanted):
        rational_quadratic(end_slopes="free")  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("end_slopes", ["one", "circular"])
def test_what_is_not_finite_stays_so(end_slopes, value):
    spline = rational_quadratic(BINS, end_slopes=end_slopes)
    z, log_slope = spline.forward(jnp.array(value), jnp.zeros(spline.size))
    np.testing.assert_array_equal(z, value)
    assert log_slope == 0


@pytest.mark.slow
def test_round_trip_at_and_near_knots():
    near = np.array([0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3])
    x = np.concatenate([*knots(RAW)], axis=-1)[..., None] + np.concatenate([-near, near])
    x = x.reshape(20, -1)
    raw = jnp.broadcast_to(RAW[:, None], (*x.shape, SPLINE.size))

    @jax.jit
    def both(x):
        z, log_slope = SPLINE.forward(x, raw)
        return log_slope, *SPLINE.inverse(z, raw)

    log_slope, back, inverse_log_slope = both(x)
    np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(inverse_log_slope, -log_slope, rtol=1e-9, atol=1e-9)
    assert np.ptp(log_slope) > 2  # it is far from the identity
    x_knots, y_knots = knots(RAW)
    at_knots, _ = SPLINE.forward(x_knots, raw[:, : BINS - 1])
    np.testing.assert_allclose(at_knots, y_knots, rtol=1e-12, atol=1e-12)


def test_increasing_and_smooth():
    x = np.linspace(-5, 5, 4001)
    raw = jnp.broadcast_to(RAW[:6, None], (6, 4001, SPLINE.size))
    z, log_slope = map(np.asarray, jax.jit(SPLINE.forward)(jnp.broadcast_to(x, (6, 4001)), raw))
    assert np.all(np.diff(z) > 0)
    slope = np.exp(log_slope)  # its trapezoids add up to z
    areas = np.cumsum((slope[:, 1:] + slope[:, :-1]) / 2, axis=1) * (x[1] - x[0])
    np.testing.assert_allclose(areas, z[:, 1:] - z[:, :1], atol=1e-3)


def test_density_integrates_to_one():
    flow = glowjax.as_flow(glowjax.ElementwiseFlow(SPLINE))
    model = glowjax.density(flow, (1,))
    x, width = np.linspace(-10, 10, 40_001, retstep=True)
    log_prob = jax.jit(model.log_prob)({"raw": RAW[:1]}, x[:, None])
    np.testing.assert_allclose(np.sum(np.exp(log_prob)) * width, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "rank"),
    [
        (np.zeros(SPLINE.size), 2 * (BINS - 1)),  # there a width is the opposite of a height
        (RAW[0], SPLINE.size - 2),  # the softmaxes of widths and of heights know no sums
    ],
)
def test_every_parameter_matters(raw, rank):
    x = np.linspace(-3.9, 3.9, 33)
    jacobian = jax.jit(jax.vmap(jax.jacrev(SPLINE.forward, argnums=1), (0, None)))(x, raw)
    for derivative in jacobian:  # of z and of log_slope
        assert np.all(np.max(np.abs(derivative), axis=0) > 1e-3)
    z = np.asarray(jacobian[0])
    assert np.linalg.matrix_rank(z, tol=1e-9) == rank


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward", "inverse"])
def test_gradients_at_knots(name):
    """0 is a knot."""
    apply = getattr(rational_quadratic(4), name)
    x = np.array([-2.5, 0.0, 2.5])

    @jax.jit
    def gradients(x):
        return jax.vmap(jax.jacrev(lambda x, raw: apply(x, raw)[0], (0, 1)), (0, None))(
            x, jnp.zeros(11)
        )

    (of_x, of_raw), (_, beside) = gradients(x), gradients(x + 1e-9)
    np.testing.assert_allclose(of_x, 1, rtol=1e-12)
    np.testing.assert_allclose(of_raw, beside, atol=1e-6)


@pytest.mark.slow
@pytest.mark.float32
def test_gradients_at_knots_in_float32():
    apply = rational_quadratic(4).inverse
    slope = jax.vmap(jax.grad(lambda x: apply(x, jnp.zeros(11))[0]))(jnp.array([-2.5, 0, 2.5]))
    assert slope.dtype == jnp.float32
    np.testing.assert_allclose(slope, 1, rtol=1e-5)


@pytest.mark.parametrize("end_slopes", ["one", "learned", "circular"])
def test_the_inverse_of_steep_bins_is_finite_in_float32(end_slopes):
    """Where slopes at knots are far above the mean slope between them, t is close to 1."""
    spline = rational_quadratic(8, end_slopes=end_slopes)
    rng = np.random.default_rng(0)
    raw = jnp.asarray(8 * rng.normal(size=(20_000, spline.size)), jnp.float32)
    z = jnp.asarray(rng.uniform(-5, 5, 20_000), jnp.float32)
    x, log_slope = jax.jit(spline.inverse)(z, raw)
    assert x.dtype == jnp.float32 and np.all(np.isfinite(log_slope)) and np.max(np.abs(x)) <= 5
    back, _ = jax.jit(spline.forward)(x, raw)
    stretched = np.maximum(np.exp(-np.asarray(log_slope)), 1)
    assert np.max(np.abs(back - z) / stretched) < 1e-5
    gradient = jax.jit(jax.grad(lambda z, raw: sum(map(jnp.sum, spline.inverse(z, raw))), (0, 1)))
    assert all(np.all(np.isfinite(g)) for g in gradient(z, raw))


def test_gradients_through_the_inverse():
    """Against central differences, whose error is of the order of 1e-5² and 1e-16/1e-5."""

    @jax.jit
    def f(arguments):
        return jnp.stack(SPLINE.inverse(arguments[..., 0], arguments[..., 1:]))

    at = np.concatenate([[0.8], RAW[0]])
    step = 1e-5 * np.eye(len(at))
    above, below = np.split(np.asarray(f(np.concatenate([at + step, at - step]))), 2, axis=1)
    exact = np.asarray(jax.jit(jax.jacrev(f))(at))
    np.testing.assert_allclose(exact, (above - below) / 2e-5, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.log(exact[0, 0]), f(at)[1], rtol=1e-10)


@pytest.mark.parametrize("wrong", [1, 0, 2.0])
def test_refuses_a_number_of_bins(wrong):
    with pytest.raises(ValueError, match="bins must be a whole number of at least 2"):
        rational_quadratic(wrong)


def test_errors():
    for wrong in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"bound must be in \(0, inf\)"):
            rational_quadratic(bound=wrong)
    for wrong in (0.0, 1.25, 3):
        with pytest.raises(ValueError, match=r"min_bin must be in \(0, 1\.25\)"):
            rational_quadratic(8, min_bin=wrong)
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"min_slope must be in \(0, 1\)"):
            rational_quadratic(min_slope=wrong)
    for apply in SPLINE.forward, SPLINE.inverse:
        with pytest.raises(AssertionError):
            apply(jnp.zeros(2), jnp.zeros((2, SPLINE.size + 2)))


@pytest.mark.parametrize("end_slopes", ["one", "learned", "circular"])
def test_float32_stays_float32_beside_float64(end_slopes):
    """A number of NumPy among the slopes made it float64, which no loop over steps takes."""
    spline = glowjax.rational_quadratic(4, end_slopes=end_slopes)
    x, raw = jnp.zeros(3, jnp.float32), jnp.zeros((3, spline.size), jnp.float32)
    assert jnp.zeros(1).dtype == jnp.float64
    for values in (*spline.forward(x, raw), *spline.inverse(x, raw)):
        assert values.dtype == jnp.float32
