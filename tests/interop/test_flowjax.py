"""Weights of FlowJAX: the same log-likelihoods as the library itself computes."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted import check_log_prob, check_round_trip

from glowjax.interop.flowjax import from_flowjax

pytest.importorskip("flowjax")

import equinox as eqx
from flowjax import bijections, flows
from flowjax.distributions import Normal, StandardNormal, StudentT, Transformed

D = 5
SIZES = {"flow_layers": 2, "nn_width": 7}


def spline(**options):
    return bijections.RationalQuadraticSpline(knots=4, interval=1.5, **options)


def key(seed=0):
    return jax.random.key(seed)


def base():
    return StandardNormal((D,))


MODELS = {
    "coupling": lambda: flows.coupling_flow(key(), base_dist=base(), **SIZES),
    "spline coupling": lambda: flows.coupling_flow(
        key(), base_dist=base(), transformer=spline(), nn_depth=2, nn_activation=jnp.tanh, **SIZES
    ),
    "inverse coupling": lambda: flows.coupling_flow(key(), base_dist=base(), invert=False, **SIZES),
    "maf": lambda: flows.masked_autoregressive_flow(key(), base_dist=base(), **SIZES),
    "spline maf": lambda: flows.masked_autoregressive_flow(
        key(), base_dist=base(), transformer=spline(min_width=0.02, min_derivative=0.05), **SIZES
    ),
    "plain scale": lambda: flows.masked_autoregressive_flow(
        key(), base_dist=base(), transformer=bijections.Affine(0.3, 1.7), nn_depth=3, **SIZES
    ),
    "two numbers": lambda: flows.masked_autoregressive_flow(
        key(), base_dist=StandardNormal((2,)), **SIZES
    ),
    "learned normal": lambda: flows.coupling_flow(
        key(), base_dist=Normal(jnp.arange(D) / 3, jnp.arange(1, D + 1) / 2), **SIZES
    ),
    "planar": lambda: flows.planar_flow(key(), base_dist=base(), flow_layers=3, invert=True),
}


def trained(name):
    """A model, every parameter of which was moved."""
    floats, rest = eqx.partition(MODELS[name](), eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(floats)
    keys = structure.unflatten(list(jax.random.split(key(1), len(leaves))))
    noise = 0.8 if name == "planar" else 0.3
    moved = jax.tree.map(lambda p, k: p + noise * jax.random.normal(k, p.shape), floats, keys)
    return eqx.combine(moved, rest)


def data(size, count=20):
    return 1.3 * np.random.default_rng(0).normal(size=(count, size))


def log_prob(model, x):
    return np.asarray(jax.jit(lambda x: model.log_prob(x))(x))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_same_likelihood(name):
    model = trained(name)
    x = data(model.shape[0])
    flow, params = from_flowjax(model)
    check_log_prob(flow, params, x, log_prob(model, x))
    check_round_trip(flow, params, x)


@pytest.mark.float32
def test_likelihoods_in_float32():
    model = trained("spline coupling")
    x = data(D).astype(np.float32)
    flow, params = from_flowjax(model)
    check_log_prob(flow, params, x, log_prob(model, x))


def test_a_planar_flow_that_samples_gives_what_it_samples():
    model = flows.planar_flow(key(), base_dist=base(), flow_layers=3, invert=False)
    far = functools.partial(jnp.multiply, 80.0)  # from the identity
    where = operator.attrgetter("bijection.bijection.bijections")
    model = eqx.tree_at(lambda m: where(m)[0].params, model, replace_fn=far)
    flow, params = from_flowjax(model)
    x, expected = model.sample_and_log_prob(key(2), (20,))
    check_log_prob(flow, params, np.asarray(x), np.asarray(expected))


def transformed(*chain):
    return Transformed(base(), bijections.Invert(bijections.Chain(chain)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "model must be a Transformed distribution of flowjax, got 'NoneType'"),
        (
            lambda: transformed(bijections.Exp((D,))),
            "bijection must be one of Affine, .* of flowjax, got 'Exp'",
        ),
        (
            lambda: flows.coupling_flow(key(), base_dist=base(), cond_dim=2),
            "bijection must be one without a condition, got 'Coupling with a condition'",
        ),
        (
            lambda: flows.planar_flow(key(), base_dist=base(), negative_slope=0.1),
            "Planar must be one with tanh, negative_slope=None, got 'one with a leaky ReLU'",
        ),
        (
            lambda: flows.coupling_flow(key(), base_dist=StudentT(3 * jnp.ones(D))),
            "model must be one of base StandardNormal, got 'the base _StandardStudentT'",
        ),
        (
            lambda: flows.coupling_flow(key(), base_dist=base(), transformer=bijections.Loc(0.0)),
            "transformer must be one of Affine, RationalQuadraticSpline, got 'Loc'",
        ),
        (
            lambda: flows.coupling_flow(
                key(),
                base_dist=base(),
                transformer=bijections.RationalQuadraticSpline(knots=3, interval=(0, 1)),
            ),
            "interval must be the same to both sides of 0",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        from_flowjax(make())
