"""Densities: they integrate to one, and samples follow them."""

import subprocess
import sys

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_MLP, Case, coupling_step, parameters, small_glow
from tensorflow_probability.substrates import jax as tfp

import glowjax
from glowjax import as_flow

ACTNORM = as_flow(glowjax.GlowActNorm(log_scale_factor=1.0))
STEP = coupling_step(net=SMALL_MLP, scale="tanh")
VECTORS = glowjax.chain(STEP, as_flow(glowjax.InvertibleConv1x1("lu")), STEP)
LABELLED = small_glow(num_classes=4, scale="floor")


def axis(extent=12.0, points=601):
    grid, width = np.linspace(-extent, extent, points, retstep=True)
    return grid, width


def affine(mean, deviation):
    """Parameters of an ActNorm whose density is N(mean, deviation²)."""
    return {"bias": -jnp.asarray(mean), "log_scale": -jnp.log(jnp.asarray(deviation))}


# ------------------------------------------------------------------------------- integrals


@pytest.mark.parametrize("base", [None, distrax.Logistic(0.5, 0.7)])
def test_integrates_to_one_in_1d(base):
    flow = glowjax.chain(ACTNORM, ACTNORM)
    model = glowjax.density(flow, (1,), base)
    params = (affine([0.4], [0.8]), affine([-0.3], [1.3]))
    grid, width = axis(extent=40, points=4001)
    log_prob = jax.jit(model.log_prob)(params, grid[:, None])
    assert log_prob.shape == grid.shape
    np.testing.assert_allclose(np.sum(np.exp(log_prob)) * width, 1, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "base",
    [
        None,
        distrax.Logistic(0.0, 0.5),
        distrax.MultivariateNormalDiag(np.array([0.5, -0.5]), np.array([0.7, 1.4])),
    ],
)
def test_integrates_to_one_in_2d(base):
    model = glowjax.density(VECTORS, (2,), base)
    grid, width = axis(extent=20)
    x = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    @jax.jit
    def total(x):
        params = parameters(Case(VECTORS, (2,), ()))
        return jnp.sum(jnp.exp(model.log_prob(params, x))) * width**2

    np.testing.assert_allclose(total(x), 1, atol=1e-3)


@pytest.mark.slow
def test_a_wrong_log_det_would_not_integrate_to_one():
    def forward(params, x, context=None, key=None):
        z, log_det = VECTORS.forward(params, x, context, key)
        return z, -log_det

    model = glowjax.density(VECTORS._replace(forward=forward), (2,))
    params = jax.jit(lambda: parameters(Case(VECTORS, (2,), ())))()
    grid, width = axis(extent=20)
    x = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    total = jnp.sum(jnp.exp(jax.jit(model.log_prob)(params, x))) * width**2
    assert abs(total - 1) > 0.1


@pytest.mark.slow
def test_log_prob_of_an_affine_flow_is_the_normals():
    model = glowjax.density(ACTNORM, (2, 1, 3))  # one mean and deviation a channel
    mean, deviation = np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.5])
    x = np.random.default_rng(0).normal(size=(4, 2, 1, 3))
    expected = distrax.Normal(mean, deviation).log_prob(x).sum(axis=(1, 2, 3))
    log_prob = model.log_prob(affine(mean, deviation), x)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-12)


# --------------------------------------------------------------------------------- samples


@pytest.mark.slow
def test_samples_have_the_densitys_moments():
    model = glowjax.density(ACTNORM, (2,))
    params = affine([1.0, -2.0], [0.5, 2.0])
    x = jax.jit(model.sample, static_argnums=2)(params, jax.random.key(0), 20_000)
    assert x.shape == (20_000, 2)
    np.testing.assert_allclose(jnp.mean(x, 0), [1, -2], atol=0.05)
    np.testing.assert_allclose(jnp.std(x, 0), [0.5, 2], rtol=0.03)
    np.testing.assert_allclose(jnp.corrcoef(x.T)[0, 1], 0, atol=0.03)


