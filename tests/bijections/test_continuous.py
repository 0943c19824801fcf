"""Continuous flows against closed forms, and the estimated trace against the exact one."""

import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_MLP, Case, data, parameters

from glowjax import as_flow

pytest.importorskip("diffrax")

from glowjax.bijections.ode.along import flow_along, flow_along_with_costs
from glowjax.bijections.ode.continuous import Continuous

MATRIX = np.array([[0.3, -0.8], [0.5, -0.6]])


class Linear(nn.Module):
    """velocity = x·A, whose solution at t = 1 is x·exp(A), with log_det = tr A."""

    features: int

    @nn.compact
    def __call__(self, x_and_t, context=None):
        shape = (self.features, self.features)
        return x_and_t[:, :-1] @ self.param("matrix", nn.initializers.zeros, shape, x_and_t.dtype)


class Decay(nn.Module):
    """velocity = -x, without parameters."""

    features: int

    def __call__(self, x_and_t):
        return -x_and_t[:, :-1]


def test_a_velocity_needs_no_parameters():
    x = jnp.array([[1.0, -2.0]])
    z, log_det = jax.jit(as_flow(Continuous(Decay)).forward)({}, x)
    np.testing.assert_allclose(z, x * np.exp(-1), rtol=1e-4)
    np.testing.assert_allclose(log_det, -2, rtol=1e-4)


class DecayOfImages(nn.Module):
    """velocity = -t·x, of the time in the last channel of images."""

    features: int

    def __call__(self, x_and_t):
        return -x_and_t[..., -1:] * x_and_t[..., :-1]


@pytest.mark.slow
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_images_flow_too(trace):
    x = jax.random.normal(jax.random.key(0), (2, 3, 2, 2))
    flow = as_flow(Continuous(DecayOfImages, trace=trace))
    z, log_det = jax.jit(flow.forward)({}, x, None, jax.random.key(1))
    np.testing.assert_allclose(z, x * np.exp(-0.5), rtol=1e-4)
    np.testing.assert_allclose(log_det, -12 * 0.5, rtol=1e-4)


@functools.cache
def bent(**hyper):
    """A flow that stretches by up to 3 and by down to 0.3, with its parameters and data."""
    net = functools.partial(SMALL_MLP, depth=1, activation="silu")
    case = Case(as_flow(Continuous(net, **hyper)), (3,), (), noise=0.2)
    init = case._replace(flow=as_flow(Continuous(net)))  # which needs no key
    return case.flow, jax.jit(lambda: parameters(init))(), data(case, batch=2)[0]


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_errors_follow_the_tolerance(tolerance):
    flow = as_flow(Continuous(Linear, rtol=tolerance, atol=tolerance))
    x = jax.random.normal(jax.random.key(0), (3, 2))
    params = {"net": {"matrix": MATRIX}}

    @jax.jit
    def measure(x):
        z, log_det = flow.forward(params, x)
        back, inverse_log_det = flow.inverse(params, z)
        errors = z - x @ jax.scipy.linalg.expm(MATRIX), back - x
        log_dets = log_det - jnp.trace(MATRIX), inverse_log_det + jnp.trace(MATRIX)
        return jax.tree.map(lambda e: jnp.max(jnp.abs(e)), (errors, log_dets))

    errors, log_dets = measure(x)
    assert max(errors) < 10 * tolerance and max(errors) > 1e-3 * tolerance
    assert max(log_dets) < 1e-13  # of a constant


@pytest.mark.slow
def test_a_nets_errors_are_within_ten_times_the_tolerance():
    """Measured from its own solution at 1e-12."""

    @functools.partial(jax.jit, static_argnums=0)
    def solve(tolerance):
        flow, params, x = bent(rtol=tolerance, atol=tolerance)
        z, log_det = flow.forward(params, x)
        return z, log_det, *flow.inverse(params, z)

    fine = solve(1e-12)
    assert np.all(np.abs(fine[1]) > 0.05)
    for coarse, exact in zip(solve(1e-6), fine, strict=True):
        np.testing.assert_allclose(coarse, exact, atol=1e-5, rtol=0)


def test_velocity_may_change_with_time():
    """dx/dt = 2·t·x from t = 0.5 to 2: x grows by exp(3.75), and so does each of 3 dimensions."""
    x = jnp.asarray([1.0, -2.0, 0.5])

    @jax.jit
    def solve(start, stop):
        def velocity(x, t):
            return 2 * t * x

        return flow_along(velocity, x, jnp.eye(3), start, stop, rtol=1e-10, atol=1e-10)

    z, log_det = solve(0.5, 2.0)
    np.testing.assert_allclose(z, x * np.exp(3.75), rtol=1e-8)
    np.testing.assert_allclose(log_det, 3 * 3.75, rtol=1e-8)
    z, log_det = solve(2.0, 0.5)
    np.testing.assert_allclose(z, x * np.exp(-3.75), rtol=1e-8)
    np.testing.assert_allclose(log_det, -3 * 3.75, rtol=1e-8)


@pytest.mark.slow
def test_gradients_are_those_of_the_closed_form():
    flow = as_flow(Continuous(Linear, rtol=1e-10, atol=1e-10))
    x = jax.random.normal(jax.random.key(0), (3, 2))

    @jax.jit
    def both(matrix, x):
        def solved(matrix, x):
            z, log_det = flow.forward({"net": {"matrix": matrix}}, x)
            return jnp.sum(jnp.sin(z)) + jnp.sum(log_det)

        def closed(matrix, x):
            z = x @ jax.scipy.linalg.expm(matrix)
            return jnp.sum(jnp.sin(z)) + len(x) * jnp.trace(matrix)

        return [jax.grad(f, argnums=(0, 1))(matrix, x) for f in (solved, closed)]

    solved, closed = both(MATRIX, x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-8), solved, closed)


