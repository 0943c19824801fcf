"""Bases: normalised, as scipy has them, with samples to match and gradients for every parameter."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from cases import SMALL_MLP
from tensorflow_probability.substrates.jax.distributions import Cauchy

import glowjax
from glowjax import as_flow


class Wave(nn.Module):
    """Logits that go up and down: a resampled normal of many modes."""

    features: int

    @nn.compact
    def __call__(self, x):
        frequency = self.param("frequency", lambda _: 2 + jnp.arange(1.0, 1 + x.shape[-1]))
        return 3 * jnp.sum(jnp.sin(frequency * x), axis=-1, keepdims=True) - 2


ACTNORM = as_flow(glowjax.ActNorm())
LEARNED: dict[str, Any] = {
    "diagonal_normal": glowjax.diagonal_normal(),
    "gaussian_mixture": glowjax.gaussian_mixture(3),
    "student_t": glowjax.student_t(4.0, learned=True),
    "class_conditional_normal": glowjax.class_conditional_normal(3),
    "resampled_normal": glowjax.resampled_normal(tries=5, draws=20_000, net=Wave),
}
FIXED = {
    "standard_normal": lambda: (glowjax.standard_normal(), scipy.stats.norm()),
    "logistic": lambda: (glowjax.logistic(), scipy.stats.logistic()),
    "uniform": lambda: (glowjax.uniform(-1.5, 2.0), scipy.stats.uniform(-1.5, 3.5)),
    "student_t": lambda: (glowjax.student_t(3.5), scipy.stats.t(3.5)),
}


def moved(base, z):
    """Parameters of `base`, every one of them moved."""
    return glowjax.testing.moved(base.init(jax.random.key(0), z), 0.4)


def context_of(name, n, label=1):
    return jnp.full(n, label) if name == "class_conditional_normal" else None


def grid_1d(extent=40.0, points=40_000):
    width = 2 * extent / points
    return -extent + width * (np.arange(points) + 0.5), width


# ---------------------------------------------------------------------- densities and samples


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXED)
def test_fixed_bases_are_scipys(name):
    base, expected = FIXED[name]()
    z = np.random.default_rng(0).normal(0, 2, (50, 2, 3))
    got = base.log_prob(None, jnp.asarray(z))
    np.testing.assert_allclose(got, expected.logpdf(z).sum((1, 2)), rtol=1e-10)
    assert base.init is None
    x = base.sample(None, jax.random.key(0), jnp.zeros((2000, 1)), 1.0)[:, 0]
    assert scipy.stats.kstest(x, expected.cdf).pvalue > 0.01


def test_uniform_is_minus_infinity_outside():
    log_p = glowjax.uniform(0.0, 2.0).log_prob(None, jnp.array([[-0.1], [1.0], [2.1]]))
    np.testing.assert_allclose(log_p, [-np.inf, -np.log(2), -np.inf])


def test_what_is_not_known_has_no_density_under_a_uniform():
    log_p = glowjax.uniform(0.0, 2.0).log_prob(None, jnp.array([[np.nan, 1.0], [np.nan, 3.0]]))
    assert np.all(np.isnan(log_p))


@pytest.mark.parametrize("temperature", [0.0, 0.5, 3.0])
def test_temperature_leaves_a_uniform_as_it_is(temperature):
    base, like = glowjax.uniform(-1.0, 1.0), jnp.zeros((5, 2))
    drawn, wanted = (base.sample(None, jax.random.key(0), like, t) for t in (temperature, 1.0))
    np.testing.assert_array_equal(drawn, wanted)


@pytest.mark.parametrize("how", [lambda sample: sample, jax.jit])
def test_without_a_mean_there_is_no_temperature(how):
    flow = glowjax.as_flow(glowjax.ActNorm())
    model = glowjax.density(flow, (2,), Cauchy(0.0, 1.0))
    params = model.init(jax.random.key(0), jnp.eye(2))
    assert np.all(np.isfinite(model.sample(params, jax.random.key(1), 3)))
    with pytest.raises(ValueError, match="temperature must be 1 for a base without a mean"):
        how(lambda t: model.sample(params, jax.random.key(1), 3, t))(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_learned_bases_integrate_to_one_and_samples_follow(name):
    base = LEARNED[name]
    grid, width = grid_1d(*((1000.0, 400_000) if name == "student_t" else ()))

    @jax.jit
    def measure(z):
        params = moved(base, z)
        log_p = base.log_prob(params, z, context_of(name, len(z)))
        like = jnp.zeros((3000, 1))
        return log_p, base.sample(params, jax.random.key(2), like, 1.0, context_of(name, 3000))

    log_p, x = measure(jnp.asarray(grid)[:, None])
    p = np.exp(log_p)
    # Z of a resampled base is estimated: 20,000 draws are good to 1 %.
    np.testing.assert_allclose(
        p.sum() * width, 1, atol=0.02 if name == "resampled_normal" else 1e-6
    )
    cdf = np.cumsum(p) / p.sum()
    assert scipy.stats.kstest(x[:, 0], lambda v: np.interp(v, grid, cdf)).pvalue > 0.01
    if name == "resampled_normal":  # and is not the normal it comes from
        assert scipy.stats.kstest(x[:, 0], scipy.stats.norm.cdf).pvalue < 1e-6


@pytest.mark.parametrize("name", ["gaussian_mixture", "resampled_normal"])
def test_bases_of_several_latents_integrate_to_one_in_2d(name):
    base = LEARNED[name]
    x, area = glowjax.targets.grid((-20.0, 20.0), 250)

    @jax.jit
    def total(x):
        z = (x[:, :1], x[:, 1:, None])
        return jnp.sum(jnp.exp(base.log_prob(moved(base, z), z))) * area

    np.testing.assert_allclose(total(x), 1, atol=0.02 if name == "resampled_normal" else 1e-6)


def test_diagonal_normal_is_scipys():
    z = np.random.default_rng(0).normal(size=(5, 3))
    mean, std = np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.5])
    params = {"mean": jnp.asarray(mean), "log_std": jnp.log(std)}
    expected = scipy.stats.norm(mean, std).logpdf(z).sum(-1)
    np.testing.assert_allclose(LEARNED["diagonal_normal"].log_prob(params, z), expected)


def test_gaussian_mixture_is_scipys():
    """Components of whole events, not one mixture for every number."""
    base, z = LEARNED["gaussian_mixture"], np.random.default_rng(0).normal(size=(5, 2))
    params = moved(base, jnp.asarray(z))
    weights = jax.nn.softmax(params["logits"])
    normals = zip(params["mean"], np.exp(2 * params["log_std"]), strict=True)
    p = [scipy.stats.multivariate_normal(m, np.diag(v)).pdf(z) for m, v in normals]
    np.testing.assert_allclose(base.log_prob(params, z), np.log(weights @ np.array(p)))


def test_mixture_components_differ_at_first():
    params = LEARNED["gaussian_mixture"].init(jax.random.key(0), (jnp.zeros((4, 2)),) * 2)
    for mean in params["mean"]:
        assert len(np.unique(mean)) == 6
    assert not np.allclose(*params["mean"])


def test_students_degrees_of_freedom_are_learned_one_a_latent():
    base, z = LEARNED["student_t"], np.random.default_rng(0).normal(size=(5, 2))
    params = base.init(jax.random.key(0), jnp.asarray(z))
    np.testing.assert_allclose(params["log_df"], np.log([4.0, 4.0]))
    df = np.array([1.5, 30.0])
    expected = scipy.stats.t(df).logpdf(z).sum(-1)
    np.testing.assert_allclose(base.log_prob({"log_df": jnp.log(df)}, z), expected)
    x = base.sample({"log_df": jnp.log(df)}, jax.random.key(0), jnp.zeros((3000, 2)), 1.0)
    for v, d in zip(x.T, df, strict=True):
        assert scipy.stats.kstest(v, scipy.stats.t(d).cdf).pvalue > 0.01


# ------------------------------------------------------------------------- resampled normal


def test_resampled_normal_starts_as_the_normal_and_leaves_it():
    base: Any = glowjax.resampled_normal(draws=50, net=SMALL_MLP)
    z = jnp.linspace(-2, 2, 8)[:, None]
    params = jax.jit(base.init)(jax.random.key(0), z)
    loss = jax.jit(jax.value_and_grad(lambda p: base.log_prob(p, z)[0]))
    log_p, gradient = loss(params)
    np.testing.assert_allclose(log_p, scipy.stats.norm.logpdf(-2), rtol=1e-12)
    assert np.any(gradient["out"]["weight"] != 0)


class Step(nn.Module):
    """a = σ(40) where the first latent is positive, and σ(-40) elsewhere: Z = ½."""

    features: int

    @nn.compact
    def __call__(self, x):
        return self.param("size", lambda _: jnp.full((), 40.0)) * jnp.sign(x[:, :1])


@pytest.mark.slow
@pytest.mark.parametrize("tries", [2, 4])
def test_truncation_leaves_what_is_never_accepted(tries):
    """α = ½^(tries - 1) of the mass is that of a plain normal: half of it lies below 0."""
    base: Any = glowjax.resampled_normal(tries=tries, draws=200_000, net=Step)
    z = jnp.array([[-1.0], [1.0]])
    params = base.init(jax.random.key(0), z)
    alpha = 0.5 ** (tries - 1)
    expected = scipy.stats.norm.pdf(1.0) * np.array([alpha, 2 - alpha])
    np.testing.assert_allclose(np.exp(base.log_prob(params, z)), expected, rtol=0.02)
    x = base.sample(params, jax.random.key(1), jnp.zeros((20_000, 1)), 1.0)
    np.testing.assert_allclose(np.mean(x < 0), alpha / 2, atol=0.01)


@pytest.mark.slow
def test_the_normaliser_has_the_error_that_is_told():
    z = jax.random.normal(jax.random.key(3), (1, 2))

    @jax.jit
    def estimates(z):
        params = moved(LEARNED["resampled_normal"], z)
        bases = [
            glowjax.resampled_normal(tries=50, draws=400, seed=seed, net=Wave) for seed in range(12)
        ]
        many = glowjax.resampled_normal(tries=50, draws=100_000, seed=99, net=Wave)
        logits: Any = Wave(features=1).apply(
            {"params": params}, jax.random.normal(jax.random.key(5), (100_000, 2))
        )
        mean = jnp.mean(jax.nn.sigmoid(logits))
        return [b.log_prob(params, z)[0] for b in bases], many.log_prob(params, z)[0], mean

    few, exact, mean = estimates(z)
    bound = np.sqrt((1 - mean) / (mean * 400))
    error = np.std(np.array(few) - exact)
    assert 0.1 * bound < error < 1.5 * bound


# ------------------------------------------------------------------- temperature and gradients


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_temperature_scales_around_the_centre(name):
    base = LEARNED[name]
    like = (jnp.zeros((6, 2)), jnp.zeros((6, 1, 3)))
    params = moved(base, like)

    def draw(temperature):
        z = base.sample(params, jax.random.key(0), like, temperature, context_of(name, 6))
        assert jax.tree.map(jnp.shape, z) == jax.tree.map(jnp.shape, like)
        return z[1]

    cold, cool, warm = map(draw, (0.0, 0.5, 1.0))
    if name in ("student_t", "resampled_normal"):
        np.testing.assert_array_equal(cold, np.zeros_like(cold))
    elif name == "gaussian_mixture":
        assert all(np.any(np.all(z == params["mean"][1], (1, 2))) for z in cold)
    else:
        mean = params["mean"][1]
        np.testing.assert_array_equal(cold - (mean if name[0] == "d" else mean[1]), 0)
    if name != "resampled_normal":  # which accepts other proposals
        np.testing.assert_allclose(2 * (cool - cold), warm - cold, rtol=1e-9)
    assert len(np.unique(warm)) == warm.size


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_gradients_reach_every_parameter_of_tuple_latents(name):
    base = LEARNED[name]
    keys = jax.random.split(jax.random.key(7))
    z = (jax.random.normal(keys[0], (9, 2)), jax.random.normal(keys[1], (9, 1, 3)))
    context = jnp.arange(9) % 3 if name == "class_conditional_normal" else None

    @jax.jit
    def gradient(z):
        def loss(params, z):
            return jnp.sum(jnp.sin(base.log_prob(params, z, context)))

        return jax.grad(loss, argnums=(0, 1))(moved(base, z), z)

    for leaf in jax.tree.leaves(gradient(z)):
        assert np.all(np.isfinite(leaf)) and np.all(np.any(leaf != 0, axis=-1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diagonal_normal", "gaussian_mixture", "student_t"])
def test_samples_are_differentiable(name):
    base, like = LEARNED[name], jnp.zeros((9, 2))
    params = moved(base, like)

    def loss(params):
        return jnp.sum(base.sample(params, jax.random.key(0), like, 1.0) ** 2)

    gradient = jax.grad(loss)(params)
    for key, leaf in gradient.items():
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0) == (key != "logits")


# ------------------------------------------------------------------------------ with a flow


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_a_density_takes_a_learned_base(name):
    base = LEARNED[name]
    model = glowjax.density(ACTNORM, (2,), base)
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (12, 2))
    context = context_of(name, 12)

    @jax.jit
    def measure(x):
        params = model.init(jax.random.key(1), x, context)
        drawn = model.sample_and_log_prob(params, jax.random.key(2), 12, context)
        return params, drawn, model.log_prob(params, drawn[0], context)

    params, (y, log_p), again = measure(x)
    assert y.shape == x.shape
    np.testing.assert_allclose(log_p, again, rtol=1e-9)
    z, log_det = ACTNORM.forward(params[0], x)
    expected = base.log_prob(params[1], z, context) + log_det
    np.testing.assert_allclose(model.log_prob(params, x, context), expected, rtol=1e-9)


def test_the_base_alone_may_see_labels():
    """Latents are a tuple, and the base alone sees labels."""
    model = glowjax.density(
        as_flow(glowjax.Split()), (2, 2, 2), glowjax.class_conditional_normal(3)
    )
    x = jax.random.normal(jax.random.key(0), (4, 2, 2, 2))

    @jax.jit
    def measure(x, labels):
        params = model.init(jax.random.key(1), x, labels)
        base_params = jax.tree.map(lambda a: a + jnp.arange(3.0)[:, None, None, None], params[1])
        return model.log_prob((params[0], base_params), x, labels)

    log_p = measure(x, jnp.array([0, 1, 2, 0]))
    other = measure(x, jnp.array([0, 2, 2, 3]))
    assert np.array_equal(log_p == other, [True, False, True, False])
    np.testing.assert_array_equal(np.isnan(other), [False, False, False, True])


@pytest.mark.float32
@pytest.mark.parametrize("name", LEARNED)
def test_bases_are_float32(name):
    base, like = LEARNED[name], jnp.zeros((4, 2), jnp.float32)
    context = context_of(name, 4)

    def dtypes(like):
        params = base.init(jax.random.key(0), like)
        z = base.sample(params, jax.random.key(0), like, 1.0, context)
        return params, z, base.log_prob(params, z, context)

    assert {a.dtype for a in jax.tree.leaves(jax.eval_shape(dtypes, like))} == {
        np.dtype(np.float32)
    }


# ---------------------------------------------------------------------------------- errors


def test_labels_are_checked():
    base = LEARNED["class_conditional_normal"]
    z = jnp.zeros((4, 2))
    params = moved(base, z)
    for wrong in (None, jnp.zeros(4), jnp.zeros(3, int), jnp.zeros((4, 1), int)):
        with pytest.raises(ValueError, match=r"context must be integer labels of shape \(4,\)"):
            base.log_prob(params, z, wrong)
        with pytest.raises(ValueError, match=r"context must be integer labels of shape \(4,\)"):
            base.sample(params, jax.random.key(0), z, 1.0, wrong)
    labels = jnp.array([0, -1, 2, 3])
    log_p = jax.jit(base.log_prob)(params, z, labels)
    np.testing.assert_array_equal(np.isnan(log_p), [False, True, False, True])
    drawn = jax.jit(lambda labels: base.sample(params, jax.random.key(0), z, 1.0, labels))(labels)
    np.testing.assert_array_equal(np.isnan(drawn[:, 0]), [False, True, False, True])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: glowjax.uniform(1.0, 1.0), r"low must be in \(-inf, 1\), got 1.0"),
        (lambda: glowjax.student_t(0.0), r"df must be in \(0, inf\), got 0.0"),
        (lambda: glowjax.gaussian_mixture(0), "components must be a whole number"),
        (lambda: glowjax.class_conditional_normal(0), "num_classes must be a whole number"),
        (lambda: glowjax.resampled_normal(tries=1), "tries must be a whole number of at least 2"),
        (lambda: glowjax.resampled_normal(draws=0), "draws must be a whole number"),
        (lambda: glowjax.resampled_normal(seed=-1), "seed must be a whole number"),
    ],
)
def test_bases_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()