@pytest.mark.slow
def test_temperature_scales_the_latents():
    model = glowjax.density(VECTORS, (2,))

    @jax.jit
    def measure(key):
        params = parameters(Case(VECTORS, (2,), ()))
        drawn = [model.sample(params, key, 5, t) for t in (0.0, 1.0, 1.0, 0.25)]
        mode = model.decode(params, jnp.zeros((5, 2)))
        return mode, drawn, [model.encode(params, x) for x in drawn[1:]]

    mode, drawn, (whole, again, quarter) = measure(jax.random.key(0))
    np.testing.assert_array_equal(drawn[0], mode)
    np.testing.assert_array_equal(drawn[1], drawn[2])
    np.testing.assert_array_equal(whole, again)
    np.testing.assert_allclose(quarter, 0.25 * whole, rtol=1e-9)
    other = measure(jax.random.key(1))[1][1]
    assert np.all(other != drawn[1])


@pytest.mark.slow
def test_a_scalar_base_is_cooled_towards_its_mean():
    model = glowjax.density(ACTNORM, (2,), distrax.Logistic(3.0, 0.5))
    params = affine([0.0, 0.0], [1.0, 1.0])
    warm, cool, cold = (model.sample(params, jax.random.key(0), 4, t) for t in (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(cold, np.full((4, 2), 3.0))
    np.testing.assert_allclose(cool - 3, (warm - 3) / 2, rtol=1e-12)
    assert len(np.unique(warm)) == 8


def test_a_base_without_a_mean_samples_at_temperature_1():
    model = glowjax.density(ACTNORM, (1,), distrax.Laplace(0.0, 1.0))
    assert model.sample(affine([0.0], [1.0]), jax.random.key(0), 3).shape == (3, 1)


@pytest.mark.slow
def test_conditional_samples_and_their_latents():
    shape, labels = (4, 4, 1), jnp.array([0, 1, 2, 3, 3])
    model = glowjax.density(LABELLED, shape)

    @jax.jit
    def measure(labels):
        params = parameters(Case(LABELLED, shape, (), "labels", noise=0.02))
        x = model.sample(params, jax.random.key(0), 5, 0.7, labels)
        z = model.encode(params, x, labels)
        return x, z, model.decode(params, z, labels), model.log_prob(params, x, labels)

    x, z, back, log_prob = measure(labels)
    assert x.shape == (5, *shape) and log_prob.shape == (5,)
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9)
    assert jax.tree.map(jnp.shape, z) == ((5, 2, 2, 2), (5, 1, 1, 8))
    _, others_z, _, others = measure(jnp.array([1, 1, 2, 3, 0]))
    np.testing.assert_allclose(others_z[0][1:4], z[0][1:4], rtol=1e-9)
    assert log_prob[0] != others[0] and log_prob[4] != others[4]

    wrong = jnp.array([0, 1, -1, 4, 3])  # cannot raise under jit: NaN, never a number
    np.testing.assert_array_equal(jnp.isnan(measure(wrong)[3]), [False, False, True, True, False])


TFP = tfp.distributions
PAIR = np.array([0.5, -0.5]), np.array([0.7, 1.4])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "distraxs"),
    [
        (lambda: TFP.Normal(np.float64(0.5), np.float64(0.7)), lambda: distrax.Normal(0.5, 0.7)),
        (
            lambda: TFP.MultivariateNormalDiag(*PAIR),
            lambda: distrax.MultivariateNormalDiag(*PAIR),
        ),
        (
            lambda: TFP.Independent(TFP.Normal(*PAIR), 1),
            lambda: distrax.Independent(distrax.Normal(*PAIR), 1),
        ),
    ],
)
def test_a_distribution_of_tfp_is_a_base_as_one_of_distrax_is(theirs, distraxs):
    models = [glowjax.density(ACTNORM, (2,), base()) for base in (theirs, distraxs)]
    params = affine([0.4, 1.0], [0.8, 2.0])
    x = np.linspace(-1, 1, 6).reshape(3, 2)
    ours, expected = (model.log_prob(params, x) for model in models)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    cold, warm = (models[0].sample(params, jax.random.key(0), 4, t) for t in (0.0, 1.0))
    np.testing.assert_allclose(cold, models[1].sample(params, jax.random.key(0), 4, 0.0))
    assert warm.shape == (4, 2) and len(np.unique(warm)) == 8
    with pytest.raises(ValueError, match=r"base must have an empty batch shape, got \(2,\)"):
        glowjax.density(ACTNORM, (2,), TFP.Normal(*PAIR))


