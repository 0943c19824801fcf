"""Every surjection: draws, densities that integrate to one, and bounds that rise to the truth."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal, norm

import glowjax
from glowjax import as_flow, preprocess, surjections
from glowjax.surjections import check_surjection
from glowjax.testing import moved

NET = functools.partial(glowjax.MLP, width=8)
FLOW = glowjax.realnvp_mlp(steps=1, width=4)
SHIFT = glowjax.Autoregressive(glowjax.affine(), functools.partial(glowjax.MADE, width=8))
W = np.random.default_rng(0).normal(size=(5, 4))
IMAGES = np.random.default_rng(1).normal(size=(3, 4, 4, 2))

CASES = {
    "slicing": (surjections.slicing(1), W),
    "slicing_given_v": (surjections.slicing(2, FLOW), W),
    "absolute_value": (surjections.absolute_value(), W),
    "absolute_value_net": (surjections.absolute_value(NET), W),
    "sorting": (surjections.sorting(), W),
    "max_pooling": (surjections.max_pooling(), W),
    "max_pooling_images": (surjections.max_pooling(), IMAGES),
    "max_pooling_given_v": (surjections.max_pooling(2, FLOW), W),
    "argmax": (surjections.argmax(4), W),
    "argmax_flow": (surjections.argmax(4, as_flow(glowjax.ActNorm())), W),
    "rounding": (surjections.rounding(5), W / 8),
    "rounding_flow": (surjections.rounding(5, FLOW), W / 8),
    "columnwise": (
        surjections.columnwise(None, surjections.argmax(2), surjections.slicing(1)),
        np.random.default_rng(2).normal(size=(5, 5)),
    ),
}
LONG = {"columnwise"}
VARIANTS = {name for name in CASES if not hasattr(surjections, name)}
CASES_BY_TIER = [pytest.param(n, marks=[pytest.mark.slow] * (n in VARIANTS | LONG)) for n in CASES]


@pytest.mark.parametrize("name", CASES_BY_TIER)
def test_draws_become_what_they_are_drawn_for_and_follow_log_prob(name):
    surjection, w = CASES[name]
    tolerance = 1e-5 if "rounding" in name else 1e-9  # `dequantize` gives float32
    check_surjection(surjection, w, noise=0.3, draws=500, tolerance=tolerance)


def test_every_public_surjection_has_a_case():
    makers = set(surjections.__all__) - {
        "argmax_forward", "argmax_inverse", "check_surjection", "mixed_density"
    }  # fmt: skip
    assert makers == set(CASES) - VARIANTS


# ------------------------------------------------------------------------------------- exact


def grid(low, high, points, dims):
    """Midpoints of a grid of `dims` axes, `[points^dims, dims]`, and the volume of a cell."""
    edges = np.linspace(low, high, points + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    x = np.stack(np.meshgrid(*[middle] * dims), axis=-1).reshape(-1, dims)
    return x, (edges[1] - edges[0]) ** dims


def above_zero():
    return glowjax.chain(preprocess.exp(), as_flow(glowjax.ActNorm()))


EXACT = {
    "slicing": (surjections.slicing(1, as_flow(SHIFT)), as_flow(glowjax.ActNorm()), 1),
    "absolute_value": (surjections.absolute_value(NET), above_zero(), 2),
    "sorting": (
        surjections.sorting(),
        glowjax.chain(preprocess.ordered(), as_flow(glowjax.ActNorm())),
        2,
    ),
    "max_pooling": (
        surjections.max_pooling(
            2, glowjax.chain(preprocess.fixed_affine(shift=-1, scale=0.5), as_flow(SHIFT))
        ),
        as_flow(glowjax.ActNorm()),
        1,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_an_inference_surjection_integrates_to_one(name):
    """Over 800² cells of [-8, 8]²; log-normal densities have some 1e-3 of their mass beyond."""
    surjection, flow, dims = EXACT[name]
    model = glowjax.inference_surjection(glowjax.density(flow, (dims,)), surjection)
    assert not model.bound

    @jax.jit
    def total(x):
        params = moved(model.init(jax.random.key(0), jnp.asarray(W[:, :2] / 2)), 0.2)
        return jnp.sum(jnp.exp(model.log_prob(params, x))), params

    x, area = grid(-8, 8, 800, 2)
    mass, params = total(x)
    np.testing.assert_allclose(mass * area, 1, atol=3e-3)
    drawn, log_p = model.sample_and_log_prob(params, jax.random.key(1), 6)
    np.testing.assert_allclose(log_p, model.log_prob(params, drawn), rtol=1e-8)
    assert model.sample(params, jax.random.key(1), 6).shape == (6, 2)
    z, log_p = model.encode_and_log_prob(params, drawn)
    np.testing.assert_array_equal(z, model.encode(params, drawn))


@pytest.mark.slow
def test_probabilities_of_draws_add_up_to_one_in_every_category_and_bin():
    x, area = grid(-10, 10, 400, 2)
    argmax = surjections.argmax(2)
    params = moved(argmax.init_from_projected(jax.random.key(0), np.array([[0.0], [1.0]])), 0.3)
    q, category = np.exp(argmax.log_prob(params, x)), np.asarray(argmax.project(x))[:, 0]
    masses = [np.sum(q[category == c]) * area for c in (0, 1)]
    np.testing.assert_allclose(masses, [1, 1], atol=2e-2)  # the edge w_0 = w_1 cuts cells
    x, width = grid(-0.5, 0.5, 400, 1)
    rounding = surjections.rounding(4)
    np.testing.assert_allclose(np.sum(np.exp(rounding.log_prob({}, x))) * width, 4, rtol=1e-6)


# ------------------------------------------------------------------------------------- bounds

MEAN = np.array([0.4, -0.2])
ROOT = np.array([[1.0, 0.6], [-0.3, 0.9]])  # z = (w - MEAN) @ ROOT
FLAT = np.linalg.inv(ROOT)
COVARIANCE = FLAT.T @ FLAT
NORMAL = glowjax.chain(preprocess.fixed_affine(shift=MEAN), as_flow(glowjax.InvertibleConv1x1()))
PARAMS = ({}, {"weight": ROOT})


def log_normal(*w):
    return multivariate_normal(MEAN, COVARIANCE).logpdf(np.stack(w, axis=-1))


def largest(v):
    """The log-density of the larger of two numbers of N(MEAN, COVARIANCE)."""
    total = 0.0
    for i, j in ((0, 1), (1, 0)):
        slope = COVARIANCE[i, j] / COVARIANCE[i, i]
        mean = MEAN[j] + slope * (v - MEAN[i])
        rest = np.sqrt(COVARIANCE[j, j] - slope * COVARIANCE[i, j])
        total = total + norm.pdf(v, MEAN[i], COVARIANCE[i, i] ** 0.5) * ndtr((v - mean) / rest)
    return np.log(total)


def first_is_larger():
    difference = COVARIANCE[0, 0] + COVARIANCE[1, 1] - 2 * COVARIANCE[0, 1]
    return float(ndtr((MEAN[0] - MEAN[1]) / np.sqrt(difference)))


ONE = np.array([[-1.0], [0.3], [2.0]])
TWO = np.array([[0.2, 1.5], [0.4, 2.6], [1.1, 1.3]])
SIGNS = [(a, b) for a in (-1, 1) for b in (-1, 1)]
BOUNDS = {
    "slicing": (
        surjections.slicing(1), ONE, norm.logpdf(ONE[:, 0], MEAN[0], COVARIANCE[0, 0] ** 0.5)
    ),
    "absolute_value": (
        surjections.absolute_value(),
        TWO,
        np.log(sum(np.exp(log_normal(a * TWO[:, 0], b * TWO[:, 1])) for a, b in SIGNS)),
    ),
    "sorting": (
        surjections.sorting(),
        TWO - 1.5,
        np.logaddexp(*(log_normal(*(TWO - 1.5).T[list(order)]) for order in ((0, 1), (1, 0)))),
    ),
    "max_pooling": (surjections.max_pooling(), ONE, largest(ONE[:, 0])),
    "argmax": (
        surjections.argmax(2),
        np.array([[0.0], [1.0]]),
        np.log([first_is_larger(), 1 - first_is_larger()]),
    ),
}  # fmt: skip
REPEATS, DRAWS = 300, (1, 8, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_importance_weighted_bounds_rise_to_the_true_log_density_from_below(name):
    """Means of 300 estimates, each within five standard errors, and of the last within 1%."""
    surjection, v, truth = BOUNDS[name]
    model = glowjax.generative_surjection(glowjax.density(NORMAL, (2,)), surjection)
    assert model.bound
    params = PARAMS, surjection.init_from_projected(jax.random.key(3), v)

    @jax.jit
    def estimates(key):
        draws = jax.vmap(lambda k: model.log_prob(params, v, key=k))(
            jax.random.split(key, REPEATS * DRAWS[-1])
        ).reshape(REPEATS, DRAWS[-1], -1)
        return [glowjax.log_mean_exp(draws[:, :n], axis=1) for n in DRAWS]

    found = estimates(jax.random.key(0))
    means = np.array([np.mean(a, axis=0) for a in found])
    errors = np.array([np.std(a, axis=0) for a in found]) / np.sqrt(REPEATS)
    assert np.all(means < truth + 5 * errors + 1e-12)
    assert np.all(np.diff(means, axis=0) > -5 * np.hypot(errors[1:], errors[:-1]))
    assert np.max(truth - means[0]) > 0.05  # a bound that is not tight
    np.testing.assert_allclose(means[-1], truth, atol=0.01 + 5 * np.max(errors[-1]))


def test_importance_weighting_is_the_log_mean_exp_of_draws():
    surjection, v, _ = BOUNDS["slicing"]
    model = glowjax.generative_surjection(glowjax.density(NORMAL, (2,)), surjection)
    params = PARAMS, surjection.init_from_projected(jax.random.key(3), v)
    key = jax.random.key(1)
    weighted = glowjax.importance_weighted_log_prob(model, params, v, key, 5)
    draws = [model.log_prob(params, v, key=k) for k in jax.random.split(key, 5)]
    np.testing.assert_allclose(weighted, glowjax.log_mean_exp(jnp.stack(draws)), rtol=1e-9)
    with pytest.raises(ValueError, match="model must be a density whose log_prob is a bound"):
        exact = glowjax.density(NORMAL, (2,))
        glowjax.importance_weighted_log_prob(exact, PARAMS, TWO, key, 5)


# --------------------------------------------------------------------------------- both ways


def test_a_generative_surjection_says_that_it_is_a_bound():
    model = glowjax.generative_surjection(glowjax.density(NORMAL, (2,)), surjections.slicing(1))
    params = model.init_from_base(jax.random.key(0), 6)
    x = model.sample(params, jax.random.key(1), 6)
    assert x.shape == (6, 1)
    z, log_p = model.encode_and_log_prob(params, x, key=jax.random.key(2))
    np.testing.assert_allclose(model.decode(params, z), x, rtol=1e-9)
    np.testing.assert_array_equal(log_p, model.log_prob(params, x, key=jax.random.key(2)))
    for message, call in {
        "key must be a JAX key": lambda: model.log_prob(params, x),
        "exact log_prob": lambda: model.sample_and_log_prob(params, jax.random.key(0), 3),
        "encode_and_log_prob, with a key": lambda: model.encode(params, x),
        "surjection must be pathwise": lambda: glowjax.generative_surjection(
            glowjax.density(NORMAL, (2,)), surjections.absolute_value(NET)
        ),
        "surjection must be a Surjection": lambda: glowjax.inference_surjection(
            glowjax.density(NORMAL, (2,)),
            NORMAL,  # ty: ignore[invalid-argument-type]
        ),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.slow
def test_an_inference_surjection_of_a_bound_is_a_bound():
    density = glowjax.density(as_flow(glowjax.ActNorm()), (3,))
    inner = glowjax.generative_surjection(density, surjections.slicing(1))
    model = glowjax.inference_surjection(inner, surjections.absolute_value())
    assert model.bound
    params = model.init(jax.random.key(0), W[:, :2])
    log_p = model.log_prob(params, W[:, :2], key=jax.random.key(1))
    of_v = inner.log_prob(params[0], np.abs(W[:, :2]), key=jax.random.key(1))
    np.testing.assert_allclose(log_p, of_v - 2 * np.log(2), rtol=1e-9)
    with pytest.raises(ValueError, match="many x have the same latents"):
        model.decode(params, W)


# ---------------------------------------------------------------------------------- one by one


@pytest.mark.slow
@pytest.mark.float32
def test_no_rounding_takes_another_number_up_to_that_of_the_category():
    labels = jnp.arange(3)
    u = jnp.asarray([[0.0, 80.0, -5.0], [200.0, 1e4, 1e3], [9.0, 90.0, -1e3]])
    w, log_det = surjections.argmax_inverse(u, labels)
    np.testing.assert_array_equal(jnp.argmax(w, axis=1), labels)
    back, of_back = surjections.argmax_forward(w, labels)
    assert np.all(np.isfinite([log_det, of_back])) and np.all(np.isfinite(back))


@pytest.mark.slow
def test_the_argmax_map_has_the_log_determinant_of_its_jacobian():
    u, labels = jnp.asarray(W), jnp.asarray([0, 1, 2, 3, 1])
    w, log_det = surjections.argmax_inverse(u, labels)
    jacobian = jax.vmap(jax.jacobian(lambda a, c: surjections.argmax_inverse(a[None], c[None])[0]))(
        u, labels
    )[:, 0]
    np.testing.assert_allclose(log_det, jnp.linalg.slogdet(jacobian)[1], rtol=1e-9)
    back, of_back = surjections.argmax_forward(w, labels)
    np.testing.assert_allclose(back, u, rtol=1e-9)
    np.testing.assert_allclose(of_back, -log_det, rtol=1e-9)


def test_bad_input_is_refused():
    argmax, key = surjections.argmax(3), jax.random.key(0)
    for message, call in {
        r"v must be whole numbers in 0\.\.2, got 3.0 in row 1": lambda: argmax.init_from_projected(
            key, np.array([[0.0], [3.0]])
        ),
        r"v must be whole numbers in 0\.\.2, got 0.5": lambda: argmax.init_from_projected(
            key, np.array([[0.5]])
        ),
        r"w must be of shape \[B, 3\]": lambda: argmax.project(W),
        "categories must be a whole number of at least 2": lambda: surjections.argmax(1),
        "size must be a whole number of at least 1": lambda: surjections.slicing(0),
        "window must be a whole number of at least 2": lambda: surjections.max_pooling(1),
        r"w must be of shape \[B, \.\.\., C\] with C above 4": lambda: surjections.slicing(
            4
        ).project(W),
        "w must be of sizes that 3 divides": lambda: surjections.max_pooling(3).project(W),
        r"parts\[1\] must be a surjection": lambda: surjections.columnwise(None, 3),  # ty: ignore[invalid-argument-type]
        "parts must be a surjection": surjections.columnwise,
        r"w must be of shape \[B, 3\], got": lambda: surjections.columnwise((None, 3)).project(W),
        r"column 2: v must be whole numbers in 0\.\.2, got nan in row 1": lambda: (
            surjections.columnwise((None, 2), argmax).init_from_projected(
                key, jnp.array([[0.1, 0.2, 1.0], [0.1, 0.2, np.nan]])
            )
        ),
        "categories must be a tuple": lambda: surjections.mixed_density(FLOW, ()),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.slow
def test_a_category_that_is_none_is_nan_under_jit():
    argmax = surjections.argmax(3)
    params = argmax.init_from_projected(jax.random.key(0), np.array([[0.0], [2.0]]))
    log_q = jax.jit(argmax.draw)(params, jax.random.key(1), jnp.array([[1.0], [3.0], [0.5]]))[1]
    np.testing.assert_array_equal(np.isnan(log_q), [False, True, True])


def test_surjections_and_their_densities_go_through_pickle():
    mixed = surjections.mixed_density(FLOW, (None, 3))
    ordered = glowjax.inference_surjection(glowjax.density(FLOW, (4,)), surjections.sorting())
    for thing in (*(surjection for surjection, _ in CASES.values()), mixed, ordered):
        assert repr(pickle.loads(pickle.dumps(thing))) == repr(thing) and "0x" not in repr(thing)


# ------------------------------------------------------------------------------------- tables

SPLINE = glowjax.rational_quadratic()
CATEGORIES = (None, 3, None)


def table(n, seed=0):
    """A category, of 0 … 2, and two numbers that depend on it."""
    rng = np.random.default_rng(seed)
    c = rng.choice(3, size=n, p=[0.5, 0.2, 0.3])
    x = np.array([0.0, 3.0, -2.0])[c] + np.array([1.0, 0.3, 0.6])[c] * rng.normal(size=n)
    return np.stack([x, c, rng.normal(size=n)], axis=1)


@pytest.mark.slow
def test_a_mixed_density_has_the_mass_one_over_numbers_and_categories():
    """E[w] = p(v) exactly, so that a mean over draws, summed over a grid and categories, is 1."""
    model = surjections.mixed_density(glowjax.maf(steps=1, width=8), (None, 3))
    rows = table(64)[:, :2]
    x, width = grid(-15, 15, 300, 1)
    v = np.concatenate([np.column_stack([x, np.full(len(x), c)]) for c in range(3)])

    @jax.jit
    def total(key):
        p, (number, (flow, base)) = moved(model.init(jax.random.key(0), rows), 0.2)
        wide = base | {"log_std": base["log_std"] + 0.7}  # so that no weight is far above others
        params = p, (number, (flow, wide))
        log_p = glowjax.importance_weighted_log_prob(model, params, v, key, 400)
        return jnp.sum(jnp.exp(log_p)) * width

    totals = [float(total(jax.random.key(i))) for i in range(8)]
    error = np.std(totals) / np.sqrt(8)
    assert error < 0.02 and abs(np.mean(totals) - 1) < 0.002 + 4 * error


@pytest.mark.slow
@pytest.mark.float32
def test_fit_learns_numbers_that_depend_on_a_category():
    rows, test = table(4000), table(2000, seed=1)
    model = surjections.mixed_density(glowjax.maf(steps=2, width=32, transform=SPLINE), CATEGORIES)
    params = glowjax.fit(model, rows, steps=600, show=False).params
    drawn = np.asarray(model.sample(params, jax.random.key(0), 4000))
    share = np.mean(drawn[:, 1][:, None] == np.arange(3), axis=0)
    np.testing.assert_allclose(share, [0.5, 0.2, 0.3], atol=0.05)
    means = [drawn[drawn[:, 1] == c, 0].mean() for c in range(3)]
    np.testing.assert_allclose(means, [0, 3, -2], atol=0.2)
    log_p = glowjax.importance_weighted_log_prob(
        model, params, jnp.asarray(test, jnp.float32), jax.random.key(1), 100
    )
    c = test[:, 1].astype(int)
    truth = (
        np.log([0.5, 0.2, 0.3])[c]
        + norm.logpdf(test[:, 0], np.array([0.0, 3.0, -2.0])[c], np.array([1.0, 0.3, 0.6])[c])
        + norm.logpdf(test[:, 2])
    )
    assert -0.15 < np.mean(log_p - truth) < 0.01
