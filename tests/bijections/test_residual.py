"""Residual flows: the Lipschitz bound, the inverse, and log-determinants estimated and exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, SMALL_RESIDUAL, Case, data, parameters

import glowjax
from glowjax import as_flow
from glowjax.bijections.contraction import ACTIVATIONS, limit_spectral_norm
from glowjax.bijections.residual import fixed_point, steps_to_rounding
from glowjax.testing import moved

ESTIMATED = ("power_series", "roulette")


@functools.cache
def steep(width=8, **hyper):
    """A flow near its bound, J ≈ -c·I, with its parameters and data: the series is long."""
    case = Case(as_flow(SMALL_RESIDUAL(width=width, depth=1, **hyper)), (3,), ())
    params = jax.jit(lambda: parameters(case))()
    weight = 20 * params["weight1"]
    params |= {"weight1": weight, "weight2": 0.1 * params["weight2"] - weight.T}
    return case.flow, params | {"bias1": 2 + params["bias1"]}, data(case, batch=2)[0]


def linear(slope):
    return lambda x: slope * x


# ------------------------------------------------------------------------------------- bounds


def test_weights_are_scaled_only_above_the_bound():
    weight = jax.random.normal(jax.random.key(0), (5, 3))
    norm = float(np.linalg.norm(weight, ord=2))
    np.testing.assert_array_equal(limit_spectral_norm(weight, 1.01 * norm), weight)
    limited = limit_spectral_norm(weight, 0.3)
    np.testing.assert_allclose(limited, weight * 0.3 / norm, rtol=1e-12)
    zeros = jax.grad(lambda w: jnp.sum(limit_spectral_norm(w, 0.3)))(jnp.zeros((2, 2)))
    np.testing.assert_array_equal(zeros, 1)  # and not NaN


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_have_slopes_up_to_one(activation):
    """The norm of all outputs' slopes at one input, for slopes that span what is learned."""
    function = ACTIVATIONS[activation].function
    x, slopes = jnp.linspace(-100, 100, 20_001)[:, None], jnp.asarray([-3.0, 0.0, 0.5, 4.0])
    push = jax.vmap(lambda slope: jax.jvp(lambda x: function(x, slope), (x,), (1 + 0 * x,))[1])
    steepest = jnp.max(jnp.linalg.norm(push(slopes), axis=-1), axis=1)
    assert np.all(steepest <= 1) and np.all(steepest > 0.999)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["mlp", "dense"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_jacobian_is_above_the_bound(net, activation):
    """The spectral norm of ∂g/∂x, at points and parameters found by going uphill on it."""
    module = SMALL_RESIDUAL(coefficient=0.8, net=net, activation=activation)
    flow, x = as_flow(module), 2 * jax.random.normal(jax.random.key(1), (50, 3))

    @jax.jit
    def measure():
        def norms(params, x):
            def g(x):
                return (flow.forward(params, x[None])[0] - x)[0]

            return jnp.linalg.norm(jax.vmap(jax.jacrev(g))(x), ord=2, axis=(1, 2))

        def uphill(_, at):
            slope = jax.grad(lambda at: jnp.sum(norms(*at)))(at)
            return jax.tree.map(lambda a, s: a + 0.03 * s / (1e-9 + jnp.linalg.norm(s)), at, slope)

        params = moved(flow.init(jax.random.key(0), x), 0.5)
        return norms(*jax.lax.fori_loop(0, 100, uphill, (params, x)))

    found = np.max(measure())
    assert 0.6 * 0.8 < found <= 0.8 * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "residual_repeat"])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_the_lipschitz_bound_holds_for_all_weights(name, scale):
    coefficient = 0.9 if name == "residual" else 0.5
    module = SMALL_RESIDUAL(coefficient=coefficient, depth=2 if name == "residual" else 1)
    x, context = data(CASES[name], batch=200)
    y = x + jax.random.normal(jax.random.key(3), x.shape) * jnp.logspace(-3, 2, len(x))[:, None]

    @jax.jit
    def residuals(x, y):
        params = as_flow(module).init(jax.random.key(0), x, context)
        params = jax.tree.map(lambda p: scale * p, params)
        return [as_flow(module).forward(params, a, context)[0] - a for a in (x, y)]

    gx, gy = residuals(x, y)
    ratio = np.linalg.norm(gx - gy, axis=1) / np.linalg.norm(x - y, axis=1)
    assert np.max(ratio) <= coefficient * (1 + 1e-9)
    if scale > 1:
        assert np.max(ratio) > 0.1 * coefficient  # the bound is not met by being flat


# ------------------------------------------------------------------------------------- inverse


@pytest.mark.parametrize("slope", [0.7, -0.7])
def test_the_error_of_n_steps_is_the_bound(slope):
    x = jnp.asarray([[1.0, -2.0], [0.5, 3.0]])
    g = linear(slope)
    z = x + g(x)
    for n in (1, 5, 20):
        error = np.linalg.norm(fixed_point(lambda y: z - g(y), z, n) - x, axis=1)
        np.testing.assert_allclose(error, 0.7**n * np.linalg.norm(g(x), axis=1), rtol=1e-9)


