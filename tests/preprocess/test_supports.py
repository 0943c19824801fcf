"""Maps from supports: as TensorFlow Probability has them, −inf outside, stable at the ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tensorflow_probability.substrates import jax as tfp

import glowjax
from glowjax import preprocess

tfb = tfp.bijectors
Z = 0.3 + jax.random.normal(jax.random.key(0), (5, 3), float)

TFP = {  # x of z, and how far log|det| of x -> z is from theirs
    "exp": (preprocess.exp(), tfb.Exp(), 0.0),
    "softplus": (preprocess.softplus(), tfb.Softplus(), 0.0),
    "sigmoid": (preprocess.sigmoid(-2, 5), tfb.Sigmoid(low=-2.0, high=5.0), 0.0),
    "tanh": (preprocess.tanh(), tfb.Tanh(), 0.0),
    "ordered": (preprocess.ordered(), tfb.Ascending(), 0.0),
    "stick_breaking": (preprocess.stick_breaking(), tfb.IteratedSigmoidCentered(), 0.0),
    "softmax_centered": (  # theirs is with respect to the volume within the simplex
        preprocess.softmax_centered(),
        tfb.SoftmaxCentered(),
        0.5 * np.log(4),
    ),
}


@pytest.mark.parametrize("name", TFP)
def test_maps_are_those_of_tensorflow_probability(name):
    flow, theirs, difference = TFP[name]
    z = jnp.asarray(np.asarray(Z))  # in the precision of the test
    x = theirs.forward(z)
    got, log_det = flow.forward({}, x)
    np.testing.assert_allclose(got, z, rtol=1e-6, atol=1e-6)
    dims = theirs.inverse_min_event_ndims
    due = theirs.inverse_log_det_jacobian(x, event_ndims=dims)
    due = jnp.sum(due.reshape(len(z), -1), axis=1) + difference
    np.testing.assert_allclose(log_det, due, rtol=1e-6)
    np.testing.assert_allclose(flow.inverse({}, z)[0], x, rtol=1e-6)


@pytest.mark.parametrize("exponent", [3.0, -0.5])
def test_powers_of_positive_numbers_are_those_of_tensorflow_probability(exponent):
    z, theirs = jnp.exp(Z), tfb.Power(exponent)
    x, log_det = preprocess.power(exponent).inverse({}, z)
    np.testing.assert_allclose(x, theirs.forward(z), rtol=1e-6)
    due = jnp.sum(theirs.forward_log_det_jacobian(z, event_ndims=0), axis=1)
    np.testing.assert_allclose(log_det, due, rtol=1e-6)


def covariances(n):
    factor = np.random.default_rng(0).normal(size=(5, n, 7))
    return jnp.asarray(factor @ factor.swapaxes(1, 2))


@pytest.mark.slow
def test_factors_of_wishart_matrices_are_independent_normals_and_chis():
    """Bartlett 1933: L_ij is normal below the diagonal, L_ii² is χ² of df + 1 - i, i from 1."""
    n, df = 3, 7
    x = covariances(n)
    z, log_det = preprocess.cholesky().forward({}, x)
    rows, columns = np.tril_indices(n)
    on_diagonal = rows == columns
    square = np.exp(2 * np.asarray(z[:, on_diagonal]))
    log_p_of_z = stats.norm.logpdf(z[:, ~on_diagonal]).sum(1)
    log_p_of_z += (stats.chi2(df - np.arange(n)).logpdf(square) + np.log(2 * square)).sum(1)
    due = stats.wishart(df, np.eye(n)).logpdf(np.moveaxis(np.asarray(x), 0, -1))
    np.testing.assert_allclose(log_p_of_z + log_det, due, rtol=1e-9)


@pytest.mark.slow
def test_partial_correlations_of_lkj_matrices_are_independent_betas():
    """Lewandowski et al. 2009, section 2.4: (1 + r)/2 is Beta(a, a), and a falls by ½ a column."""
    n, concentration, tfd = 4, 2.5, tfp.distributions
    lkj = tfd.LKJ(n, jnp.asarray(concentration, float))
    x = covariances(n)
    deviation = jnp.sqrt(jnp.diagonal(x, axis1=1, axis2=2))
    x = x / deviation[:, :, None] / deviation[:, None, :]
    z, log_det = preprocess.correlation().forward({}, x)
    column = np.tril_indices(n, -1)[1]
    a = jnp.asarray(concentration + (n - 2 - column) / 2)
    r = jnp.tanh(z)
    log_p_of_r = tfd.Beta(a, a).log_prob((1 + r) / 2) - np.log(2)
    log_p_of_z = jnp.sum(log_p_of_r + jnp.log1p(-jnp.square(r)), axis=1)
    np.testing.assert_allclose(log_p_of_z + log_det, lkj.log_prob(x), rtol=1e-5, atol=1e-5)


def test_one_correlation_is_fishers_z():
    r = np.array([-0.9, 0.2])
    x = np.stack([np.eye(2) + s * (1 - np.eye(2)) for s in r])
    z, log_det = preprocess.correlation().forward({}, jnp.asarray(x))
    np.testing.assert_allclose(z[:, 0], np.arctanh(r), rtol=1e-6)
    np.testing.assert_allclose(log_det, -np.log1p(-np.square(r)), rtol=1e-6)


# ---------------------------------------------------------------------- outside of the support

EYE = np.eye(2)
OUTSIDE = {  # flow, an event in the support, events that are not
    "exp": (preprocess.exp(), [1.0, 2.0], [[0.0, 2.0], [1.0, -3.0], [np.inf, 1.0]]),
    "softplus": (preprocess.softplus(), [1.0, 2.0], [[0.0, 2.0], [1.0, -3.0], [np.inf, 1.0]]),
    "power": (preprocess.power(2), [1.0, 2.0], [[0.0, 2.0], [1.0, -3.0]]),
    "sigmoid": (preprocess.sigmoid(1, 3), [1.5, 2.0], [[1.0, 2.0], [2.0, 3.0], [9.0, -9.0]]),
    "tanh": (preprocess.tanh(), [0.5, -0.2], [[1.0, 0.0], [0.0, -1.0], [0.0, 1e30]]),
    "ordered": (preprocess.ordered(), [1.0, 2.0], [[2.0, 2.0], [3.0, 2.0], [0.0, np.inf]]),
    "stick_breaking": (
        preprocess.stick_breaking(),
        [0.2, 0.3, 0.5],
        [[0.2, 0.3, 0.51], [0.5, 0.5, 0.0], [1.2, 0.3, -0.5]],
    ),
    "softmax_centered": (
        preprocess.softmax_centered(),
        [0.2, 0.3, 0.5],
        [[0.2, 0.3, 0.51], [0.5, 0.5, 0.0], [1.2, 0.3, -0.5]],
    ),
    "cholesky": (
        preprocess.cholesky(),
        2 * EYE,
        [[[1, 2], [2, 1]], [[1, 0.1], [0, 1]], 0 * EYE, -EYE, [[1, 1], [1, 1]], [[1, 0], [0, 0]]],
    ),
    "correlation": (
        preprocess.correlation(),
        EYE,
        [[[1, 2], [2, 1]], [[1, 0.1], [0, 1]], 2 * EYE, [[1, 1], [1, 1]], [[1, np.inf], [0, 1]]],
    ),
    "columns": (
        preprocess.columns(None, preprocess.exp()),
        [-1.0, 2.0],
        [[-1.0, 0.0], [1.0, -1.0]],
    ),
}


@pytest.mark.float32
@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_of_the_support_the_density_is_0_and_no_gradient_is_lost(name):
    flow, inside, outside = OUTSIDE[name]
    x = jnp.asarray(np.stack([inside, *map(np.asarray, outside)]), float)
    norm = glowjax.as_flow(glowjax.ActNorm())
    model = glowjax.density(glowjax.chain(flow, norm), x.shape[1:])
    params = model.init(jax.random.key(0), x[:1] + jnp.zeros((3, *x.shape[1:])))

    @jax.jit
    def measure(params, x):
        (z, log_p), pull = jax.vjp(model.encode_and_log_prob, params, x)
        weights = jnp.zeros_like(log_p).at[0].set(1.0), jnp.ones_like(log_p)
        return z, log_p, *[pull((jnp.zeros_like(z), weight)) for weight in weights]

    z, log_p, of_the_first, of_all = measure(params, x)
    assert np.isfinite(log_p[0]) and np.all(log_p[1:] == -np.inf)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((z, of_all)))
    usual = measure(params, jnp.broadcast_to(x[:1], x.shape))[2]  # where all are in the support
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), of_the_first, usual)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_not_known_has_no_density(name):
    flow, inside, _ = OUTSIDE[name]
    x = np.array(inside, float)
    x.flat[-1] = np.nan
    params = flow.init(jax.random.key(0), jnp.asarray(inside, float)[None])
    assert np.all(np.isnan(flow.log_det(params, jnp.asarray(x)[None])))


@pytest.mark.float32
def test_singular_matrices_have_no_density_however_they_round():
    x = jnp.linspace(1.0, 2.0, 200)[:, None, None] * jnp.ones((3, 3))
    assert np.all(preprocess.cholesky().log_det({}, x) == -np.inf)


def test_latents_that_no_power_has_give_nan():
    x, log_det = preprocess.power(2).inverse({}, jnp.array([[-1.0], [0.0], [2.0]]))
    np.testing.assert_array_equal(np.isnan(x[:, 0]), [True, True, False])
    np.testing.assert_array_equal(np.isnan(log_det), [True, True, False])


# ------------------------------------------------------------------------------- in float32

EXTREME = [-1e30, -1e4, -90.0, -20.0, 0.0, 20.0, 90.0, 1e4, 1e30]
ENDS = {
    "exp": preprocess.exp(),
    "softplus": preprocess.softplus(),
    "sigmoid": preprocess.sigmoid(-1, 0),
    "sigmoid_far": preprocess.sigmoid(1000, 1001),
    "tanh": preprocess.tanh(),
    "stick_breaking": preprocess.stick_breaking(),
    "softmax_centered": preprocess.softmax_centered(),
}


@pytest.mark.float32
@pytest.mark.parametrize("name", ENDS)
def test_samples_are_in_the_support_however_far_out_the_latents_are(name):
    flow = ENDS[name]
    z = jnp.asarray(EXTREME)[:, None] * jnp.ones((1, 3))
    x, log_det = flow.inverse({}, z)
    assert np.all(np.isfinite(x)) and np.all(np.isfinite(log_det))
    assert np.all(np.isfinite(flow.log_det({}, x)))  # −inf, were it not in the support
    slope = jax.grad(lambda z: jnp.sum(flow.inverse({}, z)[0] ** 0.5))
    if name not in ("sigmoid", "tanh"):  # whose x may be negative
        assert np.all(np.isfinite(slope(z)))


@pytest.mark.float32
@pytest.mark.parametrize("name", ["exp", "softplus"])
def test_the_least_and_the_largest_numbers_come_back(name):
    limits, flow = jnp.finfo(jnp.float32), getattr(preprocess, name)()
    x = jnp.array([[limits.tiny, limits.max]])
    z, _ = flow.forward({}, x)
    np.testing.assert_allclose(flow.inverse({}, z)[0], x, rtol=1e-4)  # as far as z has digits


@pytest.mark.float32
@pytest.mark.parametrize("first", [-1e6, 0.0, 1e6])
def test_small_gaps_do_not_close_by_rounding(first):
    z = np.full((2, 50), -100.0)
    z[:, 0], z[1, 1:] = first, -3.0
    x, _ = preprocess.ordered().inverse({}, jnp.asarray(z))
    assert np.all(np.diff(x, axis=1) > 0)
    assert np.all(np.isfinite(preprocess.ordered().log_det({}, x)))


@pytest.mark.float32
def test_ends_keep_their_digits():
    """Against float64, where naive formulas round to 0 or 1."""
    tiny = np.array([[1e-30, 1e-10, 1e-3, 5.0, 50.0, 1e10]])
    cases = {
        "softplus": (preprocess.softplus(), tiny, np.log(np.expm1(np.minimum(tiny, 50.0)))),
        "sigmoid": (preprocess.sigmoid(), tiny[:, :3], np.log(tiny[:, :3])),
        "tanh": (preprocess.tanh(), tiny[:, :3], tiny[:, :3]),
    }
    due_log_det = {
        "softplus": -np.log(-np.expm1(-tiny)),
        "sigmoid": -np.log(tiny[:, :3] * (1 - tiny[:, :3])),
        "tanh": -np.log1p(-np.square(tiny[:, :3])),
    }
    for name, (flow, x, z) in cases.items():
        got, log_det = flow.forward({}, jnp.asarray(x, jnp.float32))
        z = np.where(x > 50, x, z)
        np.testing.assert_allclose(got, z, rtol=1e-3 if name == "sigmoid" else 1e-5)
        np.testing.assert_allclose(log_det, due_log_det[name].sum(1), rtol=1e-5, atol=1e-5)
    shares = jnp.asarray([[1.0, 1e-20, 1e-30]], jnp.float32)  # 1 − the rest is 1
    z, log_det = preprocess.stick_breaking().forward({}, shares)
    np.testing.assert_allclose(z, [[20 * np.log(10) + np.log(2), 10 * np.log(10)]], rtol=1e-5)
    np.testing.assert_allclose(log_det, 50 * np.log(10), rtol=1e-5)


def test_data_that_add_up_to_1_in_float32_are_in_the_support():
    with jax.enable_x64(False):
        x = np.random.default_rng(0).dirichlet(np.full(1000, 0.5), 20).astype(np.float32)
        assert np.all(np.isfinite(preprocess.stick_breaking().log_det({}, jnp.asarray(x))))


# ------------------------------------------------------------------------------------ others


@pytest.mark.slow
def test_arrays_of_several_axes():
    """The structure is of the last axes; log-dets are summed over all the others."""
    z = jax.random.normal(jax.random.key(0), (2, 4, 3), float)
    for name in ("ordered", "stick_breaking", "softmax_centered", "cholesky", "correlation"):
        flow = getattr(preprocess, name)()
        x, log_det = jax.jit(flow.inverse)({}, z)
        one, log_dets = jax.jit(flow.inverse)({}, z.reshape(8, 3))
        np.testing.assert_allclose(x.reshape(8, *x.shape[2:]), one, rtol=1e-6)
        np.testing.assert_allclose(log_det, log_dets.reshape(2, 4).sum(1), rtol=1e-6)
        back, forward_log_det = jax.jit(flow.forward)({}, x)
        np.testing.assert_allclose(back, z, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(forward_log_det, -log_det, rtol=1e-5, atol=1e-5)


def test_standardized_data_have_mean_0_and_deviation_1():
    x = np.random.default_rng(0).normal(size=(500, 3)) * [1e-6, 1.0, 1e6] + [1.0, 0.0, -1e6]
    x = np.concatenate([x, np.full((500, 1), 0.1)], axis=1)
    flow = preprocess.standardized(x)
    z, log_det = flow.forward(flow.init(jax.random.key(0), jnp.asarray(x)), jnp.asarray(x))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(z.std(0), [1, 1, 1, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_det, -np.log(x[:, :3].std(0)).sum(), rtol=1e-9)
    images = preprocess.standardized(np.arange(48.0).reshape(2, 2, 4, 3))  # a channel, all places
    z, _ = images.forward({}, jnp.arange(48.0).reshape(2, 2, 4, 3))
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, rtol=1e-6)


def test_statistics_are_of_float64_whatever_jax_computes_in():
    with jax.enable_x64(False):
        x = np.full((100_000, 1), 1e4, np.float32) + np.float32(0.5) * (np.arange(1e5)[:, None] % 2)
        z, _ = preprocess.standardized(x).forward({}, jnp.asarray(x))
    np.testing.assert_allclose(np.unique(z), [-1, 1], rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: preprocess.sigmoid(1, 1), r"low must be in \(-inf, 1\), got 1"),
        (lambda: preprocess.sigmoid(1e16, 1e16 + 2), "low must be below .* float64 in between"),
        (lambda: preprocess.sigmoid(0, np.inf), r"high must be in \(-inf, inf\), got inf"),
        (lambda: preprocess.power(0), "exponent must be a number other than 0, got 0"),
        (lambda: preprocess.fixed_affine(scale=[1, 0]), "scale must be numbers other than 0"),
        (lambda: preprocess.fixed_affine("many"), "shift must be a finite number or an array"),
        (lambda: jax.jit(preprocess.fixed_affine)(1.0), "shift must be .* known outside of jit"),
        (lambda: preprocess.standardized([[1.0, np.nan]]), r"data must be finite .* at \[0, 1\]"),
        (lambda: preprocess.standardized([1.0, 2.0]), r"data must be of shape \[N, ..., C\]"),
    ],
)
def test_arguments_that_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("flow", "x", "said"),
    [
        (preprocess.fixed_affine((1, 2, 3)), (2, 2), "x must be events of the shape of shift and"),
        (preprocess.stick_breaking(), (2, 1), r"x must be of shape \[B, ..., K\], of 2 parts"),
        (preprocess.cholesky(), (2, 3), r"x must be of shape \[B, ..., n, n\], n ≥ 1"),
        (preprocess.correlation(), (2, 1, 1), r"x must be of shape \[B, ..., n, n\], n ≥ 2"),
    ],
)
def test_shapes_that_are_refused(flow, x, said):
    with pytest.raises(ValueError, match=said):
        flow.forward({}, jnp.ones(x))


def test_latents_of_no_triangle_are_refused():
    with pytest.raises(ValueError, match=r"z must be of shape \[B, ..., n\(n\+1\)/2\], got .*2, 4"):
        preprocess.cholesky().inverse({}, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"z must be of shape \[B, ..., n\(n-1\)/2\], got .*2, 4"):
        preprocess.correlation().inverse({}, jnp.ones((2, 4)))
