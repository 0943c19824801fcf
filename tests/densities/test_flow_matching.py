"""Flow matching of normal data against closed forms, and its pairs against brute force."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax.densities.pairing import optimal_transport

MEAN, STD = 1.5, 0.6  # of data; with a context c, the mean is 1.5·c
N = 100_000


def coefficients(t, sigma):
    """x_t = a·x + b·z, and b's slope."""
    return 1 - t, sigma + (1 - sigma) * t, 1 - sigma


def velocity(sigma):
    """E[u | x_t] of x ~ N(1.5·c, 0.6²) and z ~ N(0, 1), times `scale`, plus `shift`."""

    def rate(params, x, t, context=None):
        a, b, slope = coefficients(t[:, None], sigma)
        mean = MEAN * (1.0 if context is None else context)
        gain = (slope * b - a * STD**2) / (a**2 * STD**2 + b**2)
        return params["scale"] * (gain * (x - a * mean) - mean) + params["shift"]

    return rate


def least(sigma):
    """E[Var(u | x_t)], u = slope·z - x."""
    t = (np.arange(10_000) + 0.5) / 10_000
    a, b, slope = coefficients(t, sigma)
    covariance = slope * b - a * STD**2
    return np.mean(slope**2 + STD**2 - covariance**2 / (a**2 * STD**2 + b**2))


TRUTH = {"scale": jnp.ones(1), "shift": jnp.zeros(1)}


def data(key, mean=MEAN, std=STD, n=N):
    return mean + std * jax.random.normal(jax.random.key(key), (n, 1))


def tilted():
    """Data of a wider normal, with weights that make them N(1.5, 0.6²)."""
    x = data(1, std=1.0)
    log_w = -0.5 * ((x - MEAN) / STD) ** 2 - np.log(STD) + 0.5 * (x - MEAN) ** 2
    return {"x": x, "weights": jnp.exp(log_w[:, 0])}


def given():
    context = jax.random.normal(jax.random.key(2), (N, 1))
    return {"x": context * MEAN + STD * data(3, 0.0, 1.0), "context": context}


def drawn():
    return {"x": data(1), "z": data(4, 0.0, 1.0)}


@pytest.mark.parametrize(
    ("arguments", "sigma"),
    [(lambda: {"x": data(1)}, 0.0), (drawn, 0.2), (tilted, 0.0), (given, 0.1)],
    ids=["plain", "sigma_min and z", "weights", "context"],
)
def test_the_minimum_is_the_conditional_expectation(arguments, sigma):
    """The loss there is the conditional variance, and its gradient is 0."""
    inputs = arguments()

    def loss(params):
        key = jax.random.key(0)
        rest = {k: v for k, v in inputs.items() if k != "x"}
        return glowjax.flow_matching(
            velocity(sigma), params, inputs["x"], key, sigma_min=sigma, **rest
        )

    value, gradient = jax.value_and_grad(loss)(TRUTH)
    np.testing.assert_allclose(value, least(sigma), rtol=0.02)
    np.testing.assert_allclose(gradient["scale"], 0, atol=0.05)
    np.testing.assert_allclose(gradient["shift"], 0, atol=0.05)
    away = jax.grad(loss)({"scale": jnp.full(1, 0.8), "shift": jnp.full(1, 0.3)})
    assert away["scale"] < -0.2 and away["shift"] > 0.5


def straight(params, x, t, context=None):
    """The velocity of the paths from x to (x - 1.5) / 0.6."""
    t = t[:, None]
    start = (x + t * MEAN / STD) / (1 - t + t / STD)
    return (start - MEAN) / STD - start


def test_pairs_of_a_flow_have_no_loss_where_it_is_straight():
    x = data(1, n=100)
    loss = glowjax.flow_matching(straight, {}, x, jax.random.key(0), z=(x - MEAN) / STD)
    np.testing.assert_allclose(loss, 0, atol=1e-20)


def test_optimal_pairs_of_large_batches_are_those_of_straight_paths():
    x, key = data(1, n=300), jax.random.key(0)
    losses = [
        glowjax.flow_matching(straight, {}, x, key, pairing=p)
        for p in ("independent", "optimal_transport")
    ]
    assert losses[1] < 0.02 * losses[0]