def test_the_inverse_is_exact_to_rounding():
    assert steps_to_rounding(0.9, jnp.float32) == 152
    assert steps_to_rounding(0.9, jnp.float64) == 343
    for coefficient in (0.5, 0.9, 0.99):
        x = jnp.asarray([[1.0, -2.0], [1e-9, 3e5], [0.0, 0.0]])
        g = linear(-coefficient)  # the slowest there is
        inverse = glowjax.residual_inverse(g, x + g(x), coefficient=coefficient)
        size = np.max(np.abs(x), axis=1, keepdims=True)
        assert np.all(np.abs(inverse - x) <= 8e-16 / (1 - coefficient) * size)


def test_nan_stays_in_its_example():
    z = jnp.asarray([[1.0, jnp.nan], [1.0, 2.0]])
    x = glowjax.residual_inverse(linear(0.5), z, coefficient=0.5)
    np.testing.assert_allclose(x, z / 1.5)


@pytest.mark.slow
def test_gradients_of_the_inverse():
    """Forward after inverse is the identity, so that its gradients are those of the identity."""
    flow, params, z = steep()

    @jax.jit
    def measure(params, z):
        def there_and_back(params, z):
            return jnp.sum(jnp.sin(flow.forward(params, flow.inverse(params, z)[0])[0]))

        def log_dets(params, z):
            x, inverse_log_det = flow.inverse(params, z)
            return jnp.sum(inverse_log_det + flow.forward(params, x)[1])

        def mean(params):
            return jnp.sum(jnp.sin(flow.inverse(params, z)[0]))

        tangent = jax.jvp(mean, (params,), (params,))[1]
        reverse = jax.grad(mean)(params)
        both = [jax.grad(f, argnums=(0, 1))(params, z) for f in (there_and_back, log_dets)]
        return *both, tangent, reverse

    (g_params, g_z), zeros, tangent, reverse = measure(params, z)
    np.testing.assert_allclose(g_z, jnp.cos(z), rtol=1e-9)
    for leaf in jax.tree.leaves((g_params, zeros)):
        np.testing.assert_allclose(leaf, 0, atol=1e-9)
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), reverse, params)
    np.testing.assert_allclose(sum(products.values()), tangent, rtol=1e-9)
    assert abs(tangent) > 1e-3


# ------------------------------------------------------------------------------ log-determinants


@pytest.mark.slow
@pytest.mark.parametrize("coefficient", [0.5, 0.9])
def test_the_series_is_within_its_bound(coefficient):
    """Summed over the basis as probes, vᵀJᵏv is the trace itself."""
    d = 3
    x = jax.random.normal(jax.random.key(0), (2, d))
    flow, params, _ = steep(coefficient=coefficient)

    def g(x):
        return flow.forward(params, x)[0] - x

    @functools.partial(jax.jit, static_argnums=0)
    def error(g, n):
        def series(v):
            return glowjax.residual_log_det_series(g, x, jnp.broadcast_to(v, x.shape), n)

        return jnp.sum(jax.vmap(series)(jnp.eye(d)), 0) - glowjax.residual_log_det(g, x)

    extreme = linear(-coefficient)  # all terms of one sign: the largest error there is
    for n in (1, 4, 10):
        bound = d * coefficient ** (n + 1) / ((n + 1) * (1 - coefficient))
        assert np.all(np.abs(error(g, n)) <= bound)
        assert np.all(error(extreme, n) <= bound) and np.all(error(extreme, n) > 0.3 * bound)
    assert np.all(np.abs(error(g, 400)) < 1e-12)


@functools.cache
def draws(log_det, terms, n=4000):
    """Log-dets and gradients, exact and of n estimates."""
    flow, params, x = steep(log_det=log_det, terms=terms)
    exact = steep()[0]

    def measure(flow, key):
        def log_det(params, x):
            return jnp.sum(flow.log_det(params, x, key=key) * jnp.asarray([1.0, -0.5]))

        value, gradients = jax.value_and_grad(log_det, argnums=(0, 1))(params, x)
        return {"value": value, "gradients": gradients}

    keys = jax.random.split(jax.random.key(5), n)
    estimates = jax.jit(jax.vmap(lambda key: measure(flow, key)))(keys)
    return jax.jit(lambda: measure(exact, None))(), estimates


def check_unbiased(exact, estimates):
    """Raises `AssertionError` unless means are within 4 standard errors."""

    def check(exact, estimates):
        error = jnp.std(estimates, axis=0) / np.sqrt(len(estimates))
        assert np.all(jnp.abs(jnp.mean(estimates, axis=0) - exact) <= 4 * error + 1e-12)

    jax.tree.map(check, exact, estimates)


@pytest.mark.slow
@pytest.mark.parametrize("terms", [1, 4])
def test_roulette_is_unbiased_in_value_and_gradient(terms):
    check_unbiased(*draws("roulette", terms))


@pytest.mark.slow
def test_a_long_series_is_unbiased_in_value_and_gradient():
    check_unbiased(*draws("power_series", 60))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["value", "gradients"])