# ------------------------------------------------------------------------------ parameters


@pytest.mark.slow
def test_a_learned_base_is_learned():
    def init(key, z):
        return {"mean": jnp.mean(z, 0) + 1.0}

    def log_prob(params, z, context=None):
        return glowjax.standard_normal().log_prob(None, z - params["mean"])

    def sample(params, key, like, temperature, context=None):
        z = glowjax.standard_normal().sample(None, key, like, temperature)
        return z + params["mean"]

    model = glowjax.density(ACTNORM, (2,), glowjax.Base(log_prob, sample, init))
    x = jax.random.normal(jax.random.key(0), (6, 2))
    flow_params, base_params = model.init(jax.random.key(1), x)
    np.testing.assert_allclose(base_params["mean"], 1, atol=1e-12)  # of data that ActNorm centred
    params = (flow_params, base_params)
    gradient = jax.grad(lambda p: jnp.sum(model.log_prob(p, x)))(params)
    np.testing.assert_allclose(gradient[1]["mean"], -6, rtol=1e-9)
    assert jnp.all(gradient[0]["bias"] != 0)
    mode = model.sample(params, jax.random.key(2), 1, temperature=0.0)
    np.testing.assert_allclose(model.encode(params, mode), [[1, 1]], rtol=1e-9)
    np.testing.assert_allclose(model.decode(params, jnp.ones((1, 2))), mode, rtol=1e-9)


def test_a_fixed_base_has_no_parameters():
    model = glowjax.density(ACTNORM, (2,))
    x = jax.random.normal(jax.random.key(0), (6, 2))
    assert set(model.init(jax.random.key(1), x)) == {"bias", "log_scale"}


@pytest.mark.float32
def test_samples_are_float32_like_the_parameters():
    model = glowjax.density(ACTNORM, (2,))
    params = jax.tree.map(jnp.float32, affine([0.0, 0.0], [1.0, 1.0]))
    assert model.sample(params, jax.random.key(0), 3).dtype == jnp.float32


def test_samples_of_a_flow_without_parameters_have_the_default_precision():
    model = glowjax.density(as_flow(glowjax.Reverse()), (2,))
    for on, dtype in [(True, jnp.float64), (False, jnp.float32)]:
        with jax.enable_x64(on):
            assert model.sample({}, jax.random.key(0), 3).dtype == dtype


# ---------------------------------------------------------------------------------- errors


def test_errors():
    model = glowjax.density(ACTNORM, (2,))
    params = affine([0.0, 0.0], [1.0, 1.0])
    key = jax.random.key(0)
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"n must be .* got {wrong}"):
            model.sample(params, key, wrong)
    for wrong in (-0.1, np.nan):
        with pytest.raises(ValueError, match=f"temperature must be .*, got {wrong}"):
            model.sample(params, key, 2, wrong)
    for wrong in (jnp.zeros((3, 3)), jnp.zeros(2), jnp.zeros((3, 1, 2))):
        for f in (model.log_prob, model.encode):
            if f != model.log_prob or wrong.shape[-1] != 2:  # it takes any number of batch axes
                with pytest.raises(ValueError, match=r"x must be of shape \[B, 2\], got"):
                    f(params, wrong)
        with pytest.raises(ValueError, match=r"x must be of shape \[B, 2\], got"):
            model.init(key, wrong)
    with pytest.raises(ValueError, match="x must be floating point"):
        model.log_prob(params, jnp.zeros((3, 2), int))
    for wrong in (jnp.zeros(3, int), 0):
        with pytest.raises(ValueError, match="context must have one row per sample, n=2"):
            model.sample(params, key, 2, context=wrong)
    with pytest.raises(ValueError, match="event_shape must be"):
        glowjax.density(ACTNORM, (2, 0))


