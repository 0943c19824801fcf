"""State dicts of PyTorch Glows: the same log-likelihoods as the formulas of their repositories."""

import functools
from typing import Any

import glow_repositories as repositories
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from converted import example

import glowjax
from glowjax.interop.torch_glow import from_torch_glow

SHAPE = (8, 4, 3)
LABELS = jnp.arange(3)
Y0AST, ROSINALITY = repositories.y0ast, repositories.rosinality
MODELS = {
    "y0ast": functools.partial(Y0AST),
    "y0ast lu": functools.partial(Y0AST, use_lu=True, top=False),
    "y0ast additive": functools.partial(Y0AST, additive=True),
    "y0ast labels": functools.partial(Y0AST, labels=LABELS),
    "rosinality": functools.partial(ROSINALITY),
    "rosinality lu": functools.partial(ROSINALITY, use_lu=True),
    "rosinality additive": functools.partial(ROSINALITY, additive=True, use_lu=True),
    "kamenbliznashki": functools.partial(repositories.kamenbliznashki),
    "kamenbliznashki lu": functools.partial(repositories.kamenbliznashki, use_lu=True),
}


FAST = {"rosinality"}


def images(count=3):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (count, *SHAPE))


@functools.cache
def drawn(name):
    state = {}  # of NumPy arrays, which the formulas draw while they are traced
    names = repositories.Names(state)
    jax.eval_shape(lambda x: MODELS[name](names, x), images().transpose(0, 3, 1, 2))
    return state


def state_of(name) -> dict[str, Any]:
    """A state dict with every parameter drawn."""
    return dict(drawn(name))


def expected(name, state):
    names = repositories.Names(state)
    return jax.jit(lambda x: MODELS[name](names, x))(images().transpose(0, 3, 1, 2))


def log_prob(flow, params, context=None):
    model = glowjax.density(flow, SHAPE)
    return jax.jit(model.log_prob)(params, images(), context)


def check(state, name):
    flow, params = from_torch_glow(state)
    context = LABELS if "labels" in name else None
    found, due = log_prob(flow, params, context), expected(name, state)
    np.testing.assert_allclose(found, due, rtol=1e-10)
    assert np.std(due) > 1
    return flow, params


def slow_but_first(first, *names):
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in names)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in MODELS]
)
def test_likelihoods_are_those_of_the_repository(name):
    check(state_of(name), name)


@pytest.mark.parametrize("name", slow_but_first("y0ast lu", "y0ast", "y0ast labels"))
def test_likelihoods_are_those_of_chaiyujin(name):
    state = state_of(name)
    renamed = {repositories.chaiyujin_name(key): value for key, value in state.items()}
    assert "flow.layers.1.f.0.weight" in renamed and "flow.layers.3.conv.weight" in renamed
    flow, params = from_torch_glow(renamed)
    found = log_prob(flow, params, LABELS if "labels" in name else None)
    np.testing.assert_allclose(found, expected(name, state), rtol=1e-10)


@pytest.mark.float32
@pytest.mark.parametrize("name", slow_but_first("rosinality", "y0ast lu", "kamenbliznashki"))
def test_likelihoods_in_float32(name):
    state = {key: np.asarray(value, np.float32) for key, value in state_of(name).items()}
    flow, params = from_torch_glow(state)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    found = log_prob(flow, params)
    with jax.enable_x64(True):
        exact = expected(name, {key: np.float64(value) for key, value in state.items()})
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_images_go_back():
    flow, params = from_torch_glow(state_of("kamenbliznashki"))
    z, _ = jax.jit(flow.forward)(params, images())
    np.testing.assert_allclose(jax.jit(flow.inverse)(params, z)[0], images(), atol=1e-7)


def test_a_converted_model_is_a_glow_with_its_options():
    flow, _ = from_torch_glow(state_of("y0ast labels"))
    assert repr(flow) == "glow(levels=2, steps=2, width=5, num_classes=4, ring=False)"
    flow, _ = from_torch_glow(state_of("rosinality additive"))
    assert repr(flow) == "glow(levels=2, steps=2, width=5, coupling='additive', norm=False)"


def test_names_of_data_parallel_lose_their_prefix():
    state = state_of("rosinality")
    _, params = from_torch_glow({f"module.{name}": value for name, value in state.items()})
    jax.tree.map(np.testing.assert_array_equal, params, from_torch_glow(state)[1])


def test_tensors_of_torch_are_arrays_too():
    torch = pytest.importorskip("torch")
    state = state_of("rosinality")
    tensors = {name: torch.nn.Parameter(torch.tensor(v), False) for name, v in state.items()}
    _, params = from_torch_glow(tensors)
    jax.tree.map(np.testing.assert_array_equal, params, from_torch_glow(state)[1])


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    state = state_of("rosinality")
    monkeypatch.chdir(tmp_path)
    torch.save({name: torch.tensor(value) for name, value in state.items()}, "model.pt")
    names: dict[str, Any] = {}
    exec(example("from_torch_glow"), names)
    np.testing.assert_allclose(
        log_prob(names["flow"], names["params"]), expected("rosinality", state), rtol=1e-10
    )


def without(part):
    return {name: value for name, value in state_of("y0ast").items() if part not in name}


def changed(model, part, change):
    state = state_of(model)
    return {name: change(value) if part in name else value for name, value in state.items()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "state_dict must be a dict of names and arrays, .* got 'None'"),
        (lambda: {"model": {}}, r"state_dict\['model'\] must be an array, got 'a dict'"),
        (lambda: {"fc.weight": np.ones(3)}, "state_dict must be of y0ast's.* the names fc.weight"),
        (lambda: without("invconv"), "whose channels 1×1 convolutions mix"),
        (lambda: without("block.2.actnorm.bias"), "lacks 'f.2.actnorm.bias'"),
        (
            lambda: changed("y0ast", "flow.layers.2.block.0.conv", lambda v: v[:4]),
            "state_dict must be of steps that have the same shapes in each level",
        ),
        (lambda: without("flow.layers.2."), "state_dict must be of levels with as many steps each"),
        (
            lambda: changed("y0ast", "learn_top_fn.conv.bias", lambda v: v[:4]),
            "state_dict must be of parameters of the shapes",
        ),
        (
            lambda: changed("rosinality", "initialized", np.zeros_like),
            "state_dict must be of a model that is initialised by data",
        ),
        (
            lambda: changed("kamenbliznashki lu", "1.p", lambda p: 1.1 * p),
            "state_dict must be one whose log-determinants are right",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        from_torch_glow(make())
