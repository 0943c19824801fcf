"""Tables: one bijection a column, densities of raw columns, fit on what tables libraries give."""

import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_MLP

import glowjax
from glowjax import preprocess
from glowjax.preprocess import columns, exp, ordered, sigmoid, stick_breaking

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"


def key():
    return jax.random.key(0)


def table(n=400):
    """Positive, in (0, 1), and any number."""
    rng = np.random.default_rng(0)
    parts = rng.lognormal(5.0, 0.6, n), rng.beta(2.0, 5.0, n), rng.normal(-3.0, 8.0, n)
    return np.stack(parts, axis=1)


class Frame:
    """What pandas, polars and arrow have in common."""

    def __init__(self, array, names=("income", "share", "change")):
        self._array, self.columns = array, list(names)

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype)


# --------------------------------------------------------------------------------- columns


def test_columns_are_their_flows_side_by_side():
    flow = columns({"a": exp(), "soil": (stick_breaking(), 3), "b": None, "span": (ordered(), 2)})
    x = jnp.asarray([[2.0, 0.2, 0.3, 0.5, -7.0, 1.0, 4.0], [1.0, 0.1, 0.1, 0.8, 0.0, -1.0, 0.0]])
    params = flow.init(key(), x)
    assert params == {"a": {}, "soil": {}, "b": {}, "span": {}}
    z, log_det = flow.forward(params, x)
    pieces = x[:, :1], x[:, 1:4], x[:, 5:]
    flows = exp(), stick_breaking(), ordered()
    (a, d), (soil, e), (span, f) = (g.forward({}, p) for g, p in zip(flows, pieces, strict=True))
    np.testing.assert_array_equal(z, jnp.concatenate([a, soil, x[:, 4:5], span], axis=1))
    np.testing.assert_allclose(log_det, d + e + f, rtol=1e-12)
    back, inverse_log_det = flow.inverse(params, z)
    np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-12)
    assert flow.init_inverse is not None and flow.init_inverse(key(), z) == params


def test_columns_without_names_have_a_tuple_of_params():
    flow = columns(exp(), glowjax.as_flow(glowjax.ActNorm()), None)
    params = flow.init(key(), jnp.asarray(table()))
    assert isinstance(params, tuple) and params[0] == params[2] == {} and len(params[1]) == 3


def test_a_context_goes_to_the_columns_that_take_one():
    coupling = glowjax.as_flow(glowjax.AffineCoupling(SMALL_MLP))
    flow = columns(exp(), (coupling, 2))
    assert flow.takes_context and not columns(exp(), None).takes_context
    x, context = jnp.asarray(table(4)), jnp.linspace(0.0, 1.0, 8).reshape(4, 2)
    params = jax.tree.map(lambda p: p + 0.1, flow.init(key(), x, context))
    z, _ = flow.forward(params, x, context)
    due, _ = coupling.forward(params[1], x[:, 1:], context)
    np.testing.assert_array_equal(z[:, 1:], due)
    with pytest.raises(ValueError, match="context must be None"):
        columns(exp()).forward(({},), x[:, :1], context)


ANY: dict[str, Any] = {"function": exp, "short": (exp(),)}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: columns(), "parts must be one flow, or None, for each column"),
        (lambda: columns({}), "parts must be one flow, or None, for each column"),
        (lambda: columns(ANY["function"]), r"parts\[0\] must be a Flow, got a function"),
        (lambda: columns({"a": ANY["short"]}), "a must be a flow, None, or a pair"),
        (lambda: columns((exp(), 0)), r"number of columns of parts\[0\] must be a whole number"),
    ],
)
def test_parts_that_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_tables_of_other_columns_are_refused_by_their_names():
    flow = columns({"a": exp(), "soil": (stick_breaking(), 3)})
    params = flow.init(key(), jnp.asarray([[2.0, 0.2, 0.3, 0.5]]))
    with pytest.raises(ValueError, match=r"x must be of shape \[B, 4\], as a, soil \(3\), got"):
        flow.forward(params, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"z must be of shape \[B, 3\], as a, soil \(2\), got"):
        flow.inverse(params, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="params must be a dict of a, soil, one a flow"):
        flow.forward(({}, {}), jnp.ones((2, 4)))


