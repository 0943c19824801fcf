"""Bad input, generated: a right answer, or an exception of ours that names the argument."""

import functools
import inspect
import re
import traceback
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, SLOW, data, parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import glowjax
from glowjax.testing import flat

pytestmark = pytest.mark.usefixtures("as_users_call")

FLOWS = sorted(CASES)
DTYPES = ("float64", "float32", "float16", "bfloat16", "int32", "uint8", "bool", "complex64")
KEY = 0
PARTS = 16  # of the tests of many examples, for as many processes
NAMED = re.compile(
    r"(\w+)( and \w+)?( '\w+')?( of shape .*)? (must|was|has|needs|is|do|does|holds)\b"
)


def generated(few: int, some: int, many: int, **strategies):
    """Three tests of one body: of few examples and of some, always the same; of many, in parts."""

    def decorate(body):
        options: dict[str, Any] = {
            "deadline": None,
            "database": None,
            "suppress_health_check": list(HealthCheck),
        }

        def repeated(examples):
            return settings(max_examples=examples, derandomize=True, **options)(
                given(**strategies)(body)
            )

        @pytest.mark.exhaustive
        @pytest.mark.parametrize("part", range(PARTS))
        @settings(max_examples=many // PARTS, **options)
        @given(**strategies)
        def in_parts(part, **drawn):
            body(**drawn)

        return repeated(few), pytest.mark.slow(repeated(some)), in_parts

    return decorate


def refused(call):
    """The result of `call()`, or None where it was refused as it should be."""
    try:
        return call()
    except ValueError as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        assert f"{glowjax.__name__}/" in last, f"raised in {last}: {error}"
        assert NAMED.match(str(error)), f"names no argument: {error}"
        return None


# ------------------------------------------------------------------------- shapes and dtypes


@functools.cache
def abstract(name: str):
    """Shapes of a case's x, context, parameters and latents."""
    case = CASES[name]
    x, context = jax.eval_shape(lambda: data(case))
    key = jax.random.key(KEY)
    params = jax.eval_shape(case.flow.init, key, x, context)
    z = jax.eval_shape(case.flow.forward, params, x, context, key)[0]
    return x, context, params, z


@st.composite
def altered(draw, like):
    """An array, as its shape and dtype, that is not, or not quite, `like`."""
    size = st.integers(0, 9)
    shape = list(like.shape)
    place = draw(st.integers(0, len(shape) - 1))
    way = draw(st.sampled_from(("other", "size", "more", "fewer", "batch 0", "batch 1", "same")))
    if way == "other":
        shape = draw(st.lists(size, max_size=6))
    elif way == "size":
        shape[place] = draw(size)
    elif way == "more":
        shape.insert(place, draw(size))
    elif way == "fewer":
        del shape[place]
    elif way.startswith("batch"):
        shape[0] = int(way[-1])
    dtype = draw(
        st.sampled_from((like.dtype, *DTYPES)) if draw(st.booleans()) else st.just("float64")
    )
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


@st.composite
def calls(draw):
    """A flow's name, one of its functions, and arguments of any shape and dtype."""
    name = draw(st.sampled_from(FLOWS))
    x, context, _, z = abstract(name)
    functions = ["init", "forward", "inverse"]
    if CASES[name].flow.init_inverse:
        functions.append("init_inverse")
    function = draw(st.sampled_from(functions))
    wanted = z if "inverse" in function else x
    array = jax.tree.map(lambda leaf: draw(altered(leaf)), wanted)
    if not isinstance(array, tuple) and draw(st.integers(0, 19)) == 0:
        array = (array, array)
    if context is not None:
        batch = jax.tree.leaves(array)[0].shape[:1] or (3,)
        fitting = jax.ShapeDtypeStruct((*batch, *context.shape[1:]), context.dtype)
        context = draw(st.one_of(st.just(fitting), altered(context), st.none()))
    return name, function, array, context


@generated(few=40, some=150, many=16_000, call=calls())
def shapes(call):
    name, function, array, context = call
    flow, params, key = CASES[name].flow, abstract(name)[2], jax.random.key(KEY)
    if function.startswith("init"):
        refused(lambda: jax.eval_shape(getattr(flow, function), key, array, context))
        return
    result = refused(lambda: jax.eval_shape(getattr(flow, function), params, array, context, key))
    if result is None:
        return
    out, log_det = result
    sizes = [sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for tree in (array, out)]
    assert sizes[0] == sizes[1] > 0
    assert log_det.shape == jax.tree.leaves(array)[0].shape[:1]
    assert all(leaf.dtype in (jnp.float32, jnp.float64) for leaf in jax.tree.leaves(out))


test_shapes_and_dtypes, test_shapes_and_dtypes_some, test_shapes_and_dtypes_many = shapes


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FLOWS if CASES[name].context is not None])
def test_contexts_without_features_are_refused(name):
    x, context, params, _ = abstract(name)
    flow, key = CASES[name].flow, jax.random.key(KEY)
    empty = jax.ShapeDtypeStruct((*context.shape[:-1], 0), context.dtype)
    for flat_or_not in (empty, jax.ShapeDtypeStruct((3, 0), context.dtype)):
        with pytest.raises(ValueError, match="context must be"):
            jax.eval_shape(flow.init, key, x, flat_or_not)
        with pytest.raises(ValueError, match="context must be"):
            jax.eval_shape(flow.forward, params, x, flat_or_not, key)


