"""Flows, densities and the rest go through pickle, and say what they are."""

import copy
import functools
import inspect
import pickle
import re
import subprocess
import sys

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, SLOW, SMALL_MLP, FreeNumbers, data, drawn

import glowjax
from glowjax import Base, Density, Dequantizer, Elementwise, Flow, Surjection, Target
from glowjax.densities import targets
from glowjax.expression import WIDTH
from glowjax.runs.models import KINDS

KINDS_OF_TUPLE = (Base, Density, Dequantizer, Elementwise, Flow, Surjection, Target)
NAMES_OF_EXPRESSIONS = {
    **{name: getattr(glowjax, name) for name in glowjax.__all__},
    **{name: value for name, value in vars(targets).items() if callable(value)},
    **{  # standardized prints as the fixed_affine that it makes
        name: getattr(glowjax.preprocess, name)
        for name in glowjax.preprocess.__all__
        if name != "standardized"
    },
    **{name: getattr(glowjax.surjections, name) for name in glowjax.surjections.__all__},
    "partial": functools.partial,
    "drawn": drawn,
    "FreeNumbers": FreeNumbers,
}
if "continuous" in CASES:
    from glowjax.bijections.ode.continuous import Continuous

    NAMES_OF_EXPRESSIONS["Continuous"] = Continuous

FLOW = glowjax.realnvp_mlp(steps=1, width=4)
ACTNORM = glowjax.as_flow(glowjax.ActNorm())
BASES = {  # made in the tests: distrax's have the precision of when they are
    "standard_normal": glowjax.standard_normal,
    "logistic": glowjax.logistic,
    "uniform": lambda: glowjax.uniform(-4.0, 4.0),
    "student_t": lambda: glowjax.student_t(3.0, learned=True),
    "diagonal_normal": glowjax.diagonal_normal,
    "class_conditional_normal": lambda: glowjax.class_conditional_normal(4),
    "gaussian_mixture": lambda: glowjax.gaussian_mixture(2),
    "resampled_normal": lambda: glowjax.resampled_normal(tries=2, draws=8, net=SMALL_MLP),
    "distrax_base": lambda: glowjax.distrax_base(distrax.Normal(0.5, 2.0)),
}
TRANSFORMS = [
    glowjax.affine(),
    glowjax.affine(bound=2.0),
    glowjax.mixture_cdf(2, to="normal"),
    glowjax.rational_quadratic(3, bound=2.0),
    glowjax.bernstein(4, bound=2.0),
    glowjax.sum_of_squares(2, bound=2.0),
    glowjax.deep_sigmoidal(2, layers=3),
    glowjax.unconstrained_monotonic(3, steepness=4.0),
]
TARGETS = [
    targets.energy(2, envelope=3.0),
    targets.two_modes(),
    targets.circular_gaussians(3),
    targets.ring_mixture(),
    targets.banana(),
    targets.funnel(),
    glowjax.lennard_jones(2, 1, temperature=0.5),
]


def again(thing):
    return pickle.loads(pickle.dumps(thing))


def show(thing):
    return re.sub(r"\s+|,(?=\s*[)\]])", "", repr(thing))


def check(thing):
    """What comes out of a pickle is another object of the same kind, and prints as the same."""
    back = again(thing)
    assert type(back) is type(thing) and repr(back) == repr(thing) and "0x" not in repr(thing)
    assert repr(again(back)) == repr(thing)
    return back


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def program(flow: Flow, *args):
    """The program of `flow`, with its constants: equal ones compute the same bits."""
    jaxpr = jax.make_jaxpr(flow.forward)(*args)
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr)), jaxpr.consts


def test_every_flow_goes_through_pickle_and_prints_as_what_makes_it():
    for case in CASES.values():
        check(case.flow)
        assert repr(eval(repr(case.flow), NAMES_OF_EXPRESSIONS)) == repr(case.flow)


LONG = {"continuous", "dequantization_flow", "glow", "realnvp", "realnvp_single_scale"}
TRACED = [pytest.param(n, marks=pytest.mark.exhaustive) if n in LONG | SLOW else n for n in CASES]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACED)
def test_an_unpickled_flow_computes_the_same_bits(name):
    flow = CASES[name].flow
    x, context = data(CASES[name])
    params = jax.eval_shape(flow.init, jax.random.key(0), x, context)
    code, constants = program(flow, params, x, context)
    back, back_constants = program(again(flow), params, x, context)
    assert back == code
    same(back_constants, constants)


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
def test_a_base_goes_through_pickle(name):
    base = BASES[name]()
    z = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)
    params = base.init and base.init(jax.random.key(0), z)
    log_probs = [jax.jit(b.log_prob)(params, z, jnp.arange(3)) for b in (base, check(base))]
    same(*log_probs)
    assert repr(base) in repr(check(glowjax.density(FLOW, (2,), base)))