def test_a_flow_of_several_arrays_is_no_column():
    def halves(params, x, context=None, key=None):
        return (x[:, :1], x[:, 1:]), jnp.zeros(len(x))

    two = exp()._replace(forward=halves)
    with pytest.raises(ValueError, match=r"parts\[0\] must be a flow to one array \[B, n'\]"):
        columns((two, 2)).forward(({},), jnp.ones((2, 2)))


# --------------------------------------------------------------------- densities of raw columns


@pytest.mark.slow
def test_a_density_of_raw_columns_integrates_to_1():
    flow = glowjax.chain(columns(exp(), sigmoid(-1, 2)), glowjax.maf(steps=2, width=8))
    model = glowjax.density(flow, (2,))
    x = np.stack([table()[:, 0] / 100, 3 * table()[:, 1] - 1], axis=1)
    params = glowjax.testing.moved(model.init(key(), jnp.asarray(x)), 0.1)
    incomes = np.exp(np.linspace(-8, 9, 600))  # closer where the density changes faster
    shares = -1 + 3 / (1 + np.exp(-np.linspace(-12, 12, 600)))
    grid = np.stack(np.meshgrid(incomes, shares, indexing="ij"), axis=-1).reshape(-1, 2)
    p = np.exp(jax.jit(model.log_prob)(params, jnp.asarray(grid))).reshape(600, 600)
    integral = np.trapezoid(np.trapezoid(p, shares, axis=1), incomes)
    np.testing.assert_allclose(integral, 1, atol=2e-3)


@pytest.mark.slow
@pytest.mark.float32
def test_a_table_is_fitted_and_sampled_in_its_support():
    supports = columns({"income": exp(), "share": sigmoid(), "change": None})
    model = glowjax.density(glowjax.chain(supports, glowjax.maf(steps=2, width=16)), (3,))
    x = table(3000)
    fitted = glowjax.fit(model, x, steps=300, show=False)
    new = np.asarray(model.sample(fitted.params, key(), 2000))
    assert np.all(new[:, 0] > 0) and np.all((new[:, 1] > 0) & (new[:, 1] < 1))
    np.testing.assert_allclose(np.median(new, 0), np.median(x, 0), rtol=0.2, atol=0.02)
    # the entropies of the three, in closed form: of lognormal, beta and normal
    entropy = 5.0 + 1.4189 + np.log(0.6) - 0.4848 + 1.4189 + np.log(8)
    assert abs(fitted.history[-1]["validation"] - entropy) < 0.2


PLANAR = glowjax.as_flow(glowjax.Planar())  # does not bring its input to scale, as ActNorm does


@pytest.mark.slow
def test_fit_does_not_move_a_support():
    """Standardized, the data would lie in (-10, 10) as well: the support would then be (-1, 9)."""
    x = 4 + 0.5 * np.random.default_rng(0).normal(size=(500, 2))
    model = glowjax.density(glowjax.chain(sigmoid(-10, 10), PLANAR), (2,))
    assert model.fixed_units
    fitted = glowjax.fit(model, x, steps=10, show=False)
    assert not isinstance(fitted.params, glowjax.Standardized)
    assert np.all(np.isfinite(model.log_prob(fitted.params, jnp.array([[9.9, -9.9]]))))


@pytest.mark.slow
def test_data_are_not_standardized_twice():
    x = 1e6 + np.random.default_rng(0).normal(size=(500, 2))
    model = glowjax.density(glowjax.chain(preprocess.standardized(x), PLANAR), (2,))
    fitted = glowjax.fit(model, x, steps=20, show=False)
    assert fitted.history[-1]["validation"] < 3.2  # 2.84 is the entropy


