"""What a flow is given and gives, whoever made it: contexts, log-dets, keys; and no state."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, SMALL_MLP
from test_bad_input import FLOWS, KEY, abstract

import glowjax
from glowjax import as_flow
from glowjax.flow import initialised

X = np.linspace(-1, 1, 8).reshape(4, 2)
CONTEXT = np.linspace(0, 1, 12).reshape(4, 3)
LABELS = np.array([0, 1, 2, 0])
ACTNORM = as_flow(glowjax.ActNorm())
COUPLING = as_flow(glowjax.AffineCoupling(SMALL_MLP))


def key():
    return jax.random.key(KEY)


# ------------------------------------------------------------------------------ parameters


PUBLIC = [name for name in FLOWS if CASES[name].covers]


@pytest.mark.quick
@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_may_be_arrays_of_numpy_that_a_compiled_function_closes_over(name):
    """As those are that people read from a file; jax 0.12 refuses some of them under `vmap`."""
    flow = CASES[name].flow
    x, context, params, z = abstract(name)
    params = jax.tree.map(lambda p: np.ones(p.shape, p.dtype), params)
    made, _ = jax.eval_shape(lambda x, c: flow.forward(params, x, c, key()), x, context)
    back, _ = jax.eval_shape(lambda z, c: flow.inverse(params, z, c, key()), z, context)
    assert (made, back) == (z, x)


# -------------------------------------------------------------------------------- contexts

NOT_TAKEN = [name for name in FLOWS if not CASES[name].flow.takes_context]


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_takes_a_context_or_refuses_it(name):
    """Every case with a context takes one; a flow that takes none refuses all, and says so."""
    flow = CASES[name].flow
    x, context, params, z = abstract(name)
    if context is not None:
        assert flow.takes_context
    if flow.takes_context:
        return
    for context in (jnp.ones((3, 2)), jnp.zeros(3, int), {"a": jnp.ones((3, 1))}):
        calls = (
            lambda c: jax.eval_shape(flow.init, key(), x, c),
            lambda c: jax.eval_shape(flow.forward, params, x, c, key()),
            lambda c: jax.eval_shape(flow.inverse, params, z, c, key()),
        )
        for call in calls:
            with pytest.raises(ValueError, match="context must be None, as no part of this flow"):
                call(context)
        dropping = glowjax.with_context(flow, None)
        got = jax.eval_shape(dropping.forward, params, x, context, key())
        assert got == jax.eval_shape(flow.forward, params, x, None, key())


def test_flows_without_a_context_are_many():
    assert {"planar", "radial", "sylvester", "elementwise", "actnorm", "affine", "glow"} <= set(
        NOT_TAKEN
    )


class Plain(nn.Module):
    """A net that takes no context."""

    features: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)


class OfDict(nn.Module):
    """A net whose context is a dict."""

    features: int

    @nn.compact
    def __call__(self, x, context: Any = None):
        return nn.Dense(self.features)(x) + nn.Dense(self.features)(context["a"])


@pytest.mark.slow
def test_nets_of_ones_own_say_by_their_signature_whether_they_take_a_context():
    plain, of_dict = (as_flow(glowjax.AffineCoupling(net)) for net in (Plain, OfDict))
    assert not plain.takes_context and of_dict.takes_context
    plain.forward(plain.init(key(), X), X)
    context = {"a": jnp.linspace(0, 1, 4)[:, None]}
    flow = glowjax.chain(ACTNORM, of_dict)
    params = flow.init(key(), X, context)
    z, _ = flow.forward(params, X, context)
    other, _ = flow.forward(params, X, {"a": -context["a"]})
    assert np.array_equal(np.all(z == other, axis=1), [True, False, False, False])


@pytest.mark.parametrize("wrong", [{"a": jnp.ones((4, 1))}, [[1.0]] * 4, jnp.ones((3, 1)), "abc"])
def test_contexts_that_a_net_does_not_take_are_refused(wrong):
    for flow in (COUPLING, as_flow(glowjax.Planar(SMALL_MLP)), as_flow(glowjax.Residual(width=4))):
        with pytest.raises(ValueError, match=r"context must be .*\(4, F\), got"):
            flow.init(key(), X, wrong)


def test_a_context_goes_to_those_that_take_one():
    context = CONTEXT
    alone = COUPLING.init(key(), X, context)
    alone = jax.tree.map(lambda p: p + 0.1, alone)
    parts = [ACTNORM, COUPLING, as_flow(glowjax.Reverse())]
    chained = glowjax.chain(*parts)
    params = (ACTNORM.init(key(), X), alone, {})
    z, log_det = chained.forward(params, X, context)
    by_hand, first = ACTNORM.forward(params[0], X)
    by_hand, second = COUPLING.forward(alone, by_hand, context)
    np.testing.assert_array_equal(z, by_hand[:, ::-1])
    np.testing.assert_allclose(log_det, first + second)
    with_none = glowjax.with_context(chained, None)
    with pytest.raises(ValueError, match="x and context must be as at init"):
        with_none.forward(params, X, context)


def test_an_embedded_context_is_the_flows():
    step = glowjax.chain(ACTNORM, COUPLING)

    def embed(context):
        return jnp.sin(context) @ jnp.ones((3, 2))

    context = CONTEXT
    outer = glowjax.with_context(glowjax.repeat(step, 2), embed)
    inner = glowjax.repeat(glowjax.with_context(step, embed), 2, backprop="invert")
    params = jax.tree.map(lambda p: p + 0.1, jax.jit(outer.init)(key(), X, context))

    def slope(flow, *args):
        gradient = jax.grad(lambda *args: jnp.sum(flow.forward(*args)[0] ** 3), (0, 1, 2))
        return jax.jit(gradient)(*args)

    expected = slope(outer, params, X, context)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        slope(inner, params, X, context),
        expected,
    )
    assert np.all(expected[2] != 0)
    with pytest.raises(
        ValueError, match="context must be given, with one row for each of 4 examples, got None"
    ):
        outer.forward(params, X)
    with pytest.raises(ValueError, match="embed must be None for a flow that takes no context"):
        glowjax.with_context(ACTNORM, embed)


def test_labels_reach_the_base_alone_where_the_flow_takes_none():
    model = glowjax.density(as_flow(glowjax.Planar()), (2,), glowjax.class_conditional_normal(3))
    flow_params, base_params = model.init(key(), X, LABELS)
    base_params = jax.tree.map(lambda p: p + jnp.arange(3.0)[:, None], base_params)
    params = flow_params, base_params
    log_p = [model.log_prob(params, X, labels) for labels in (LABELS, LABELS[::-1])]
    np.testing.assert_array_equal(log_p[0] == log_p[1], LABELS[::-1] == LABELS)
    unlabelled = glowjax.density(ACTNORM, (2,), glowjax.diagonal_normal())
    with pytest.raises(ValueError, match="context must be None"):
        unlabelled.log_prob(unlabelled.init(key(), X), X, LABELS)
    with pytest.raises(ValueError, match="context must be None"):
        unlabelled.sample(unlabelled.init(key(), X), key(), 4, context=LABELS)


def test_a_conditional_flow_without_its_context_is_told():
    for flow in (COUPLING, glowjax.maf(steps=1, width=4), glowjax.realnvp_mlp(steps=1, width=4)):
        params = jax.eval_shape(flow.init, key(), X, CONTEXT)
        for wrong, said in ((None, "None"), (CONTEXT[:, :1], r"float64 of shape \(4, 1\)")):
            with pytest.raises(ValueError, match=f"context must be as at init.* context {said}"):
                jax.eval_shape(flow.forward, params, X, wrong)
        with pytest.raises(ValueError, match="context must be as at init"):
            jax.eval_shape(flow.forward, jax.eval_shape(flow.init, key(), X), X, CONTEXT)


def test_contexts_are_dropped_row_by_row_at_their_rate():
    context = {"a": jnp.ones((4000, 3)), "b": jnp.ones((4000, 2, 2))}
    dropped = jax.jit(functools.partial(glowjax.drop_context, rate=0.3))(jax.random.key(0), context)
    rows = np.asarray(dropped["a"][:, 0])
    assert set(rows) == {0.0, 1.0} and abs(rows.mean() - 0.7) < 0.03
    for name, axes in (("a", (1,)), ("b", (1, 2))):
        expected = np.broadcast_to(np.expand_dims(rows, axes), context[name].shape)
        np.testing.assert_array_equal(dropped[name], expected)
    kept = glowjax.drop_context(jax.random.key(1), context, 0.0)
    jax.tree.map(np.testing.assert_array_equal, kept, context)


@pytest.mark.parametrize(
    ("context", "rate", "message"),
    [
        (
            jnp.ones(3, int),
            0.1,
            r"context must be floats with one row .* got int\d+ of shape \(3,\)",
        ),
        ((jnp.ones((3, 1)), jnp.ones((2, 1))), 0.1, "context must be floats with one row"),
        (None, 0.1, "context must be floats with one row an example, got None"),
        (jnp.ones((3, 1)), 1.0, r"rate must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_dropping_of_contexts_is_named(context, rate, message):
    with pytest.raises(ValueError, match=message):
        glowjax.drop_context(jax.random.key(0), context, rate)


def test_labels_out_of_range_raise_where_they_are_known_and_are_nan_under_jit():
    image = jnp.ones((4, 2, 2, 1))
    top = as_flow(glowjax.TopPrior(num_classes=3))
    based = glowjax.class_conditional_normal(3)
    for model, x in (
        (glowjax.density(top, (2, 2, 1)), image),
        (glowjax.density(ACTNORM, (2,), based), X),
    ):
        params = model.init(key(), x, LABELS)
        for wrong, value, at in ((jnp.array([0, 3, 1, 2]), 3, 1), (np.array([0, 1, 2, -1]), -1, 3)):
            said = f"context must be integer labels of shape .* got {value} at {at}"
            with pytest.raises(ValueError, match=said):
                model.sample(params, key(), 4, context=wrong)
            with pytest.raises(ValueError, match=said):
                model.log_prob(params, x, wrong)
            log_p = jax.jit(model.log_prob)(params, x, wrong)
            np.testing.assert_array_equal(np.isnan(log_p), np.arange(4) == at)


# --------------------------------------------------------------------- flows of one's own

RETURNS = {
    "alone": lambda z, log_det: z,
    "nothing": lambda z, log_det: None,
    "none": lambda z, log_det: (z, None),
    "scalar": lambda z, log_det: (z, jnp.sum(log_det)),
    "each number": lambda z, log_det: (z, log_det),
    "column": lambda z, log_det: (z, jnp.sum(log_det, -1, keepdims=True)),
    "whole numbers": lambda z, log_det: (z, jnp.zeros(len(z), int)),
    "half precision": lambda z, log_det: (z, jnp.sum(log_det, -1).astype(jnp.bfloat16)),
    "one row": lambda z, log_det: (z[:1], jnp.sum(log_det, -1)),
    "three": lambda z, log_det: (z, jnp.sum(log_det, -1), None),
}


class Own(nn.Module):
    returns: str

    @nn.compact
    def forward(self, x):
        log_scale = self.param("log_scale", nn.initializers.zeros, x.shape[1:])
        z, log_det = x * jnp.exp(log_scale), jnp.broadcast_to(log_scale, x.shape)
        return RETURNS[self.returns](z, log_det)

    def inverse(self, z):
        return self.forward(z)


def by_hand(returns):
    def apply(params, x, context=None, key=None):
        return RETURNS[returns](x, jnp.zeros_like(x))

    return glowjax.Flow(lambda key, x, context=None: {}, apply, apply)


@pytest.mark.parametrize("returns", RETURNS)
def test_a_log_det_of_another_shape_is_refused_with_the_flows_name(returns):
    def refused(who, call):
        with pytest.raises(ValueError, match=rf"{who} must return \(array, log_det\) .*got"):
            call()

    refused("Own.forward", lambda: as_flow(Own(returns)).init(key(), X))
    params = {"log_scale": jnp.zeros(2)}
    refused("Own.inverse", lambda: as_flow(Own(returns)).inverse(params, X))
    flow = by_hand(returns)
    refused(r"flows\[1\].forward", lambda: glowjax.chain(ACTNORM, flow).init(key(), X))
    refused("flow.inverse", lambda: jax.jit(glowjax.repeat(flow, 2).inverse)({}, X))
    refused("flow.forward", lambda: glowjax.density(flow, (2,)).log_prob({}, X))
    refused("flow.inverse", lambda: glowjax.invert(flow).forward({}, X))


def test_linen_modules_and_lists_where_flows_are_due():
    module: Any = glowjax.ActNorm()
    made = {
        "flows[1]": lambda: glowjax.chain(ACTNORM, module),
        "flow": lambda: glowjax.repeat(module, 2),
        "levels[0]": lambda: glowjax.multiscale([module], []),
        "splits[0]": lambda: glowjax.multiscale([ACTNORM] * 2, [module]),
    }
    for make in (glowjax.invert, glowjax.on_last, glowjax.variational_dequantizer):
        with pytest.raises(ValueError, match=r"flow must be a Flow, as as_flow\(ActNorm\(...\)\)"):
            make(module)
    with pytest.raises(ValueError, match="flow must be a Flow, as as_flow"):
        glowjax.density(module, (2,))
    for name, make in made.items():
        with pytest.raises(ValueError) as refusal:
            make()
        assert str(refusal.value).startswith(f"{name} must be a Flow, as as_flow(ActNorm(...))")
    wrong: Any = [ACTNORM, ACTNORM]
    with pytest.raises(ValueError, match=r"flows must come one by one, chain\(\*flows\)"):
        glowjax.chain(wrong)
    with pytest.raises(ValueError, match="module must be a Linen module, got a Flow"):
        as_flow(ACTNORM)  # ty: ignore[invalid-argument-type]


class Noisy(nn.Module):
    """A net that keeps state or draws random numbers."""

    features: int
    kind: str

    @nn.compact
    def __call__(self, x, context=None):
        h = nn.Dense(4)(x)
        if self.kind == "batchnorm":
            h = nn.BatchNorm(use_running_average=False)(h)
        elif self.kind == "dropout":
            h = nn.Dropout(0.1, deterministic=False)(h)
        elif self.kind == "noise":
            h = h + jax.random.normal(self.make_rng("noise"), h.shape)
        elif self.kind == "counter":
            self.variable("counter", "calls", jnp.zeros, ())
        elif self.kind == "spectral":
            h = nn.SpectralNorm(nn.Dense(4))(x, update_stats=False)
        return nn.Dense(self.features)(h)


@pytest.mark.parametrize("kind", ["batchnorm", "dropout", "noise", "counter", "spectral"])
def test_nets_that_keep_state_or_draw_numbers_are_refused_at_init(kind):
    said = "module must be a pure function of params and inputs, got"

    def net(features, name=None):
        return Noisy(features, kind, name=name)

    coupling = as_flow(glowjax.AffineCoupling(net))
    for flow in (coupling, glowjax.repeat(coupling, 2), glowjax.invert(coupling)):
        with pytest.raises(ValueError, match=said):
            jax.eval_shape(flow.init, key(), X)
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(as_flow(glowjax.Planar(net)).init, key(), X, CONTEXT)


# ---------------------------------------------------------------------- arrays and keys


@pytest.mark.parametrize("flow", [COUPLING, glowjax.repeat(COUPLING, 2)])
def test_what_is_no_array_or_no_key_is_named(flow):
    params, model = jax.jit(flow.init)(key(), X), glowjax.density(flow, (2,))
    for wrong in ([[0.1, 0.2]] * 4, {"x": X}, None, "abc", np.array([["a", "b"]] * 4)):
        for call in (
            lambda x: flow.init(key(), x),
            lambda x: flow.forward(params, x),
            lambda x: model.log_prob(params, x),
        ):
            with pytest.raises(ValueError, match=r"x must be (one|an) array, as jnp.asarray makes"):
                call(wrong)
    with pytest.raises(ValueError, match="x must be floating point, got int"):
        flow.forward(params, np.ones((4, 2), int))
    wrong_key: Any
    for wrong_key in (0, None, X, jnp.zeros(2), jax.random.split(key(), 3)):
        for call in (
            lambda k: flow.init(k, X),
            lambda k: model.init(k, X),
            lambda k: model.init_from_base(k, 4),
            lambda k: model.sample(params, k, 4),
            lambda k: model.sample_and_log_prob(params, k, 4),
        ):
            with pytest.raises(ValueError, match=r"key must be a JAX key, such as jax.random.key"):
                call(wrong_key)
    old = jax.random.PRNGKey(0)
    assert jax.eval_shape(lambda: model.sample(params, old, 4)).shape == (4, 2)


# --------------------------------------------------------------------------- initialisation

PLAIN = glowjax.Flow(  # of one's own: its init gives parameters alone
    init=lambda key, x, context=None: {"shift": jnp.mean(x, axis=0)},
    forward=lambda params, x, context=None, key=None: (x - params["shift"], jnp.zeros(len(x))),
    inverse=lambda params, z, context=None, key=None: (z + params["shift"], jnp.zeros(len(z))),
)
SQUEEZE, SPLIT = as_flow(glowjax.Squeeze()), as_flow(glowjax.Split())
INITIALISED = {
    "module": (COUPLING, X),
    "chain": (glowjax.chain(PLAIN, ACTNORM, COUPLING), X),
    "named": (glowjax.chain(norm=ACTNORM, coupling=COUPLING), X),
    "repeat": (glowjax.repeat(glowjax.chain(ACTNORM, COUPLING), 3), X),
    "inverted": (glowjax.invert(glowjax.chain(ACTNORM, COUPLING)), X),
    "context": (glowjax.with_context(COUPLING, jnp.cos), X),
    "multiscale": (glowjax.multiscale([SQUEEZE, SQUEEZE], [SPLIT]), np.ones((2, 4, 4, 3))),
    "glow": (glowjax.glow(levels=1, steps=1, width=4), np.ones((2, 4, 4, 3))),
}


@pytest.mark.parametrize("name", INITIALISED)
def test_initialisation_gives_what_the_new_flow_makes_of_its_array(name):
    flow, x = INITIALISED[name]
    context = CONTEXT if name == "context" else None

    @jax.jit
    def both_ways(x):
        params, z = initialised(flow, key(), x, context)
        return params, z, flow.init(key(), x, context), flow.forward(params, x, context, key())[0]

    params, z, alone, expected = both_ways(jnp.asarray(x))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    jax.tree.map(close, (params, z), (alone, expected))


@pytest.mark.parametrize("flow", [glowjax.chain(COUPLING, COUPLING), glowjax.repeat(COUPLING, 2)])
def test_initialisation_computes_each_map_once(flow):
    """As many products are in the program of `init` as are in that of `forward`."""

    def products(function, *args):
        return str(jax.make_jaxpr(function)(*args)).count("dot_general")

    count = products(flow.forward, flow.init(key(), X), X)
    assert products(flow.init, key(), X) == count > 0