@pytest.mark.slow
@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_an_elementwise_map_goes_through_pickle(transform):
    raw = jax.random.normal(jax.random.key(0), (5, transform.size))
    x = jnp.linspace(0.1, 0.9, 5)
    same(jax.jit(check(transform).forward)(x, raw), jax.jit(transform.forward)(x, raw))
    assert repr(eval(repr(transform), NAMES_OF_EXPRESSIONS)) == repr(transform)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=repr)
def test_a_target_goes_through_pickle(target):
    x = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)
    same(check(target).log_prob(x), target.log_prob(x))
    assert repr(eval(repr(target), NAMES_OF_EXPRESSIONS)) == repr(target)


def test_a_dequantized_density_goes_through_pickle():
    learned = glowjax.variational_dequantizer(FLOW, levels=17)
    check(glowjax.dequantized(glowjax.density(FLOW, (2,)), learned))
    noise = glowjax.uniform_dequantizer(levels=17)
    model = glowjax.dequantized(glowjax.density(ACTNORM, (2,)), noise)
    key, images = jax.random.key(0), jnp.arange(6).reshape(3, 2)

    @functools.partial(jax.jit, static_argnums=0)
    def measure(model, images):
        params = model.init(key, images)
        return params, model.log_prob(params, images, key=key)

    same(measure(check(model), images), measure(model, images))
    assert repr(check(noise)) == "uniform_dequantizer(levels=17)"


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_of_runs_go_through_pickle(kind):
    for part in KINDS[kind](conditional=True).parts(10).values():
        check(part)


@pytest.mark.slow
def test_another_process_computes_the_same_bits():
    model = glowjax.density(glowjax.maf(steps=1, width=4), (3,), glowjax.student_t(3.0))
    x = jnp.linspace(-1.0, 1.0, 9).reshape(3, 3)
    params = jax.jit(model.init)(jax.random.key(0), x)
    program = """
import pickle, sys, jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
model, params, x = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps((repr(model), jax.jit(model.log_prob)(params, x))))
"""
    command = [sys.executable, "-c", program]
    sent = pickle.dumps((model, params, x))
    printed, log_prob = pickle.loads(
        subprocess.run(command, input=sent, stdout=subprocess.PIPE, check=True).stdout
    )
    assert printed == repr(model)
    same(log_prob, jax.jit(model.log_prob)(params, x))


def test_what_fit_returns_goes_through_pickle():
    model = glowjax.density(ACTNORM, (2,))
    fitted = glowjax.fit(model, np.random.RandomState(0).randn(32, 2), steps=2, show=False)
    same(again(fitted), fitted)


def test_every_function_that_makes_one_records_it():
    makers = [
        value
        for value in NAMES_OF_EXPRESSIONS.values()
        if inspect.isfunction(value)
        and inspect.signature(value).return_annotation in KINDS_OF_TUPLE
    ]
    assert len(makers) > 30
    assert not [maker.__name__ for maker in makers if not hasattr(maker, "__wrapped__")]


# ---------------------------------------------------------------------------- what carries over


def test_a_changed_flow_is_not_what_the_call_made():
    def forward(params, x, context=None, key=None):
        return x, jnp.zeros(len(x))

    changed = FLOW._replace(forward=forward)
    assert "realnvp_mlp" not in repr(changed).split("(")[0] and "0x" not in repr(changed)
    for pickled in (changed, jax.tree.map(lambda f: f, FLOW), Flow(*FLOW), Flow._make(FLOW)):
        assert pickled in (changed, FLOW)
        with pytest.raises(AttributeError, match="local object"):
            pickle.dumps(pickled)


def test_a_flow_of_functions_of_a_module_goes_by_its_functions():
    flow = Flow(_init, _forward, _inverse)
    assert again(flow) == flow
    assert repr(flow) == "Flow(init=_init, forward=_forward, inverse=_inverse)"


def _init(key, x, context=None):
    return {}


def _forward(params, x, context=None, key=None):
    return x, jnp.zeros(len(x))


def _inverse(params, z, context=None, key=None):
    return z, jnp.zeros(len(z))


def test_what_cannot_be_pickled_is_named():
    flow = glowjax.glow_step(
        net=lambda features, name=None: glowjax.ConvNet(features, name=name),
        coupling="affine",
        scale="tanh",
        mixing="reverse",
    )
    with pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"):
        pickle.dumps(flow)
    assert "<lambda>" in repr(flow) and "0x" not in repr(flow)
    cloudpickle = pytest.importorskip("cloudpickle")  # which takes functions along
    assert repr(cloudpickle.loads(cloudpickle.dumps(flow))) == repr(flow)


@glowjax.recorded
def own(flow: Flow, *, times: int = 2, options: list | None = None) -> Flow:
    """A maker of flows outside of glowjax."""
    return glowjax.repeat(flow, times) if times else flow