FIXED = sigmoid(-1, 1)
WRAPPED = {
    "chain": glowjax.chain(glowjax.as_flow(glowjax.Reverse()), FIXED),
    "columns": columns(None, FIXED),
    "invert": glowjax.invert(FIXED),
    "on_last": glowjax.on_last(FIXED),
    "repeat": glowjax.repeat(FIXED, 2),
    "multiscale": glowjax.multiscale([FIXED], []),
    "with_context": glowjax.with_context(FIXED, None),
    "logit": glowjax.as_flow(glowjax.Logit()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_flows_of_flows_have_fixed_units_if_one_of_them_does(name):
    assert WRAPPED[name].fixed_units


def test_other_flows_have_no_fixed_units():
    for flow in (glowjax.maf(), columns(None, None), glowjax.chain(glowjax.maf(), glowjax.iaf())):
        assert not flow.fixed_units and not glowjax.density(flow, (2,)).fixed_units


# ------------------------------------------------------------------------------- what fit takes


def fit_table(x, **options):
    """The validation, of a density with one flow that is learned."""
    norm = glowjax.as_flow(glowjax.ActNorm())
    model = glowjax.density(glowjax.chain(columns(exp(), sigmoid(), None), norm), (3,))
    return glowjax.fit(model, x, steps=2, show=False, **options).history[-1]["validation"]


def of_library(name, x):
    """A table of `name` with the columns of x, the last of whole numbers."""
    library = pytest.importorskip(name)
    parts = {"income": x[:, 0], "share": x[:, 1], "change": x[:, 2].astype(int)}
    make = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table"}[name]
    return getattr(library, make)(parts)


@pytest.mark.parametrize("name", ["pandas", "polars", "pyarrow"])
def test_tables_of_other_libraries_are_fitted_as_their_arrays_are(name):
    x = table()
    x[:, 2] = np.floor(x[:, 2])
    assert fit_table(of_library(name, x)) == fit_table(x)
    z, _ = preprocess.standardized(of_library(name, x)).forward({}, jnp.asarray(x))
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-9)


def test_columns_of_several_dtypes_are_fitted():
    x = table()
    assert fit_table(Frame(x.astype(object))) == fit_table(Frame(x)) == fit_table(x)


@pytest.mark.parametrize("wrong", ["red", None, np.datetime64("2020-01-01")])
def test_a_column_that_is_none_of_numbers_is_named(wrong):
    x = table(20).astype(object)
    x[7, 1] = wrong
    with pytest.raises(ValueError, match=r"data must be numbers, got .* at \[7, 1\], column 'shar"):
        fit_table(Frame(x))


def test_a_number_that_is_missing_is_named():
    x = table(20)
    x[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"data must be finite .* at \[7, 1\], column 'share' \(1"):
        fit_table(Frame(x))


def test_a_row_outside_of_the_support_is_named():
    x = table(20)
    x[7, 1] = 1.0
    with pytest.raises(ValueError, match=r"must have a density, got log p = -inf for row 7"):
        fit_table(x, validation=x)


@pytest.mark.slow
@pytest.mark.float32
def test_the_examples_of_the_page(monkeypatch):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    short = functools.partial(glowjax.fit, steps=20, show=False)
    monkeypatch.setattr(glowjax, "fit", short)
    names: dict[str, Any] = {}
    exec("\n".join(examples), names)
    new = np.asarray(names["new"])
    assert np.all(new[:, 0] > 0) and np.all((new[:, 1] > 0) & (new[:, 1] < 1))
    assert set(np.unique(names["new_rows"][:, 1])) <= {0, 1, 2}
    assert np.all(np.isfinite(names["log_p"])) and names["log_p"].shape == (200,)
    assert np.mean(names["log_p"]) > np.mean(names["bound"])


def test_the_page_names_every_bijection():
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}" in page for name in preprocess.__all__)
