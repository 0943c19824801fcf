"""Mixture CDFs: against scipy, in the tails, their samples, and derivatives through the inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from glowjax import mixture_cdf, mixture_log_prob, mixture_sample
from glowjax.bijections.scalar.mixture_cdf import _lower_normal_quantile

FAMILIES = {"logistic": scipy.stats.logistic, "gaussian": scipy.stats.norm}
TARGETS = {
    "logit": scipy.stats.logistic,
    "normal": scipy.stats.norm,
    "uniform": scipy.stats.uniform,
}
ALL = [(family, to) for family in FAMILIES for to in TARGETS]
K = 3
RAW = np.random.default_rng(0).normal(size=3 * K)


def scipy_mixture(method, family, x, raw=RAW):
    """Σ_k π_k·method of the components, from scipy."""
    logits, mean, log_scale = np.split(raw, 3)
    offset = np.array([-2 / 3, 0, 2 / 3])
    parts = getattr(FAMILIES[family], method)(x[:, None], mean + offset, np.exp(log_scale))
    return parts @ scipy.special.softmax(logits)


def rows(x, raw=RAW):
    return jnp.broadcast_to(jnp.asarray(raw, jnp.result_type(float)), (*np.shape(x), len(raw)))


# --------------------------------------------------------------------------------- values


@pytest.mark.slow
@pytest.mark.parametrize(("family", "to"), ALL)
def test_is_the_mixtures_cdf_and_density(family, to):
    x = np.linspace(-4, 4, 41)
    z, log_slope = jax.jit(mixture_cdf(K, family=family, to=to).forward)(x, rows(x))
    cdf, pdf = (scipy_mixture(method, family, x) for method in ("cdf", "pdf"))
    np.testing.assert_allclose(TARGETS[to].cdf(z), cdf, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_slope) * TARGETS[to].pdf(z), pdf, rtol=1e-12)
    np.testing.assert_allclose(
        jax.jit(mixture_log_prob, static_argnames="family")(x, rows(x), family=family),
        np.log(pdf),
        rtol=1e-12,
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_density_integrates_to_one(family):
    x, width = jnp.linspace(-80, 80, 8001, retstep=True)
    log_prob = mixture_log_prob(x, rows(x), family=family)
    np.testing.assert_allclose(np.sum(np.exp(log_prob)) * width, 1, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "to"), ALL)
def test_at_raw_0_every_parameter_matters_and_none_twice(family, to):
    forward = mixture_cdf(4, family=family, to=to).forward

    @jax.jit
    @jax.vmap
    def measure(x):
        raw = jnp.zeros(12)
        jacobian = jax.jacrev(lambda x, raw: jnp.stack(forward(x, raw)), (0, 1))(x, raw)
        return forward(x, raw)[1], *jacobian

    log_slope, of_x, of_raw = map(np.asarray, measure(jnp.array([-0.7, 0.0, 0.4])))
    np.testing.assert_allclose(of_x[:, 0], np.exp(log_slope), rtol=1e-12)  # at the median too
    assert np.all(of_raw[2] != 0) and np.all(np.isfinite(of_raw))
    for same_kind in np.split(of_raw[2], 3, axis=1):
        assert len(np.unique(np.round(same_kind, 9), axis=1).T) == 4


def test_near_the_identity_at_raw_0():
    x = np.linspace(-5, 5, 101)
    for family, to in (("logistic", "logit"), ("gaussian", "normal")):
        z, log_slope = jax.jit(mixture_cdf(8, family=family, to=to).forward)(
            x, jnp.zeros((101, 24))
        )
        assert np.max(np.abs(z - x)) < 1 and np.max(np.abs(log_slope)) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_net_gone_wild_still_has_an_inverse(family):
    """Log-scales beyond the bound are the bound's."""
    transform, x = mixture_cdf(K, family=family), jnp.linspace(-3e-3, 3e-3, 7)
    wild, bound = (rows(x, np.repeat([0.0, 0, scale], K)) for scale in (-1e4, -7.0))
    z, log_slope = transform.forward(x, wild)
    np.testing.assert_array_equal(z, transform.forward(x, bound)[0])
    assert np.all(np.isfinite(log_slope)) and np.all(np.diff(z) > 0)
    np.testing.assert_allclose(transform.inverse(z, wild)[0], x, atol=1e-9)


# ---------------------------------------------------------------------------------- tails