@pytest.mark.slow
def test_costs_of_a_path_are_those_of_the_closed_form():
    flow = Continuous(Linear, rtol=1e-9, atol=1e-9)
    x, variables = jnp.array([[1.0, -2.0], [0.5, 0.3]]), {"params": {"net": {"matrix": MATRIX}}}
    z, log_det, costs = jax.jit(lambda x: flow.apply(variables, x, method="forward_with_costs"))(x)
    np.testing.assert_allclose(z, x @ jax.scipy.linalg.expm(MATRIX), rtol=1e-7)
    np.testing.assert_allclose(log_det, np.trace(MATRIX), rtol=1e-7)
    times = (np.arange(2000) + 0.5) / 2000
    rates = [x @ jax.scipy.linalg.expm(MATRIX * t) @ MATRIX for t in times]
    np.testing.assert_allclose(costs.kinetic, np.square(rates).sum(-1).mean(0), rtol=1e-6)
    np.testing.assert_allclose(costs.frobenius, np.square(MATRIX).sum(), rtol=1e-9)


@pytest.mark.slow
def test_costs_grow_in_either_direction_of_time():
    def velocity(x, t):
        return jnp.full_like(x, 2.0)

    for start, stop in ((0.0, 1.0), (1.0, 0.0)):
        _, _, costs = flow_along_with_costs(velocity, jnp.zeros(3), jnp.eye(3), start, stop)
        np.testing.assert_allclose(costs, (12.0, 0.0), atol=1e-9)


# ------------------------------------------------------------------------------- the estimate


@functools.cache
def draws(n=2000):
    """Log-dets and gradients, exact and of n estimates."""
    exact, params, x = bent()
    estimated = bent(trace="hutchinson")[0]

    def measure(flow, key):
        def log_det(params, x):
            return jnp.sum(flow.log_det(params, x, key=key))

        value, gradients = jax.value_and_grad(log_det, argnums=(0, 1))(params, x[:1])
        return {"value": value, "gradients": gradients}

    keys = jax.random.split(jax.random.key(5), n)
    estimates = jax.jit(jax.vmap(lambda key: measure(estimated, key)))(keys)
    return jax.jit(lambda: measure(exact, None))(), estimates


def check_unbiased(exact, estimates):
    """Raises `AssertionError` unless means are within 4 standard errors, and the solver's."""

    def check(exact, estimates):
        error = jnp.std(estimates, axis=0) / np.sqrt(len(estimates))
        assert np.all(jnp.abs(jnp.mean(estimates, axis=0) - exact) <= 4 * error + 1e-4)

    jax.tree.map(check, exact, estimates)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["value", pytest.param("gradients", marks=pytest.mark.exhaustive)])
def test_hutchinson_is_unbiased(part):
    exact, estimates = draws()
    check_unbiased(exact[part], estimates[part])
    assert np.std(estimates["value"]) > 0.01
    with pytest.raises(AssertionError):  # a wrong sign
        check_unbiased(exact[part], jax.tree.map(jnp.negative, estimates[part]))


@pytest.mark.slow
def test_one_key_gives_both_directions_one_estimate():
    flow, params, x = bent(trace="hutchinson", rtol=1e-10, atol=1e-10)
    key = jax.random.key(7)

    @jax.jit
    def measure(x):
        z, forward = flow.forward(params, x, key=key)
        back, inverse = flow.inverse(params, z, key=key)
        return back, forward, inverse, flow.log_det(params, x, key=jax.random.key(8))

    back, forward, inverse, other = measure(x)
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(inverse, -forward, atol=1e-9)
    assert np.any(np.abs(forward - other) > 1e-3)


# --------------------------------------------------------------------------------- the module


@pytest.mark.slow
def test_an_example_does_not_depend_on_its_batch():
    flow, params, x = bent()
    forward = jax.jit(flow.forward)
    z, log_det = forward(params, jnp.stack([x[0], 10 * x[1]]))
    alone, its_log_det = forward(params, x[:1])
    np.testing.assert_allclose(z[:1], alone, rtol=1e-12)
    np.testing.assert_allclose(log_det[:1], its_log_det, rtol=1e-12)


@pytest.mark.slow
def test_too_many_steps_give_nan():
    flow, params, x = bent(max_steps=2)
    for array in jax.jit(flow.forward)(params, x):
        assert np.all(np.isnan(array))


@pytest.mark.parametrize(
    "wrong", [{"trace": "both"}, {"rtol": 0.0}, {"atol": -1.0}, {"max_steps": 0}]
)
def test_attributes_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        as_flow(Continuous(**wrong)).init(jax.random.key(0), jnp.ones((2, 3)))


@pytest.mark.slow
def test_errors():
    flow, params, x = bent(trace="hutchinson")
    for f in (flow.forward, flow.inverse):
        with pytest.raises(ValueError, match="key must be a JAX key, which trace='hutchinson'"):
            f(params, x)
    with pytest.raises(ValueError, match=r"t must be of shape \(2,\), got \(\)"):
        Continuous().velocity(params, x, 0.5)
    with pytest.raises(ValueError, match="params must be the flow's, a dict, got 'tuple'"):
        Continuous().velocity((params, None), x, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"params of Continuous do not fit x"):
        bent()[0].forward(params, x[:, :2])


@pytest.mark.slow
def test_a_missing_diffrax_is_named(monkeypatch):
    flow, params, x = bent()
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r"pip install 'glowjax\[continuous\]'"):
        flow.forward(params, x)
