"""The property harness catches flows that are wrong, and says what is."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, SMALL_MLP, check

import glowjax
from glowjax.preprocess import stick_breaking
from glowjax.testing import check_flow

X = np.random.RandomState(0).randn(4, 3)


def scale(forward=None, inverse=None, init=None):
    """z = x·exp(log_scale), changed: `forward` and `inverse` take what the right ones return."""

    def right(sign):
        def apply(params, x, context=None, key=None):
            s = sign * params["log_scale"]
            return x * jnp.exp(s), jnp.broadcast_to(jnp.sum(s), x.shape[:1])

        return apply

    def changed(apply, change):
        return lambda params, x, context=None, key=None: change(x, *apply(params, x))

    def start(key, x, context=None):
        return {"log_scale": jnp.zeros(x.shape[1:], x.dtype)}

    return glowjax.Flow(
        init or start,
        changed(right(1), forward) if forward else right(1),
        changed(right(-1), inverse) if inverse else right(-1),
    )


@pytest.mark.slow
def test_a_right_flow_passes():
    """Of the caller's precision, whatever that is, and without it changing."""
    for x64 in (True, False):
        with jax.enable_x64(x64):
            check_flow(scale(), jnp.asarray(X))
            check_flow(scale(), X.astype(np.float32), params={"log_scale": jnp.ones(3)})
            assert jnp.result_type(float) == (jnp.float64 if x64 else jnp.float32)


@jax.custom_vjp
def half_gradient(x):
    return x


half_gradient.defvjp(lambda x: (x, None), lambda _, g: (0.5 * g,))


# What is wrong, with what is said of it. Initialisation would hide some of them.
MUTANTS = {
    "sign": (
        {"forward": lambda x, z, s: (z, -s), "inverse": lambda z, x, s: (x, -s)},
        r"forward's log_det must be log\|det ∂z/∂x\|: of example \d it is .*4 of 4 numbers",
    ),
    "slope": (
        {"forward": lambda x, z, s: (z, s + 1e-6), "inverse": lambda z, x, s: (x, s - 1e-6)},
        r"forward's log_det must be log\|det ∂z/∂x\|",
    ),
    "inverse's sign": (
        {"inverse": lambda z, x, s: (x, -s)},
        "inverse's log_det must be minus forward's",
    ),
    "inverse inexact": (
        {"inverse": lambda z, x, s: (x.at[2, 1].add(1e-6), s)},
        r"inverse\(forward\(x\)\) must be x: of example 2 at \(1,\) it is .*1 of 12 numbers",
    ),
    "inverse of a part": (
        {"inverse": lambda z, x, s: (x.at[:, 2].set(0), s)},
        r"inverse\(forward\(x\)\) must be x: of example \d at \(2,\)",
    ),
    "inverse remembers": (  # right for what forward made, wrong elsewhere
        {"inverse": lambda z, x, s: (jnp.where(jnp.isin(x, X), x, x + 0.1), s)},
        r"inverse\(forward\(x\)\) must be x|forward\(inverse\(z\)\) must be z",
    ),
    "log_det of numbers": (
        {"forward": lambda x, z, s: (z, jnp.zeros_like(x))},
        r"forward's log_det must be float64 of shape \(4,\), .* example: it is .*\(4, 3\)",
    ),
    "log_det of half precision": (
        {"inverse": lambda z, x, s: (x, s.astype(jnp.float16))},
        "inverse's log_det must be float64 .* it is float16",
    ),
    "no log_det": (
        {"forward": lambda x, z, s: z},
        r"forward must return \(array, log_det\)",
    ),
    "numbers lost": (
        {"forward": lambda x, z, s: (z[:, :2], s)},
        r"z must have as many numbers as x: \[B, D\] is \(4, 2\) for \(4, 3\)",
    ),
    "shape lost": (
        {"inverse": lambda z, x, s: (x[..., None], s)},
        r"inverse must give events of the shape of x, \(3,\): it gives \(3, 1\)",
    ),
    "not a number": (
        {"forward": lambda x, z, s: (z / jnp.where(x > 9, 1, 0) * 0, s)},
        r"inverse\(forward\(x\)\) must be x: .* it is nan",
    ),
    "of the batch": (
        {
            "forward": lambda x, z, s: (z + jnp.mean(z), s),
            "inverse": lambda z, x, s: (x - (jnp.mean(x) / 2), s),
        },
        r"must be x|must not depend on the others",
    ),
    "gradient": (
        {"forward": lambda x, z, s: (z, half_gradient(s))},
        "gradients must be those of finite differences",
    ),
    "a parameter without effect": (
        {"init": lambda key, x, context=None: {"log_scale": jnp.zeros(3), "idle": jnp.ones(2)}},
        r"must have an effect: gradient\['params'\]\['idle'\] is 0",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_flow_is_named(name):
    change, said = MUTANTS[name]
    with pytest.raises(AssertionError, match=said):
        check_flow(scale(**change), X)


@pytest.mark.slow
def test_a_missing_factor_of_positions_is_caught():
    def per_position(apply):
        def applied(params, x, context=None, key=None):
            y, log_det = apply(params, x, context, key)
            return y, log_det / (x.shape[1] * x.shape[2])

        return applied

    case = CASES["conv1x1"]
    flow = case.flow
    wrong = flow._replace(forward=per_position(flow.forward), inverse=per_position(flow.inverse))
    with pytest.raises(AssertionError, match=r"forward's log_det must be log\|det"):
        check(case._replace(flow=wrong))


class Squashed(nn.Module):
    """z = tanh(x): far out float32 rounds to 1 what float64 keeps."""

    def forward(self, x, context=None):
        return jnp.tanh(x), -2 * jnp.sum(jnp.log(jnp.cosh(x)), axis=1)

    def inverse(self, z, context=None):
        return jnp.arctanh(z), -jnp.sum(jnp.log1p(-jnp.square(z)), axis=1)


@pytest.mark.slow
def test_float32_is_checked_too():
    flow = glowjax.as_flow(Squashed())
    check_flow(flow, X / 4)
    with pytest.raises(AssertionError, match="must be x, in float32"):
        check_flow(flow, 5 + X / 4, tolerance=1e-7)


@pytest.mark.slow
def test_tuples_of_arrays():
    flow = glowjax.on_last(glowjax.as_flow(glowjax.AffineCoupling(SMALL_MLP)))
    check_flow(flow, (X, X[:, :2]))


def all_but_the_last(x):
    return x[..., :-1]


def with_the_last(numbers):
    return jnp.concatenate([numbers, 1 - jnp.sum(numbers, axis=-1, keepdims=True)], axis=-1)


FREE = (all_but_the_last, with_the_last)
PARTS = np.random.default_rng(0).dirichlet(np.ones(4), 5)


def test_a_flow_of_parts_of_a_whole_is_checked_by_its_free_numbers():
    check_flow(stick_breaking(), PARTS, free=FREE)


def test_a_flow_of_parts_with_the_volume_of_another_set_is_named():
    flow = stick_breaking()

    def forward(params, x, context=None, key=None):
        z, log_det = flow.forward(params, x)
        return z, log_det + jnp.log(x[:, -1])  # forgets the last part

    wrong = glowjax.Flow(flow.init, forward, flow.inverse)
    with pytest.raises(AssertionError, match=r"forward's log_det must be log\|det"):
        check_flow(wrong, PARTS, free=FREE)


def test_functions_that_do_not_give_x_back_are_named():
    with pytest.raises(AssertionError, match="the second of free must make x of what the first"):
        check_flow(stick_breaking(), PARTS, free=(all_but_the_last, lambda a: 2 * with_the_last(a)))