@pytest.mark.slow
@pytest.mark.parametrize(("family", "to"), [pair for pair in ALL if pair[1] != "uniform"])
def test_far_tails_in_float64(family, to):
    """Against the one component that is left there, to whose tail the others add nothing."""
    raw = np.array([0.3, 0, 0, 0, 0, 0, np.log(2), -0.2, -0.1])  # the first is the widest
    weight, mean = scipy.special.softmax(raw[:3])[0], -2 / 3
    x = np.array([-600.0, -150, 150, 600])
    logsf = FAMILIES[family].logsf(np.abs(x - mean), scale=2) + np.log(weight)
    size = {"logit": -logsf, "normal": -scipy.special.ndtri_exp(logsf)}[to]
    transform = mixture_cdf(K, family=family, to=to)
    z, log_slope = jax.jit(transform.forward)(x, rows(x, raw))
    np.testing.assert_allclose(z, np.sign(x) * size, rtol=1e-12)
    log_pdf = FAMILIES[family].logpdf(x, mean, 2) + np.log(weight)
    np.testing.assert_allclose(log_slope, log_pdf - TARGETS[to].logpdf(z), rtol=1e-9, atol=1e-9)
    back, inverse_log_slope = jax.jit(transform.inverse)(z, rows(x, raw))
    np.testing.assert_allclose(back, x, rtol=1e-12)
    np.testing.assert_allclose(inverse_log_slope, -log_slope, atol=1e-9)


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize(("family", "to"), [pair for pair in ALL if pair[1] != "uniform"])
def test_far_tails_in_float32(family, to):
    """Rounding of ln F, relatively 6e-8, is what z and x lose; log_slope is a difference of logs.

    exp of any of these tails is 0 in float32 from x = 110 (14 for Gaussians).
    """
    x = np.array([-1000, -120, -20, -8, 0.5, 8, 20, 120, 1000], np.float32)
    transform = mixture_cdf(K, family=family, to=to)

    @jax.jit
    def both(x):
        z, log_slope = transform.forward(x, rows(x))
        return z, log_slope, *transform.inverse(z, rows(x))

    z, log_slope, back, inverse_log_slope = map(np.asarray, both(x))
    assert z.dtype == log_slope.dtype == back.dtype == np.float32
    with jax.enable_x64(True):
        exact_z, exact = map(np.asarray, jax.jit(transform.forward)(np.float64(x), rows(x)))
    np.testing.assert_allclose(z, exact_z, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(back, x, rtol=4e-6, atol=4e-6)
    log_sizes = np.maximum(np.square(x) if family == "gaussian" else np.abs(x), 10)
    assert np.all(np.abs(log_slope - exact) < 1e-6 * log_sizes)
    assert np.all(np.abs(log_slope + inverse_log_slope) < 2e-6 * log_sizes)


@pytest.mark.parametrize("family", FAMILIES)
def test_increasing(family):
    x = np.sort(np.random.default_rng(1).uniform(-30, 30, 2000))
    for to in ("logit", "normal"):
        z, _ = jax.jit(mixture_cdf(K, family=family, to=to).forward)(x, rows(x))
        assert np.all(np.diff(z) > 0)


def check_uniform(family, precision):
    x = np.linspace(-300, 300, 20_001).astype(precision)
    z, log_slope = jax.jit(mixture_cdf(K, family=family, to="uniform").forward)(x, rows(x))
    assert z.dtype == precision
    assert np.all(np.diff(z) >= -np.finfo(precision).eps) and np.all((z >= 0) & (z <= 1))
    assert z[0] < 1e-30 and z[-1] == 1
    assert np.all(np.isfinite(log_slope))  # where z is rounded to 0 and 1 too


@pytest.mark.parametrize("family", FAMILIES)
def test_uniform_goes_from_0_to_1_and_no_further(family):
    check_uniform(family, np.float64)


@pytest.mark.float32
@pytest.mark.parametrize("family", FAMILIES)
def test_uniform_goes_from_0_to_1_and_no_further_in_float32(family):
    check_uniform(family, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_no_number_for_latents_outside(family):
    uniform = jax.jit(mixture_cdf(K, family=family, to="uniform").inverse)
    z = np.array([-1e300, -0.1, 0.0, 1.0, 1.1, np.inf, np.nan])
    for given in uniform(z, rows(z)):
        assert np.all(np.isnan(given))
    for given in uniform(np.array([1e-300, 0.5, 1 - 1e-16]), rows(np.zeros(3))):
        assert np.all(np.isfinite(given))
    for to in ("logit", "normal"):
        z = np.array([-np.inf, np.inf, np.nan])
        for given in jax.jit(mixture_cdf(K, family=family, to=to).inverse)(z, rows(z)):
            assert np.all(np.isnan(given))


def test_latents_outside_do_not_spoil_gradients_of_others():
    inverse = mixture_cdf(K, to="uniform").inverse
    z = jnp.array([0.0, 0.3, 2.0])  # couplings by a checkerboard hold zeros that they drop

    def loss(raw):
        return jnp.sum(jnp.where((z > 0) & (z < 1), inverse(z, rows(z) * 0 + raw)[0], 0))

    assert np.all(np.isfinite(jax.jit(jax.grad(loss))(jnp.asarray(RAW))))


@pytest.mark.slow
def test_normal_quantile_of_a_log_probability():
    log_p = np.array([-np.log(2), -0.7, -0.72, -1, -1.5, -2, -4, -10, -37, -200, -1e3, -1e5, -1e12])
    z = jax.jit(_lower_normal_quantile)(log_p)
    np.testing.assert_allclose(z[:9], scipy.special.ndtri_exp(log_p[:9]), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(scipy.special.log_ndtr(z), log_p, rtol=1e-14)
    slope = jax.vmap(jax.grad(_lower_normal_quantile))(log_p)
    expected = np.exp(log_p[:9] - scipy.stats.norm.logpdf(z[:9]))
    np.testing.assert_allclose(slope[:9], expected, rtol=1e-11)
    np.testing.assert_allclose(slope[-1], -1 / z[-1], rtol=1e-3)
    bend = jax.grad(jax.grad(_lower_normal_quantile))(-3.0)
    step = 1e-5
    gradient = jax.grad(_lower_normal_quantile)
    np.testing.assert_allclose(bend, (gradient(-3 + step) - gradient(-3 - step)) / 2 / step, 1e-8)


# -------------------------------------------------------------------------------- samples


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_distributed_as_inverted_noise(family):
    n = 4000
    key = jax.random.key(0)
    drawn = jax.jit(mixture_sample, static_argnames="family")(key, rows(np.zeros(n)), family=family)
    assert drawn.shape == (n,)
    noise = jax.random.uniform(jax.random.key(1), (n,))
    inverted, _ = jax.jit(mixture_cdf(K, family=family, to="uniform").inverse)(noise, rows(noise))

    def cdf(x):
        return scipy_mixture("cdf", family, x)

    for x in (drawn, inverted):
        assert scipy.stats.kstest(x, cdf).pvalue > 0.01
        assert scipy.stats.kstest(x + 0.1, cdf).pvalue < 1e-3  # the test would notice
    assert scipy.stats.ks_2samp(drawn, inverted).pvalue > 0.01


@pytest.mark.float32
def test_samples_have_the_dtype_of_their_parameters():
    x = mixture_sample(jax.random.key(0), jnp.zeros((5, 2, 6), jnp.bfloat16))
    assert x.shape == (5, 2) and x.dtype == jnp.float32


# ---------------------------------------------------------------------------- derivatives


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "to"), [("logistic", "logit"), ("gaussian", "normal"), ("gaussian", "uniform")]
)
def test_gradients_through_the_inverse(family, to):
    """Against central differences, whose error is of the order of 1e-5² and 1e-16/1e-5."""
    inverse = mixture_cdf(K, family=family, to=to).inverse

    @jax.jit
    def f(arguments):
        return jnp.stack(inverse(arguments[..., 0], arguments[..., 1:]))

    at = np.concatenate([[0.3 if to == "uniform" else 0.8], RAW])
    step = 1e-5 * np.eye(len(at))
    above, below = np.split(np.asarray(f(np.concatenate([at + step, at - step]))), 2, axis=1)
    exact = np.asarray(jax.jit(jax.jacrev(f))(at))
    np.testing.assert_allclose(exact, (above - below) / 2e-5, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(np.log(exact[0, 0]), f(at)[1], rtol=1e-10)


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("wrong", [1, 0, 2.0, True])
def test_refuses_a_number_of_components(wrong):
    with pytest.raises(ValueError, match="components must be a whole number of at least 2"):
        mixture_cdf(wrong)


@pytest.mark.parametrize("wrong", ["tanh", None])
def test_errors(wrong):
    with pytest.raises(ValueError, match="to must be one of 'logit', 'normal', 'uniform'"):
        mixture_cdf(to=wrong)
    key, raw = jax.random.key(0), jnp.zeros((2, 6))
    for f in (
        lambda family: mixture_cdf(family=family),
        lambda family: mixture_log_prob(jnp.zeros(2), raw, family=family),
        lambda family: mixture_sample(key, raw, family=family),
    ):
        with pytest.raises(ValueError, match="family must be one of 'logistic', 'gaussian'"):
            f(wrong)
    for size in (0, 4):
        with pytest.raises(ValueError, match=f"last axis of raw must be 3 .*, got {size}"):
            mixture_sample(key, jnp.zeros((2, size)))
    for apply in mixture_cdf(3).forward, mixture_cdf(3).inverse:
        with pytest.raises(AssertionError):
            apply(jnp.zeros(2), raw)
