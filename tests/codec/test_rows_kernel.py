"""The kernel for GPUs makes bit for bit what the loop makes; here JAX interprets it on a CPU."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glowjax.codec import modular_scale, rows, symbols
from glowjax.codec.coder import Coder
from glowjax.codec.gaussians import STARTS
from glowjax.codec.lanes import Stack
from glowjax.codec.modular_scale import ratio, scale_forward, scale_inverse
from glowjax.codec.rows_kernel import by_kernel
from glowjax.codec.symbols import pop_of, push_of

SHAPE = (5, 30)  # numbers of five images
BY = {"loop": rows.by_loop, "kernel": functools.partial(by_kernel, interpret=True)}


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield
    jax.clear_caches()  # of what was compiled with the kernel


def numbers(seed=0):
    rng = np.random.default_rng(seed)
    scale = jnp.exp(rng.normal(size=SHAPE))
    return rng.integers(-(2**20), 2**20, SHAPE), scale, rng.integers(0, len(STARTS) - 1, SHAPE)


def calls():
    x, scale, index = numbers()
    return {
        "scale_forward": lambda stack: scale_forward(x, ratio(scale), stack),
        "scale_inverse": lambda stack: scale_inverse(x, ratio(scale), stack),
        "push_of": lambda stack: push_of(index, STARTS, stack),
        "pop_of": lambda stack: pop_of(SHAPE, STARTS, stack),
    }


@pytest.mark.parametrize("lanes", [7, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("room", [64, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", calls())
def test_the_kernel_makes_what_the_loop_makes(monkeypatch, name, room, lanes):
    valid = np.array([True, False, True, True, True])
    stack = Coder.seeded(lanes).stack(room, SHAPE[0])._replace(valid=jnp.asarray(valid))
    found = []
    for by in BY.values():
        for module in (modular_scale, symbols):
            monkeypatch.setattr(module, "by_rows", by)
        jax.clear_caches()
        found.append(jax.jit(calls()[name])(stack))
    looped, by_kernel = found
    fits = [_stack(one).fits() for one in found]
    assert fits[0] == fits[1]
    assert room == 1 or fits[0]
    if fits[0]:  # else there was too little room, and nobody looks at what was made
        jax.tree.map(np.testing.assert_array_equal, looped, by_kernel)


def _stack(found):
    return found if isinstance(found, Stack) else found[1]


def test_the_trial_that_decides_for_the_kernel_moves_words():
    stack, sizes = rows._trial()
    ways = (functools.partial(by, rows._pop_some) for by in BY.values())
    looped, by_kernel = (jax.jit(way)(stack, sizes) for way in ways)
    jax.tree.map(np.testing.assert_array_equal, looped, by_kernel)
    assert looped[1].fits() and np.any(looped[1].low < stack.top)


def test_no_kernel_is_tried_without_a_gpu():
    assert not rows._kernel_works()


def test_the_kernel_is_tried_while_jax_traces(monkeypatch):
    monkeypatch.setattr(rows.rows_kernel, "by_kernel", BY["kernel"])
    devices = jax.devices()
    gpu = SimpleNamespace(platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda: [gpu])
    check = rows._check_kernel
    monkeypatch.setattr(rows, "_check_kernel", lambda device: check(devices[0]))
    works = []
    jax.jit(lambda x: works.append(rows._kernel_works.__wrapped__()) or x)(1.0)
    assert works == [True]


def test_a_kernel_that_fails_is_not_used(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    with pytest.warns(UserWarning, match="the codec is slow on this GPU"):
        assert not rows._kernel_works.__wrapped__()