# ------------------------------------------------------------------------------------ values

SOME = [name for name in FLOWS if name not in SLOW and np.prod(CASES[name].shape) <= 8]
VALUES = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30, 1e-30, 1e300, 30.0, -30.0]),
    st.floats(-4, 4),
)


@functools.cache
def compiled(name: str):
    """x and (z, log_det, what comes back, its own z) of a batch of 3, compiled once a case."""
    case = CASES[name]
    x, context = data(case)
    params = jax.jit(lambda: parameters(case))()

    @jax.jit
    def there_and_back(x):
        z, log_det = case.flow.forward(params, x, context)
        back, _ = case.flow.inverse(params, z, context)
        again, _ = case.flow.forward(params, back, context)
        return flat(z), log_det, flat(back), flat(again)

    return x, there_and_back


@st.composite
def rows(draw):
    """A flow's name and one event, of any values."""
    name = draw(st.sampled_from(SOME))
    size = int(np.prod(CASES[name].shape))
    return name, draw(st.lists(VALUES, min_size=size, max_size=size))


@generated(few=5, some=30, many=6_400, row=rows())
def values(row):
    """The row is inverted or is seen to fail; the others of its batch do not notice it."""
    name, event = row
    x, there_and_back = compiled(name)
    event = np.reshape(event, x.shape[1:])
    got = there_and_back(x.at[0].set(event))
    for ours, usual in zip(got, there_and_back(x), strict=True):
        np.testing.assert_allclose(ours[1:], usual[1:], rtol=1e-12, atol=1e-12)
    z, log_det, back, again = (ours[:1].ravel() for ours in got)
    finite = all(np.isfinite(ours).all() for ours in (z, log_det, back))
    assert np.isfinite(event).all() or not finite
    if finite:  # z, not x, is compared: where the map is flat several x have one z in floats
        scale = 1 + max(np.max(np.abs(event)), np.max(np.abs(z)))
        np.testing.assert_allclose(again, z, atol=1e-9 * scale, rtol=0)


test_values, test_values_some, test_values_many = values


# ------------------------------------------------------------------------- numbers and choices

MAKERS = [
    glowjax.glow, glowjax.glow_backbone, glowjax.glow_top, glowjax.realnvp,
    glowjax.realnvp_single_scale, glowjax.realnvp_mlp, glowjax.maf, glowjax.iaf,
    glowjax.dequantization_flow, glowjax.mixture_cdf, glowjax.rational_quadratic, glowjax.affine,
    glowjax.uniform, glowjax.student_t, glowjax.gaussian_mixture, glowjax.resampled_normal,
    glowjax.class_conditional_normal, glowjax.uniform_dequantizer, glowjax.Squeeze, glowjax.Shuffle,
    glowjax.preprocess.sigmoid, glowjax.preprocess.power, glowjax.preprocess.fixed_affine,
    glowjax.Logit, glowjax.InvertibleConv1x1, glowjax.Residual, glowjax.Sylvester,
    glowjax.bernstein, glowjax.sum_of_squares, glowjax.deep_sigmoidal,
    glowjax.unconstrained_monotonic, glowjax.MarginalGaussianization, glowjax.gaussianization_flow,
]  # fmt: skip
WRONG = st.sampled_from(
    [0, -1, 1.5, float("nan"), float("inf"), "many", None, True, 10**4, (), -1.0]
)
REQUIRED = {
    "low": 0.0, "high": 1.0, "df": 3.0, "components": 2, "num_classes": 3, "exponent": 2.0,
}  # fmt: skip


@st.composite
def arguments(draw):
    """A function that makes a flow or a base, with one argument of another kind or size."""
    maker = draw(st.sampled_from(MAKERS))
    names = [
        name for name in inspect.signature(maker).parameters
        if name not in ("dtype", "net", "output_init", "parent", "name", "transform")
    ]  # fmt: skip
    given = {name: REQUIRED[name] for name in names if name in REQUIRED}
    if names:
        given[draw(st.sampled_from(names))] = draw(WRONG)
    return maker, given


@generated(few=60, some=150, many=1_600, call=arguments())
def options(call):
    maker, given = call
    made = refused(lambda: maker(**given))
    if isinstance(made, nn.Module):  # these see their input before they judge
        shape = (2, 4) if maker in (glowjax.Residual, glowjax.Sylvester) else (2, 4, 4, 4)
        x = jax.ShapeDtypeStruct(shape, "float64")
        refused(lambda: jax.eval_shape(glowjax.as_flow(made).init, jax.random.key(KEY), x))


test_options, test_options_some, test_options_many = options
