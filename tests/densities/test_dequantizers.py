"""Learned noise: a density in each bin, never out of it, and a bound that becomes tight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import glowjax
from glowjax import as_flow
from glowjax.densities.dequantizers import EDGE, noise_density
from glowjax.densities.quantization import place
from glowjax.testing import moved

FLOW = glowjax.realnvp_mlp(steps=2, width=4)
PAIR = (2,)  # two pixels


def pixels(levels, n):
    return jax.random.randint(jax.random.key(9), (n, *PAIR), 0, levels)


# ----------------------------------------------------------------------------------- noise


@pytest.mark.slow
def test_noise_integrates_to_one_over_the_bin_and_depends_on_the_image():
    q = noise_density(FLOW, PAIR)
    edges = np.linspace(EDGE, 1 - EDGE, 801)
    grid, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    u = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, *PAIR)

    @jax.jit
    def totals(u):
        params = moved(q.init_from_base(jax.random.key(0), 8, jnp.zeros((8, *PAIR))), 0.2)
        contexts = jnp.asarray([[[-0.4, 0.3]], [[0.2, 0.1]]])
        log_q = [q.log_prob(params, u, jnp.broadcast_to(c, u.shape)) for c in contexts]
        outside = q.log_prob(params, jnp.full((1, *PAIR), 1.0), contexts[0])
        return [jnp.sum(jnp.exp(a)) * width**2 for a in log_q], log_q, outside

    total, log_q, outside = totals(u)
    np.testing.assert_allclose(total, [1, 1], atol=1e-3)
    assert np.max(np.abs(log_q[0] - log_q[1])) > 0.01
    assert np.isnan(outside)


@pytest.mark.slow
def test_samples_come_with_the_log_density_of_their_noise():
    levels, images = 5, pixels(5, 6)
    dequantizer = glowjax.variational_dequantizer(FLOW, levels=levels)

    @jax.jit
    def measure(images):
        params = moved(dequantizer.init(jax.random.key(0), images), 0.2)
        x, log_q = dequantizer.sample(params, jax.random.key(1), images)
        u = (x + 0.5) * levels - images
        centres = glowjax.bin_centres(images, levels=levels)
        return (
            u,
            log_q,
            noise_density(FLOW, PAIR).log_prob({"logit": {}, "flow": params}, u, centres),
        )

    u, log_q, expected = measure(images)
    assert log_q.shape == (6,) and np.std(u) > 0.1
    np.testing.assert_allclose(log_q, expected, rtol=1e-9)


@pytest.mark.slow
def test_one_key_each_makes_noise_independent_of_the_batch():
    images, keys = pixels(256, 4), jax.random.split(jax.random.key(3), 4)
    dequantizer = glowjax.variational_dequantizer(FLOW)

    @jax.jit
    def measure(images):
        params = moved(dequantizer.init(jax.random.key(0), images), 0.2)
        whole = dequantizer.sample(params, keys, images)
        return whole, dequantizer.sample(params, keys[2:], images[2:])

    whole, half = measure(images)
    assert whole[0].shape == images.shape and whole[1].shape == (4,)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[2:], b, rtol=1e-9), whole, half)
    with pytest.raises(ValueError, match="key must be one key, or one for each of 4 images"):
        dequantizer.sample({}, keys[:3], images)


def far(sign):
    """A flow whose noise before the sigmoid is far out: σ rounds to 0 or 1."""

    def inverse(params, z, context=None, key=None):
        return z + sign * 1e4, jnp.zeros(z.shape[:1], z.dtype)

    return as_flow(glowjax.Reverse())._replace(inverse=inverse)


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("levels", [2, 5, 17, 32, 255, 256])
def test_no_noise_leaves_its_bin_in_float32(levels):
    images = jnp.arange(levels)[:, None]
    for sign in (-1, 1):
        dequantizer = glowjax.variational_dequantizer(far(sign), levels=levels)
        for run in (dequantizer.sample, jax.jit(dequantizer.sample)):
            x, log_q = run({}, jax.random.key(0), images)
            assert x.dtype == jnp.float32
            np.testing.assert_array_equal(glowjax.quantize(x, levels=levels), images)
            assert np.all(np.isfinite(log_q))
    without_edge = place(images, jnp.float32(1.0), levels)
    assert np.any(glowjax.quantize(without_edge, levels=levels) != images)  # what EDGE is for


# ----------------------------------------------------------------------------------- bound

LEVELS = 4
MEAN, DEVIATION = 0.1, 0.15
MODEL = glowjax.density(as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), (1,))
MODEL_PARAMS = {"bias": jnp.asarray([-MEAN]), "log_scale": -jnp.log(jnp.asarray([DEVIATION]))}
VALUES = jnp.arange(LEVELS)[:, None]


def standard(x):
    return (x - MEAN) / DEVIATION


def mass(low=0.0, high=1.0):
    """The probability of every value's bin, between two fractions of it: `[levels]`."""
    low, high = (standard((VALUES[:, 0] + f) / LEVELS - 0.5) for f in (low, high))
    return norm.cdf(high) - norm.cdf(low)


