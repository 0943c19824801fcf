"""The property harness: what must hold for every flow, with perturbed parameters, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    LONG,
    NAMES,
    SLOW,
    SMALL_MLP,
    SMALL_NET,
    Case,
    check,
    coupling_step,
    data,
    parameters,
)
from jax.extend.core import jaxprs_in_params

import glowjax
from glowjax import as_flow
from glowjax.flow import Prepared, checked
from glowjax.testing import flat

RTOL = 1e-9


def close(a, b, rtol=RTOL):
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=rtol, atol=rtol), a, b)


@pytest.mark.parametrize("name", NAMES)
def test_flow(name):
    check(CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_log_det_is_the_same_without_jit(name):
    """`test_flow` leaves this out, for it takes up to a third of its time."""
    flow = CASES[name].flow
    x, context = data(CASES[name])
    params = jax.jit(lambda: parameters(CASES[name]))()
    close(flow.log_det(params, x, context), jax.jit(flow.log_det)(params, x, context))


@pytest.mark.quick
@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].covers and n not in LONG | SLOW])
def test_round_trip(name):
    """The least of what `test_flow` proves, for `make check`."""
    case = CASES[name]
    x, context = data(case)

    @jax.jit
    def measure(x):
        params = parameters(case)
        z, log_det = case.flow.forward(params, x, context)
        back, inverse_log_det = case.flow.inverse(params, z, context)
        return log_det, -inverse_log_det, flat(x), flat(back)

    log_det, inverse_log_det, x, back = measure(x)
    close(back, x)
    close(inverse_log_det, log_det)


@pytest.mark.slow
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


@pytest.mark.slow
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
PREPARED += ["conv1x1_qr", "conv1x1_svd", "conv1x1_triangular", "conv1x1_rotation"]
PREPARED += ["householder", "woodbury", "affine_checkerboard", "actnorm", "chain", "invert"]
PREPARED += ["emerging_conv", "emerging_conv_5", "glow_step"]


@pytest.mark.slow
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


def test_prepared_parameters_are_refused_where_others_are_due():
    flow = glowjax.as_flow(glowjax.InvertibleConv1x1())
    params = flow.init(jax.random.key(0), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="params of InvertibleConv1x1 must be as init returns"):
        flow.prepare(flow.prepare(params))


WRAPPERS = {
    "checked": lambda flow: checked("flow", flow),
    "context": lambda flow: glowjax.with_context(flow, None),
    "inverted": lambda flow: glowjax.invert(glowjax.invert(flow)),
    "chain": lambda flow: glowjax.chain(only=flow),
    "last": glowjax.on_last,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_keep_what_a_flow_may_have(name):
    flow = glowjax.as_flow(glowjax.InvertibleConv1x1())
    x = jax.random.normal(jax.random.key(0), (2, 3))
    x = (x,) if name == "last" else x
    wrapped = WRAPPERS[name](flow)
    params = wrapped.init(jax.random.key(0), x)
    prepared = jax.tree.leaves(wrapped.prepare(params), is_leaf=lambda p: isinstance(p, Prepared))
    assert [type(p) for p in prepared] == [Prepared]
    assert wrapped.init_inverse is not None
    assert wrapped.takes_context == (name == "context")


def primitives(jaxpr):
    """The names of all primitives of a program, and those inside each of its loops."""
    found, loops = set(), []
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        found.add(name)
        for inner in jaxprs_in_params(equation.params):
            deeper, inner_loops = primitives(inner)
            found |= deeper
            loops += [*inner_loops, deeper] if name in ("scan", "while") else inner_loops
    return found, loops


@pytest.mark.slow
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
        found, loops = primitives(jax.make_jaxpr(program)(params, x).jaxpr)
        solvers = {"lu", "triangular_solve", "custom_linear_solve"}
        steps = [loop for loop in loops if "dot_general" in loop]  # CPUs solve in other loops
        assert steps and not any(loop & solvers for loop in steps)
        assert found & solvers


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 2, "unroll": 0}, {"n": 2, "unroll": 2.5}])
def test_repeat_refuses(options):
    with pytest.raises(ValueError, match=f"{list(options)[-1]} must be a whole number"):
        glowjax.repeat(glowjax.as_flow(glowjax.Reverse()), **options)


def test_chain_refuses_parameters_of_other_flows():
    flow = glowjax.chain(glowjax.as_flow(glowjax.Reverse()))
    with pytest.raises(ValueError, match="params must be a tuple of 1, one a flow, got 2"):
        flow.forward(({}, {}), jnp.ones((2, 3)))


def test_a_chain_of_names_is_the_chain_with_a_dict_of_params():
    norm, coupling = as_flow(glowjax.ActNorm()), as_flow(glowjax.AffineCoupling(SMALL_MLP))
    named, plain = glowjax.chain(z=norm, a=coupling), glowjax.chain(norm, coupling)
    x = jax.random.normal(jax.random.key(0), (5, 3))
    params = named.init(jax.random.key(1), x)
    assert list(params) == ["z", "a"]  # as given, whatever the alphabet says
    jax.tree.map(
        np.testing.assert_array_equal,
        (params["z"], params["a"]),
        plain.init(jax.random.key(1), x),
    )
    close(named.forward(params, x), plain.forward((params["z"], params["a"]), x))
    backwards = glowjax.invert(named).init(jax.random.key(1), x)
    jax.tree.map(
        np.testing.assert_array_equal,
        (backwards["z"], backwards["a"]),
        glowjax.invert(plain).init(jax.random.key(1), x),
    )


@pytest.mark.parametrize(
    ("params", "given"), [(({}, {}), "got tuple"), ({"a": {}}, r"got \['a'\]")]
)
def test_a_chain_of_names_refuses_other_parameters(params, given):
    reverse = as_flow(glowjax.Reverse())
    flow = glowjax.chain(a=reverse, b=reverse)
    with pytest.raises(ValueError, match=f"params must be a dict of a, b, one a flow, {given}"):
        flow.forward(params, jnp.ones((2, 3)))


def test_flows_of_a_chain_have_names_or_none():
    reverse = as_flow(glowjax.Reverse())
    with pytest.raises(ValueError, match=r"names or none.*got 1 without and 1 with a name"):
        glowjax.chain(reverse, b=reverse)
    with pytest.raises(ValueError, match="one at least, got none"):
        glowjax.chain()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    supports = {f"preprocess.{name}" for name in glowjax.preprocess.__all__}
    assert modules and combinators | models | modules | supports <= covered
