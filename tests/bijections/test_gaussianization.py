"""Mixtures fitted without gradients, and layers of them that make data normal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import glowjax

TRUE = {"logistic": scipy.stats.logistic, "gaussian": scipy.stats.norm}


def drawn(family, n=4000):
    """Two columns, each a mixture of two components, and their parameters `[2 columns, 2]`."""
    rng = np.random.default_rng(0)
    mean, scale = np.array([[-3.0, 1.0], [0.0, 8.0]]), np.array([[0.5, 1.0], [1.0, 0.3]])
    of = (rng.random((n, 2)) < [0.3, 0.6]).astype(int)
    columns = np.arange(2)
    noise = TRUE[family].rvs(size=(n, 2), random_state=rng)
    return mean[columns, of] + scale[columns, of] * noise, mean, scale


@pytest.mark.parametrize("family", TRUE)
def test_the_fit_finds_the_mixture(family):
    """Within five standard errors, about: 1,200 examples or more in each component."""
    x, mean, scale = drawn(family)
    raw = jax.jit(glowjax.fitted_mixture, static_argnums=1, static_argnames="family")(
        jnp.asarray(x), 2, family=family
    )
    logits, means, log_scales = jnp.split(raw, 3, axis=-1)
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, 1], [0.3, 0.6], atol=0.05)
    np.testing.assert_allclose(means + jnp.array([-0.5, 0.5]), mean, atol=0.2)
    np.testing.assert_allclose(jnp.exp(log_scales) / scale, 1, atol=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("family", TRUE)
def test_the_fit_is_a_maximum_of_the_likelihood(family):
    """Its gradient is near 0; one more example in each component is all that moves it."""
    x, *_ = drawn(family, 40_000)
    raw = glowjax.fitted_mixture(jnp.asarray(x), 2, family=family)

    def mean_log_prob(raw):
        rows = jnp.broadcast_to(raw, (*x.shape, 6))
        return jnp.mean(glowjax.mixture_log_prob(x, rows, family=family))

    assert np.max(np.abs(jax.grad(mean_log_prob)(raw))) < 1e-3
    assert np.max(np.abs(jax.grad(mean_log_prob)(raw + 0.1))) > 2e-2


@pytest.mark.parametrize("x", [np.zeros((5, 2)), np.full((1, 2), 7e8), np.array([[0.0], [1.0]])])
def test_columns_of_few_values_get_finite_mixtures(x):
    raw = glowjax.fitted_mixture(x, 4)
    assert np.all(np.isfinite(raw))
    assert np.all(raw[..., 8:] > -7)  # within the bound of mixture_cdf


@pytest.mark.slow
def test_units_scale_the_fit():
    x, *_ = drawn("logistic", 500)
    z = [
        glowjax.as_flow(glowjax.MarginalGaussianization(3)).init(jax.random.key(0), unit * x)["raw"]
        for unit in (1.0, 4.0)
    ]
    offset = np.array([-2, 0, 2]) / 3
    np.testing.assert_allclose(z[1][:, 3:6] + offset, 4 * (z[0][:, 3:6] + offset), rtol=1e-6)
    np.testing.assert_allclose(z[1][:, 6:], z[0][:, 6:] + np.log(4), rtol=1e-6)


@pytest.mark.slow
def test_layers_make_data_normal_without_gradients():
    """A ring is far from normal: the negentropy that is left falls with the layers."""
    key = jax.random.key(0)
    x = glowjax.toy.rings(key, 2000).astype(float)
    grid, width = glowjax.targets.grid((-7, 7), 141)
    nats = []
    for steps in (1, 12):
        model = glowjax.density(glowjax.gaussianization_flow(steps=steps, components=8), (2,))

        @jax.jit
        def measure(x, model=model):
            params = model.init(key, x)
            return jnp.mean(model.log_prob(params, x)), model.log_prob(params, grid)

        mean, log_p = measure(x)
        np.testing.assert_allclose(np.sum(np.exp(log_p)) * width, 1, atol=0.02)
        nats.append(float(mean))
    normal = scipy.stats.multivariate_normal(np.mean(x, 0), np.cov(x.T)).logpdf(x).mean()
    assert normal + 0.05 < nats[0] < nats[1] - 0.1