def test_the_check_catches(part):
    exact, estimates = draws("roulette", 4)
    with pytest.raises(AssertionError):  # a wrong sign
        check_unbiased(exact[part], jax.tree.map(jnp.negative, estimates[part]))
    exact, estimates = draws("power_series", 1)
    with pytest.raises(AssertionError):  # a truncated series
        check_unbiased(exact[part], estimates[part])


@pytest.mark.slow
@pytest.mark.parametrize("log_det", ESTIMATED)
def test_one_key_gives_both_directions_one_estimate(log_det):
    flow, params, x = steep(log_det=log_det)
    key = jax.random.key(7)
    z, forward = flow.forward(params, x, key=key)
    back, inverse = jax.jit(flow.inverse)(params, z, key=key)
    np.testing.assert_allclose(back, x, rtol=1e-9)
    np.testing.assert_allclose(inverse, -forward, rtol=1e-9)
    assert np.any(forward != flow.log_det(params, x, key=jax.random.key(8)))


@pytest.mark.slow
def test_rebuilt_gradients_use_the_same_estimates():
    step = as_flow(SMALL_RESIDUAL(depth=1, log_det="roulette", terms=2))
    x = data(CASES["residual_repeat"])[0]

    def gradients(backprop):
        flow = glowjax.repeat(step, 2, backprop=backprop)

        @jax.jit
        def gradient(key):
            def loss(params, x):
                z, log_det = flow.forward(params, x, key=key)
                return jnp.sum(jnp.sin(z)) + jnp.sum(log_det)

            return jax.grad(loss, argnums=(0, 1))(flow.init(jax.random.key(0), x), x)

        return gradient(jax.random.key(1))

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9),
        gradients("invert"),
        gradients("store"),
    )


@pytest.mark.slow
def test_a_density_samples_though_its_log_det_is_estimated():
    flow, params, x = steep(log_det="power_series")
    model = glowjax.density(flow, (3,))
    new = jax.jit(model.sample, static_argnums=2)(params, jax.random.key(0), 4)
    np.testing.assert_allclose(model.decode(params, model.encode(params, new)), new, rtol=1e-9)
    key = jax.random.key(1)
    estimate = model.log_prob(params, x, key=key) - flow.log_det(params, x, key=key)
    normal = glowjax.standard_normal().log_prob(None, model.encode(params, x))
    np.testing.assert_allclose(estimate, normal, rtol=1e-9)


# ------------------------------------------------------------------------------------ the module


@pytest.mark.slow
def test_prepared_parameters_are_the_same_map():
    flow = CASES["residual"].flow
    x, context = data(CASES["residual"])

    @jax.jit
    def both(x):
        params = parameters(CASES["residual"])
        maps = flow.forward, flow.inverse
        return [[f(p, x, context) for f in maps] for p in (params, flow.prepare(params))]

    raw, prepared = both(x)
    jax.tree.map(np.testing.assert_array_equal, prepared, raw)


@pytest.mark.slow
def test_context_is_not_limited():
    flow = CASES["residual"].flow
    x, context = data(CASES["residual"])
    params = flow.init(jax.random.key(0), x, context)
    far = {**params, "context": 1e3 * params["context"]}
    moved = flow.forward(far, x, context)[0] - flow.forward(params, x, context)[0]
    assert np.all(np.linalg.norm(moved, axis=1) > 10)


@pytest.mark.slow
@pytest.mark.parametrize("log_det", ESTIMATED)
def test_estimates_need_a_key(log_det):
    flow, params, x = steep(log_det=log_det)
    for f in (flow.forward, flow.inverse, flow.log_det):
        with pytest.raises(ValueError, match=f"key must be a JAX key, which log_det='{log_det}'"):
            f(params, x)


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"depth": 0}, {"terms": 0}, {"coefficient": 1.0}, {"log_det": "hutchinson"}],
)
def test_attributes_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        as_flow(glowjax.Residual(**wrong)).init(jax.random.key(0), jnp.ones((2, 3)))


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_call")
def test_inputs_are_checked():
    flow = CASES["residual"].flow
    x, context = data(CASES["residual"])
    params = flow.init(jax.random.key(0), x, context)
    with pytest.raises(ValueError, match=r"x must be of shape \[B, D\]"):
        flow.init(jax.random.key(0), x[:, None], context)
    with pytest.raises(ValueError, match=r"context must be floats of shape \(3, F\)"):
        flow.init(jax.random.key(0), x, context[0])
    for wrong in (None, context[:, :1], context[0], context[:1]):
        with pytest.raises(ValueError, match="context must be"):
            flow.forward(params, x, wrong)
    with pytest.raises(ValueError, match="params of Residual do not fit x"):
        flow.forward(params, x[:, :2], context)
    with pytest.raises(ValueError, match=r"x must be of shape \[B, 3\]"):
        flow.forward(flow.prepare(params), x[:, :2], context)
    unconditional = steep()
    with pytest.raises(ValueError, match="context must be None"):
        unconditional[0].forward(unconditional[1], unconditional[2], jnp.ones((2, 1)))