def test_makers_of_ones_own_are_recorded():
    flow = own(FLOW)
    assert repr(check(flow)) == f"own({FLOW!r}, times=2)"
    assert own.__doc__ == "A maker of flows outside of glowjax."
    assert list(inspect.signature(own).parameters) == ["flow", "times", "options"]


def test_a_flow_handed_through_keeps_its_own_expression():
    before = repr(FLOW)
    assert repr(check(own(FLOW, times=0))) == f"own({FLOW!r}, times=0)"
    assert repr(FLOW) == before


def test_arguments_are_those_of_the_call():
    options = [1]
    flow = own(FLOW, options=options)
    options.append(2)
    assert "options=[1]" in repr(flow)


def test_defaults_are_pickled(monkeypatch):
    """A flow means the same to another version, whose defaults are others."""
    stored = pickle.dumps(own(FLOW))

    @glowjax.recorded
    def other(flow: Flow, *, times: int = 5, options: list | None = None) -> Flow:
        return glowjax.repeat(flow, times)

    monkeypatch.setattr(sys.modules[__name__], "own", other)
    x = jnp.ones((2, 2))
    shapes = jax.eval_shape(pickle.loads(stored).init, jax.random.key(0), x)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(shapes)} == {2}


def test_tuples_stay_tuples():
    """Of functions, equal to themselves, hashable, static to `jit`, and trees as before."""
    for thing in (FLOW, glowjax.density(FLOW, (2,)), BASES["logistic"](), TRANSFORMS[0]):
        assert thing == copy.copy(thing) == copy.deepcopy(thing) == tuple(thing)
        assert repr(copy.deepcopy({"model": thing})["model"]) == repr(thing)
        assert hash(thing) == hash(tuple(thing))
        assert jax.tree.leaves(thing) == [field for field in thing if field is not None]
        assert jax.tree.map(lambda leaf: leaf, thing) == thing
        assert type(jax.tree.map(lambda leaf: leaf, thing)) is type(thing)
    assert jax.jit(lambda t, x: t.forward(x, jnp.zeros(2))[0], static_argnums=0)(
        TRANSFORMS[0], 1.5
    ) == pytest.approx(1.5)


def test_equal_parts_are_pickled_once():
    step = glowjax.chain(FLOW, glowjax.as_flow(glowjax.ActNorm()))
    sizes = [len(pickle.dumps(glowjax.chain(*[step] * n))) for n in (1, 9)]
    assert sizes[1] - sizes[0] < 8 * 8


# ------------------------------------------------------------------------------------- printing


def test_printing():
    glow = glowjax.glow(levels=2)
    assert repr(glow) == "glow(levels=2, steps=32, width=512)"
    assert repr(glowjax.density(glow, event_shape=(8, 8, 3))) == (
        "density(glow(levels=2, steps=32, width=512), event_shape=(8, 8, 3))"
    )
    assert repr(glowjax.density(FLOW, (2,))).endswith(", (2,))")
    assert repr(glowjax.repeat(glowjax.invert(FLOW), 3, unroll=True)) == (
        f"repeat(invert({FLOW!r}), 3, unroll=True)"
    )
    coupling = glowjax.AffineCoupling(functools.partial(glowjax.ResNet, dtype=jnp.bfloat16))
    assert repr(glowjax.as_flow(coupling)) == (
        "as_flow(Coupling(transform=affine(scale='sigmoid'), net=partial(ResNet, dtype=bfloat16)))"
    )
    assert repr(glowjax.glow(output_init=jax.nn.initializers.normal(0.1))) == (
        "glow(levels=3, steps=32, width=512, output_init=normal.<locals>.init)"
    )
    array = glowjax.distrax_base(distrax.MultivariateNormalDiag(np.zeros(2), np.ones(2)))
    assert repr(array) == "distrax_base(<MultivariateNormalDiag>)"


def test_long_expressions_are_wrapped_and_indented():
    step = glowjax.chain(glowjax.as_flow(glowjax.Shuffle(seed=3)), FLOW)
    flow = glowjax.chain(step, glowjax.repeat(glowjax.chain(step, step), 4))
    assert repr(flow) == (
        "chain(\n"
        "    chain(as_flow(Shuffle(seed=3)), realnvp_mlp(steps=1, width=4, depth=2)),\n"
        "    repeat(\n"
        "        chain(\n"
        "            chain(as_flow(Shuffle(seed=3)), realnvp_mlp(steps=1, width=4, depth=2)),\n"
        "            chain(as_flow(Shuffle(seed=3)), realnvp_mlp(steps=1, width=4, depth=2)),\n"
        "        ),\n"
        "        4,\n"
        "    ),\n"
        ")"
    )
    assert max(map(len, repr(flow).splitlines())) <= WIDTH
    assert repr(glowjax.invert(flow)) == f"invert({flow!r})"