def test_errors_of_bases():
    with pytest.raises(ValueError, match="base must have an empty batch shape"):
        glowjax.density(ACTNORM, (2,), distrax.Normal(np.zeros(2), 1.0))
    model = glowjax.density(ACTNORM, (2,), distrax.MultivariateNormalDiag(np.zeros(3)))
    params = affine([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="base must have the event shape of z"):
        model.log_prob(params, jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match="base must have the event shape of z"):
        model.sample(params, jax.random.key(0), 4)
    with pytest.raises(ValueError, match="base must be"):
        glowjax.density(ACTNORM, (2,), "normal")


# --------------------------------------------------------------------------------- imports


@pytest.mark.slow
def test_importing_glowjax_stays_light():
    heavy = ["distrax", "tensorflow_datasets", "tensorflow", "matplotlib", "orbax", "optax"]
    heavy += ["diffrax", "equinox"]
    program = f"import glowjax, sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


# ------------------------------------------------------------------------ from the latent side


@pytest.mark.slow
def test_samples_come_with_their_log_probability():
    case = Case(VECTORS, (2,), ())
    model = glowjax.density(VECTORS, (2,), distrax.Logistic(0.0, 0.5))
    params = parameters(case)
    x, log_prob = jax.jit(model.sample_and_log_prob, static_argnums=2)(
        params, jax.random.key(0), 50
    )
    np.testing.assert_allclose(log_prob, model.log_prob(params, x), rtol=1e-9)


@pytest.mark.slow
def test_a_density_is_initialised_without_data():
    model = glowjax.density(glowjax.invert(VECTORS), (2,))
    params = jax.jit(model.init_from_base, static_argnums=1)(jax.random.key(0), 64)
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((64, 2)))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, like)
    assert np.all(np.isfinite(model.sample(params, jax.random.key(1), 8)))


def test_a_flow_without_init_inverse_is_refused():
    flow = VECTORS._replace(init_inverse=None)
    with pytest.raises(ValueError, match="flow has no init_inverse"):
        glowjax.density(flow, (2,)).init_from_base(jax.random.key(0), 4)


@pytest.mark.parametrize(
    "batch", [(2, 3), *(pytest.param(b, marks=pytest.mark.slow) for b in ((), (4,), (1, 2, 1)))]
)
def test_any_batch(batch):
    model = glowjax.density(glowjax.maf(steps=2, width=8), (3,))
    x = jax.random.normal(jax.random.key(0), (*batch, 3))
    context = jax.random.normal(jax.random.key(1), (*batch, 2))
    rows, contexts = x.reshape(-1, 3), context.reshape(-1, 2)
    params = jax.tree.map(
        lambda p: p + 0.01,
        model.init(jax.random.key(2), jnp.tile(rows, (4, 1)), jnp.tile(contexts, (4, 1))),
    )
    expected = model.log_prob(params, rows, contexts).reshape(batch)
    np.testing.assert_array_equal(model.log_prob(params, x, context), expected)
    key, n = jax.random.key(3), len(rows)
    samples = model.sample(params, key, batch, context=context)
    flat = model.sample(params, key, n, context=contexts)
    np.testing.assert_array_equal(samples, flat.reshape(*batch, 3))
    samples, log_prob = model.sample_and_log_prob(params, key, batch, context)
    assert samples.shape == (*batch, 3) and log_prob.shape == batch
    np.testing.assert_allclose(log_prob, model.log_prob(params, samples, context), rtol=1e-6)


def test_a_context_of_another_batch_is_refused():
    model = glowjax.density(glowjax.maf(steps=1, width=8), (3,))
    x, context = jnp.ones((2, 3, 3)), jnp.ones((2, 3, 2))
    params = model.init(jax.random.key(0), x[0], context[0])
    for wrong in (context[0], jnp.ones((6, 2))):
        with pytest.raises(ValueError, match=r"context must have the batch axes \(2, 3\)"):
            model.log_prob(params, x, wrong)
    with pytest.raises(ValueError, match="n must be"):
        model.sample(params, jax.random.key(0), (2, 0), context=context)
