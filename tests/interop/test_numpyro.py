"""Densities and flows in numpyro."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, log_likelihood
from numpyro.infer.reparam import NeuTraReparam

import glowjax
from glowjax.interop.numpyro import AutoFlow, FlowDistribution, FlowTransform

pytestmark = pytest.mark.float32


@pytest.fixture(scope="module")
def vectors():
    flow = glowjax.realnvp_mlp(steps=2, width=8)
    x = jax.random.normal(jax.random.key(0), (6, 3))
    params = jax.tree.map(lambda p: p + 0.01, flow.init(jax.random.key(1), x))
    return flow, params, x


def test_a_density_is_a_distribution(vectors):
    flow, params, x = vectors
    model = glowjax.density(flow, (3,))
    distribution = FlowDistribution(model, params, (3,))
    assert (distribution.batch_shape, distribution.event_shape) == ((), (3,))
    assert distribution.support(x).all()
    expected = model.log_prob(params, x)
    np.testing.assert_allclose(distribution.log_prob(x), expected, rtol=1e-6)
    np.testing.assert_allclose(
        distribution.log_prob(x.reshape(2, 3, 3)), expected.reshape(2, 3), rtol=1e-6
    )
    np.testing.assert_allclose(distribution.log_prob(x[0]), expected[0], rtol=1e-5)
    for shape in ((), (4,), (2, 3)):
        assert distribution.sample(jax.random.key(0), shape).shape == (*shape, 3)


def test_distributions_pass_through_jit_and_vmap(vectors):
    flow, params, x = vectors
    distribution = FlowDistribution(glowjax.density(flow, (3,)), params, (3,))
    through = jax.jit(lambda d, x: d.log_prob(x))(distribution, x)
    np.testing.assert_allclose(through, distribution.log_prob(x), rtol=1e-5)


def test_a_density_is_a_prior_and_a_likelihood(vectors):
    flow, params, x = vectors
    distribution = FlowDistribution(glowjax.density(flow, (3,)), params, (3,))

    def program(data=None):
        shift = numpyro.sample("shift", dist.Normal(0, 1))
        with numpyro.plate("rows", 6):
            numpyro.sample("x", distribution, obs=None if data is None else data + 0 * shift)

    found = log_likelihood(program, {"shift": jnp.zeros(2)}, x)["x"]
    np.testing.assert_allclose(found[0], distribution.log_prob(x), rtol=1e-5)
    traced = numpyro.handlers.trace(numpyro.handlers.seed(program, 0)).get_trace()
    assert traced["x"]["value"].shape == (6, 3)


def test_a_flow_is_a_transform(vectors):
    flow, params, x = vectors
    transform = FlowTransform(flow, params)
    z = jnp.asarray(transform.inv(x))
    np.testing.assert_allclose(z, flow.forward(params, x)[0], rtol=1e-6)
    np.testing.assert_allclose(transform(z), x, atol=1e-5)
    slope = transform.log_abs_det_jacobian(z, x)
    np.testing.assert_allclose(slope, -flow.forward(params, x)[1], atol=1e-5)
    assert transform.log_abs_det_jacobian(z[0], x[0]).shape == ()
    same = jax.tree.map(lambda leaf: leaf, transform)
    assert same == transform


def curved():
    """A banana: x ~ N(0, 1), y ~ N(x², ½)."""
    x = numpyro.sample("x", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(x**2, 0.5))


def trained(steps):
    flow = glowjax.iaf(steps=2, width=16)
    guide = AutoFlow(curved, flow)
    svi = SVI(curved, guide, numpyro.optim.Adam(0.01), Trace_ELBO(num_particles=16))
    return guide, svi.run(jax.random.key(0), steps, progress_bar=False)


@pytest.mark.slow
def test_a_flow_is_a_guide_and_straightens_what_nuts_samples():
    guide, result = trained(1500)
    # The model is normalised, so that -ELBO is KL(q‖p), and 0 at best.
    assert np.mean(result.losses[-100:]) < 0.15  # of a normal guide it is 0.58
    draws = guide.sample_posterior(jax.random.key(1), result.params, sample_shape=(4000,))
    assert draws["x"].shape == draws["y"].shape == (4000,)
    assert np.corrcoef(draws["x"] ** 2, draws["y"])[0, 1] > 0.8, "the guide is as curved"

    neutra = NeuTraReparam(guide, result.params)
    mcmc = MCMC(NUTS(neutra.reparam(curved)), num_warmup=200, num_samples=1000, progress_bar=False)
    mcmc.run(jax.random.key(2))
    shared = mcmc.get_samples()["auto_shared_latent"]
    samples = neutra.transform_sample(shared)
    assert abs(np.mean(samples["y"]) - 1) < 0.15 and abs(np.std(samples["x"]) - 1) < 0.15
    assert np.abs(np.mean(shared, axis=0)).max() < 0.2, "latents are near the base"


@pytest.mark.slow
def test_a_guide_is_initialised_near_the_prior_of_its_base():
    guide, result = trained(2)
    assert np.all(np.isfinite(result.losses))
    posterior = guide.get_posterior(result.params)
    assert posterior.sample(jax.random.key(0), (5,)).shape == (5, 2)
    assert posterior.log_prob(jnp.zeros((4, 2))).shape == (4,)


def test_what_is_refused():
    with pytest.raises(ValueError, match="flow must be a Flow"):
        functools.partial(AutoFlow, curved)(None)
