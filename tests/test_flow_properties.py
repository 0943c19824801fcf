"""The property harness: what must hold for every flow, with perturbed parameters, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, NAMES, SMALL_MLP, SMALL_NET, Case, coupling_step, data, named, parameters
from jax.extend.core import jaxprs_in_params

import glowjax

RTOL = 1e-9


def close(a, b, rtol=RTOL):
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=rtol, atol=rtol), a, b)


def flat(tree):
    """A tree of batched arrays as one matrix `[B, D]`."""
    return jnp.concatenate([a.reshape(a.shape[0], -1) for a in jax.tree.leaves(tree)], axis=1)


def check_flow(case: Case, rtol: float = RTOL) -> None:
    """Raises `AssertionError` unless `case.flow` is an invertible map with its log-determinant."""
    flow = case.flow
    x, context = data(case)

    @jax.jit  # one compiled function a case
    def measure(x, context):
        params = parameters(case)
        z, log_det = flow.forward(params, x, context)
        back, inverse_log_det = flow.inverse(params, z, context)
        again, _ = flow.forward(params, back, context)

        def event(x, context):
            context = None if context is None else context[None]
            return flat(flow.forward(params, x[None], context)[0])[0]

        def loss(params, x):
            z, log_det = flow.forward(params, x, context)
            weights = jnp.cos(jnp.arange(flat(z).shape[1]))
            return jnp.sum(jnp.sin(flat(z)) * weights) + jnp.sum(jnp.cos(log_det))

        jacobian = jax.vmap(jax.jacrev(event))(x, context)
        gradients = jax.grad(loss, argnums=(0, 1))(params, x)
        return params, z, log_det, back, inverse_log_det, again, jacobian, gradients

    params, z, log_det, back, inverse_log_det, again, jacobian, gradients = measure(x, context)
    size = np.prod(case.shape)
    assert log_det.shape == (len(x),) and log_det.dtype == x.dtype
    assert flat(z).shape == flat(x).shape
    close(back, x, rtol)
    close(again, z, rtol)
    close(log_det, jnp.linalg.slogdet(jacobian.reshape(len(x), size, size))[1], rtol)
    close(inverse_log_det, -log_det, rtol)
    for gradient in jax.tree.leaves(gradients):
        assert jnp.all(jnp.isfinite(gradient)) and jnp.any(gradient != 0)
    close(flow.log_det(params, x, context), log_det, rtol)  # without jit


@pytest.mark.parametrize("name", NAMES)
def test_flow(name):
    check_flow(CASES[name])


@pytest.mark.parametrize("name", ["affine", "top_prior_labels", "glow"])
def test_vmap_is_a_loop(name):
    case = CASES[name]
    x, context = data(case, batch=6)
    params = case.flow.init(jax.random.key(1), x, context)
    split = jax.tree.map(lambda a: a.reshape(2, 3, *a.shape[1:]), (x, context))
    z, log_det = jax.vmap(case.flow.forward, in_axes=(None, 0, 0))(params, *split)
    expected = case.flow.forward(params, x, context)
    close(jax.tree.map(lambda a: a.reshape(6, *a.shape[2:]), (z, log_det)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_initialisation_from_the_latent_side_fits(name):
    case = CASES[name]
    x, context = data(case)

    def both(x):
        params = case.flow.init(jax.random.key(1), x, context)
        z, _ = case.flow.forward(params, x, context)
        return params, glowjax.invert(case.flow).init(jax.random.key(1), z, context)

    from_x, from_z = jax.eval_shape(both, x)
    assert from_x == from_z


def test_repeat_is_a_chain():
    step, n = coupling_step(net=SMALL_MLP), 3
    case = Case(glowjax.repeat(step, n), (4,), (), context=2)
    chained = glowjax.chain(*[step] * n)
    x, context = data(case)

    def unstacked(params):
        return tuple(jax.tree.map(lambda a, i=i: a[i], params) for i in range(n))

    params = parameters(case)
    close(case.flow.forward(params, x, context), chained.forward(unstacked(params), x, context))
    close(case.flow.inverse(params, x, context), chained.inverse(unstacked(params), x, context))


def test_repeat_refuses_parameters_of_another_depth():
    step = glowjax.as_flow(glowjax.ActNorm())
    x = jnp.ones((2, 3))
    params = glowjax.repeat(step, 4).init(jax.random.key(0), x)
    for apply in (glowjax.repeat(step, 8).forward, glowjax.repeat(step, 2).inverse):
        with pytest.raises(ValueError, match="params must be stacked for n="):
            apply(params, x)


def test_repeat_needs_no_parameters():
    x = jax.random.normal(jax.random.key(0), (2, 5))
    once, thrice = (glowjax.repeat(glowjax.as_flow(glowjax.Reverse()), n) for n in (1, 3))
    close(thrice.forward({}, x), once.forward({}, x))


PREPARED = ["conv1x1", "conv1x1_lu", "additive", "affine", "affine_plain_net", "affine_context"]
PREPARED += ["affine_checkerboard", "actnorm", "chain", "invert", "glow_step"]


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_parameters_are_the_same_map(name):
    """Bit by bit: it is the same arithmetic, done before."""
    flow = CASES[name].flow
    x, context = data(CASES[name])

    @jax.jit
    def both(x):
        params = parameters(CASES[name])
        maps = flow.forward, flow.inverse, flow.log_det
        return [[f(p, x, context) for f in maps] for p in (params, flow.prepare(params))]

    raw, prepared = both(x)
    jax.tree.map(np.testing.assert_array_equal, prepared, raw)


def primitives(jaxpr, inside=False):
    """The names of all primitives of a program: `(inside a loop, outside)`."""
    found = set(), set()
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        found[not inside].add(name)
        for inner in jaxprs_in_params(equation.params):
            deeper = primitives(inner, inside or name in ("scan", "while"))
            found = found[0] | deeper[0], found[1] | deeper[1]
    return found


@pytest.mark.parametrize("mixing", ["conv1x1", "conv1x1_lu"])
@pytest.mark.parametrize("backprop", ["store", "recompute", "invert"])
def test_repeat_inverts_matrices_outside_its_loop(backprop, mixing):
    step = glowjax.glow_step(net=SMALL_NET, coupling="affine", scale="sigmoid", mixing=mixing)
    flow = glowjax.repeat(step, 3, backprop=backprop)
    x = jnp.ones((2, *CASES["glow_step"].shape))
    params = jax.eval_shape(flow.init, jax.random.key(0), x)

    def gradient(apply):
        def loss(params, x):
            y, log_det = apply(params, x)
            return jnp.sum(jnp.sin(y)) + jnp.sum(log_det)

        return jax.grad(loss, argnums=(0, 1))

    maps = flow.forward, flow.inverse
    for program in (*maps, *map(gradient, maps)):
        inside, outside = primitives(jax.make_jaxpr(program)(params, x).jaxpr)
        solvers = {"lu", "triangular_solve", "custom_linear_solve"}
        assert "dot_general" in inside and not inside & solvers
        assert outside & solvers


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 2, "unroll": 0}, {"n": 2, "unroll": 2.5}])
def test_repeat_refuses(options):
    with pytest.raises(ValueError, match=f"{list(options)[-1]} must be a whole number"):
        glowjax.repeat(glowjax.as_flow(glowjax.Reverse()), **options)


def test_chain_refuses_parameters_of_other_flows():
    flow = glowjax.chain(glowjax.as_flow(glowjax.Reverse()))
    with pytest.raises(ValueError, match="params must be a tuple of 1, one a flow, got 2"):
        flow.forward(({}, {}), jnp.ones((2, 3)))


def test_half_precision_input_is_promoted():
    flow = CASES["repeat"].flow
    x = data(CASES["repeat"])[0].astype(jnp.bfloat16)
    params = flow.init(jax.random.key(0), x)
    assert flow.forward(params, x)[0].dtype == jnp.float32


def only_features(flow: glowjax.Flow) -> glowjax.Flow:
    """`flow` with context `(features, labels)`, of which it sees the features."""

    def using(f):
        return lambda params, x, context, key=None: f(params, x, context[0], key)

    return glowjax.Flow(
        init=lambda key, x, context: flow.init(key, x, context[0]),
        forward=using(flow.forward),
        inverse=using(flow.inverse),
    )


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("backprop", ["recompute", "invert"])
def test_rebuilt_gradients_are_the_stored_ones(backprop, direction):
    step = glowjax.chain(coupling_step(net=SMALL_MLP), glowjax.as_flow(glowjax.InvertibleConv1x1()))
    case = Case(glowjax.repeat(step, 3), (4,), (), context=2)
    x, features = data(case)
    params = parameters(case)

    def gradients(backprop):
        flow = glowjax.repeat(only_features(step), 3, backprop=backprop)

        def loss(params, x, features):
            labels = jnp.arange(3)  # have no gradient, and must not fail
            y, log_det = getattr(flow, direction)(params, x, (features, labels))
            return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.square(log_det))

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, x, features)

    close(gradients(backprop), gradients("store"))


def test_glow_gradients_do_not_depend_on_backprop():
    case = CASES["glow_lu_invert"]
    x, labels = data(case)
    params = jax.jit(_tiny_glow("store").init)(jax.random.key(1), x, labels)

    def gradient(backprop):
        flow = _tiny_glow(backprop)

        def loss(params, x):
            z, log_det = flow.forward(params, x, labels)
            return jnp.sum(flat(z) ** 2) - jnp.sum(log_det)

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)

    expected = gradient("store")
    close(gradient("recompute"), expected)
    close(gradient("invert"), expected)


def _tiny_glow(backprop):
    return glowjax.glow(
        levels=2,
        steps=2,
        width=8,
        num_classes=4,
        output_init=jax.nn.initializers.normal(0.05),
        backprop=backprop,
    )


def test_every_public_flow_is_in_the_table():
    covered = {name for case in CASES.values() for name in case.covers}
    combinators = {"as_flow", "chain", "invert", "multiscale", "on_last", "repeat"}
    models = {name for name in glowjax.__all__ if name.startswith(("glow", "realnvp"))}
    models |= {"dequantization_flow"}
    modules = {
        name
        for name in glowjax.__all__
        if hasattr(getattr(glowjax, name), "forward") and name not in ("Flow", "Elementwise")
    }
    assert modules and combinators | models | modules <= covered


# Mutants: what the harness must catch. Each breaks one thing that initialisation would hide.


def _mutant(mutate):
    flow = CASES["affine"].flow

    def forward(params, x, context=None, key=None):
        z, log_det = flow.forward(params, x, context, key)
        return mutate.get("forward", lambda z, _: (z, log_det))(z, log_det)

    def inverse(params, z, context=None, key=None):
        x, log_det = flow.inverse(params, z, context, key)
        return mutate.get("inverse", lambda x, _: (x, log_det))(x, log_det)

    return CASES["affine"]._replace(flow=flow._replace(forward=forward, inverse=inverse))


MUTANTS = {
    "wrong sign": {
        "forward": lambda z, log_det: (z, -log_det),
        "inverse": lambda x, log_det: (x, -log_det),
    },
    "inverse log-det not negated": {"inverse": lambda x, log_det: (x, -log_det)},
    "constant missing": {
        "forward": lambda z, log_det: (z, log_det + 1e-6),
        "inverse": lambda x, log_det: (x, log_det - 1e-6),
    },
    "inverse inexact": {"inverse": lambda x, log_det: (x + 1e-6, log_det)},
}


@pytest.mark.parametrize("name", MUTANTS)
def test_harness_catches(name):
    with pytest.raises(AssertionError):
        check_flow(_mutant(MUTANTS[name]))


def test_harness_catches_a_missing_factor_of_positions():
    def per_position(apply):
        def applied(params, x, context=None, key=None):
            y, log_det = apply(params, x, context, key)
            return y, log_det / (x.shape[1] * x.shape[2])

        return applied

    case = CASES["conv1x1"]
    flow = case.flow._replace(
        forward=per_position(case.flow.forward), inverse=per_position(case.flow.inverse)
    )
    check_flow(case)
    with pytest.raises(AssertionError):
        check_flow(case._replace(flow=flow))


@pytest.mark.float32
@pytest.mark.parametrize("name", named(name for name, case in CASES.items() if case.covers))
def test_float32(name):
    """Round trips within 2e-5 a number, log-dets within 1e-5 a dimension.

    A step rounds to 6e-8 relative, and the condition number of perturbed 1×1 matrices (up to
    about 50 at these sizes) multiplies that.
    """
    case = CASES[name]
    x, context = data(case)

    @jax.jit
    def measure(x):
        params = parameters(case)
        z, log_det = case.flow.forward(params, x, context)
        return log_det, *case.flow.inverse(params, z, context)

    log_det, back, inverse_log_det = measure(x)
    assert log_det.dtype == jnp.float32 and back.dtype == jnp.float32
    np.testing.assert_allclose(back, x, atol=2e-5)
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-5 * np.prod(case.shape))
