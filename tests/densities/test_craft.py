"""Flows between temperatures: exact weights for any of them, and the gradients of `craft`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import glowjax

ACTNORM = glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0))
MODEL = glowjax.density(ACTNORM, (2,))
PARAMS = {"bias": np.zeros(2), "log_scale": -np.log(1.5) * np.ones(2)}  # N(0, 1.5²)
FLOW = glowjax.as_flow(glowjax.Coupling(glowjax.affine(), functools.partial(glowjax.MLP, width=4)))
LOG_Z = 2.0


def target(x):
    return LOG_Z + jnp.sum(norm.logpdf(x, np.array([1.0, -0.5]), 0.7), axis=-1)


def stacked(number):
    """Parameters of as many flows, none of them the identity."""
    keys = jax.random.split(jax.random.key(0), number)
    x = jax.random.normal(jax.random.key(1), (50, 2))
    params = jax.vmap(FLOW.init, (0, None))(keys, x)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_the_mass_is_right_on_average_through_any_flows(threshold):
    def log_z(key):
        return glowjax.annealed_importance_sampling(
            MODEL,
            PARAMS,
            target,
            key,
            200,
            temperatures=3,
            ess_threshold=threshold,
            step_size=0.4,
            transport=ACTNORM,
            transport_params={"bias": np.full((3, 2), -0.1), "log_scale": np.full((3, 2), 0.1)},
        ).log_z

    ratio = jnp.exp(jax.jit(jax.vmap(log_z))(jax.random.split(jax.random.key(3), 200)) - LOG_Z)
    error = jnp.std(ratio) / 200**0.5
    assert error < 0.03 and abs(jnp.mean(ratio) - 1) < 3.5 * error


@pytest.mark.slow
def test_one_flow_is_trained_by_its_reverse_kl():
    def of_craft(params, key):
        return glowjax.craft(
            MODEL,
            PARAMS,
            target,
            key,
            50,
            temperatures=1,
            transport=FLOW,
            transport_params=jax.tree.map(lambda a: a[None], params),
        )

    def of_reverse_kl(params, key):
        whole = glowjax.density(glowjax.chain(FLOW, ACTNORM), (2,))
        start = jax.random.split(key)[1]  # as `anneal` does
        return glowjax.reverse_kl(whole, (params, PARAMS), target, start, 50)

    params = jax.tree.map(lambda a: a[0], stacked(1))
    found, expected = (
        jax.jit(jax.value_and_grad(loss))(params, jax.random.key(4))
        for loss in (of_craft, of_reverse_kl)
    )
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_each_flow_learns_from_its_own_increment():
    def increments(params):
        return glowjax.anneal(
            MODEL,
            PARAMS,
            target,
            jax.random.key(5),
            30,
            temperatures=3,
            transport=FLOW,
            transport_params=params,
        ).increments

    slopes = jax.jit(jax.jacobian(increments))(stacked(3))
    for slope in jax.tree.leaves(slopes):  # [increment, flow, ...]
        size = np.abs(slope).reshape(3, 3, -1).sum(-1)
        assert np.all(size[~np.eye(3, dtype=bool)] == 0)
    assert sum(np.abs(slope[2, 2]).sum() for slope in jax.tree.leaves(slopes)) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transport": FLOW}, r"transport_params must be of arrays \[8, ...\], .* got None"),
        ({"transport_params": np.ones(8)}, "transport_params must be None without a transport"),
        ({"transport": FLOW, "transport_params": np.ones((3, 2))}, r"one row .* got \(3, 2\)"),
    ],
)
def test_flows_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        glowjax.anneal(MODEL, PARAMS, target, jax.random.key(0), 5, **options)