def test_optimal_pairs_are_those_of_brute_force():
    @jax.jit
    @jax.vmap
    def paired(x, z):
        return optimal_transport(x, z)

    x, z = np.asarray(jax.random.normal(jax.random.key(0), (2, 20, 5, 2, 1)))
    for a, b, found in zip(x, z, paired(x, z), strict=True):
        orders = b[list(itertools.permutations(range(5)))]
        costs = np.square(a - orders).sum(axis=(1, 2, 3))
        np.testing.assert_array_equal(found, orders[np.argmin(costs)])


def test_what_is_not_finite_gives_nan():
    x = jnp.full((3, 1), jnp.nan)
    assert jnp.isnan(
        glowjax.flow_matching(straight, {}, x, jax.random.key(0), pairing="optimal_transport")
    )


def test_standardized_parameters_take_data_in_their_units():
    x, z, key = data(1, n=50), data(2, 0.0, 1.0, n=50), jax.random.key(0)
    units = glowjax.Standardized(jnp.full(1, MEAN), jnp.full(1, STD), TRUTH)
    np.testing.assert_allclose(
        glowjax.flow_matching(velocity(0.0), units, x, key, z=z),
        glowjax.flow_matching(velocity(0.0), TRUTH, (x - MEAN) / STD, key, z=z),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pairing": "sinkhorn"}, "pairing must be one of 'independent', 'optimal_transport'"),
        ({"sigma_min": 1.0}, r"sigma_min must be in \[0, 1\), got 1.0"),
        ({"z": jnp.ones((4, 1))}, r"z must be of the shape of x, \(3, 1\), got \(4, 1\)"),
        ({"weights": jnp.ones((3, 1))}, r"weights must be of shape \(3,\), got \(3, 1\)"),
        (
            {"pairing": "optimal_transport", "weights": jnp.ones(3)},
            "weights must be None with pairing='optimal_transport', or latents would depend on it",
        ),
        (
            {"pairing": "optimal_transport", "context": jnp.ones((3, 1))},
            "context must be None with pairing='optimal_transport'",
        ),
        ({"x": jnp.ones((3, 1), int)}, "x must be floating point, got int"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_errors(wrong, message):
    arguments = {"x": jnp.ones((3, 1)), "key": jax.random.key(0)} | wrong
    with pytest.raises(ValueError, match=message):
        glowjax.flow_matching(straight, {}, **arguments)


@pytest.mark.slow
@pytest.mark.float32
def test_a_trained_flow_has_mass_1_and_rectified_it_is_straighter():
    pytest.importorskip("diffrax")
    flow = glowjax.Continuous(rtol=1e-4, atol=1e-4)
    model = glowjax.density(glowjax.as_flow(flow), (2,))
    x = glowjax.toy.eight_gaussians(jax.random.key(0), 5000)

    def loss(params, batch, key, step):
        return glowjax.flow_matching(flow.velocity, params, batch.x, key, z=batch.context)

    fits: Any = {"steps": 1500, "loss": loss, "validation": None, "show": False}
    params = glowjax.fit(model, x, **fits).params
    z = jax.random.normal(jax.random.key(1), (5000, 2))
    samples = jax.jit(model.decode)(params, z)
    rectified = glowjax.fit(model, samples, context=z, params=params, **fits).params

    side = jnp.linspace(-8, 8, 120)
    grid = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
    log_prob = jax.jit(model.log_prob)
    held_out = glowjax.toy.eight_gaussians(jax.random.key(2), 500)
    for trained in (params, rectified):
        mass = jnp.sum(jnp.exp(log_prob(trained, grid))) * (side[1] - side[0]) ** 2
        np.testing.assert_allclose(mass, 1, atol=0.01)
        truth = glowjax.targets.circular_gaussians(8).log_prob(held_out)
        assert jnp.mean(truth - log_prob(trained, held_out)) < 0.5

    def bend(params):
        return glowjax.straightness(glowjax.path_in_steps(flow.velocity, params, z[:500], 50))

    assert bend(rectified) < 0.3 * bend(params)


@pytest.mark.slow
def test_contexts_that_the_parameters_were_not_made_for_are_refused():
    flow, x = glowjax.Continuous(), jnp.ones((4, 2))
    params = glowjax.as_flow(flow).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="x and context must be as at init: params of Continuous"):
        glowjax.flow_matching(flow.velocity, params, x, jax.random.key(1), context=jnp.ones((4, 1)))