def posterior():
    """The exact p(u|v) of that model, as a flow from y to ε."""

    def start(context):
        return norm.cdf(standard(context + (EDGE - 0.5) / LEVELS))

    def width(context):
        return norm.cdf(standard(context + (0.5 - EDGE) / LEVELS)) - start(context)

    def log_slope(y, x, z, context):
        du = jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y) + jnp.log((1 - 2 * EDGE) / LEVELS)
        slope = norm.logpdf(standard(x)) - jnp.log(DEVIATION * width(context)) - norm.logpdf(z)
        return jnp.sum(du + slope, axis=1)

    def forward(params, y, context, key=None):
        x = context + (EDGE + (1 - 2 * EDGE) * jax.nn.sigmoid(y) - 0.5) / LEVELS
        z = norm.ppf((norm.cdf(standard(x)) - start(context)) / width(context))
        return z, log_slope(y, x, z, context)

    def inverse(params, z, context, key=None):
        x = MEAN + DEVIATION * norm.ppf(start(context) + norm.cdf(z) * width(context))
        u = ((x - context) * LEVELS + 0.5 - EDGE) / (1 - 2 * EDGE)
        y = jnp.log(u) - jnp.log1p(-u)
        return y, -log_slope(y, x, z, context)

    def init(key, x, context=None):
        return {}

    return glowjax.Flow(init, forward, inverse, init)


def draws(dequantizer, n, params=()):
    """`[n, levels]` draws of the bound on ln P(v), of every value."""

    def one(key):
        both = (MODEL_PARAMS, params)
        return glowjax.log_prob_bound(MODEL, dequantizer, both, key, VALUES)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), n)) - np.log(LEVELS)


@pytest.mark.slow
def test_the_bound_is_exact_with_the_true_posterior():
    bound = draws(glowjax.variational_dequantizer(posterior(), levels=LEVELS), 20)
    # Every draw is the probability of the bin less its edges, which hold 1e-3 of it at most.
    np.testing.assert_allclose(
        bound, np.broadcast_to(jnp.log(mass(EDGE, 1 - EDGE)), bound.shape), atol=1e-6
    )
    np.testing.assert_allclose(bound[0], jnp.log(mass()), atol=1e-3)


@pytest.mark.slow
def test_importance_weighting_tightens_the_bound_to_the_exact_probability():
    """Uniform noise: means over 4,000 draws of the bound's n = 1, 8, 4000.

    A draw has a standard deviation of 2.5 nats at most, so a mean one of 0.04, and the probability
    from all draws an error of 3% (one deviation): five of either are allowed.
    """
    log_weights = draws(glowjax.uniform_dequantizer(levels=LEVELS), 4000)
    exact = jnp.log(mass())
    one, eight, all_ = (
        jnp.mean(glowjax.log_mean_exp(log_weights.reshape(-1, n, LEVELS), axis=1), axis=0)
        for n in (1, 8, 4000)
    )
    np.testing.assert_allclose(one, jnp.mean(log_weights, axis=0), rtol=1e-12)
    assert np.all(one < eight) and np.all(eight < all_ + 0.02)
    assert np.max(exact - one) > 0.5
    np.testing.assert_allclose(all_, exact, atol=0.15)


def test_log_mean_exp_is_the_log_of_the_mean():
    weights = jnp.asarray([[1.0, 2.0], [3.0, 6.0]])
    np.testing.assert_allclose(
        glowjax.log_mean_exp(jnp.log(weights)), jnp.log(jnp.asarray([2.0, 4.0])), rtol=1e-12
    )


def test_with_uniform_noise_it_is_the_log_density_of_dequantized_images():
    key = jax.random.key(4)
    params = (MODEL_PARAMS, {})
    dequantizer = glowjax.uniform_dequantizer(levels=LEVELS)
    bound = glowjax.log_prob_bound(MODEL, dequantizer, params, key, VALUES)
    x = glowjax.dequantize(key, VALUES, levels=LEVELS)
    np.testing.assert_array_equal(bound, MODEL.log_prob(MODEL_PARAMS, x))


@pytest.mark.slow
def test_fit_learns_density_and_noise_of_whole_images():
    levels, images = 4, pixels(4, 256) // 2 * 3  # 0 and 3 alone
    dequantizer = glowjax.variational_dequantizer(FLOW, levels=levels)
    model = glowjax.density(as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), PAIR)
    both = glowjax.dequantized(model, dequantizer)
    start = jax.jit(both.init)(jax.random.key(0), images)
    fitted = glowjax.fit(both, images, steps=40, batch_size=64, params=start, show=False)
    moved_both = [
        any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, pair), strict=True))
        for pair in zip(start, fitted.params, strict=True)
    ]
    assert moved_both == [True, True]
    key = jax.random.key(1)
    bound = glowjax.log_prob_bound(model, dequantizer, fitted.params, key, images)
    np.testing.assert_array_equal(both.log_prob(fitted.params, images, None, key), bound)
    assert both.sample(fitted.params, key, 3).shape == (3, *PAIR)
    with pytest.raises(ValueError, match="key must be given"):
        both.log_prob(fitted.params, images)
    with pytest.raises(ValueError, match="initialised on images"):
        both.init_from_base(key, 3)


@pytest.mark.exhaustive
def test_gradients_reach_both_models():
    shape = (1, 2, 1)
    images = pixels(5, 6).reshape(6, *shape)
    flow = glowjax.dequantization_flow(steps=1, width=4, blocks=1)
    model = glowjax.density(as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), shape)
    dequantizer = glowjax.variational_dequantizer(flow, levels=5)

    @jax.jit
    def gradient(images):
        key = jax.random.key(0)
        params = moved(dequantizer.init(key, images), 0.2)
        x, _ = dequantizer.sample(params, key, images)
        both = (moved(model.init(key, x), 0.2), params)

        def loss(both):
            return -jnp.mean(glowjax.log_prob_bound(model, dequantizer, both, key, images))

        return jax.grad(loss)(both)

    for leaf in jax.tree.leaves(gradient(images)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


def test_errors():
    for make in (
        glowjax.uniform_dequantizer,
        functools.partial(glowjax.variational_dequantizer, FLOW),
    ):
        with pytest.raises(ValueError, match="levels must be a whole number"):
            make(levels=1)
        dequantizer = make(levels=4)
        for f in (dequantizer.init, functools.partial(dequantizer.sample, {})):
            with pytest.raises(ValueError, match=r"images must be in 0\.\.3"):
                f(jax.random.key(0), np.full((1, *PAIR), 4))
            with pytest.raises(ValueError, match="images must be integers"):
                f(jax.random.key(0), np.zeros((1, *PAIR)))
