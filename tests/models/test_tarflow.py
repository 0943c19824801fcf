"""TarFlow: its net by its formula, what it sees, its inverses, precision, size, refusals."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_CAUSAL, SMALL_TARFLOW
from low_precision import check_net_in_bfloat16
from transformer_numpy import transformer

import glowjax
from glowjax.bijections.autoregressive import autoregressive_inverse
from glowjax.testing import moved

AFFINE = glowjax.affine()
ORDERS = ("natural", "reversed")

# ------------------------------------------------------------------------------------- net


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_the_net_is_its_formula(order):
    net = SMALL_CAUSAL(3, order=order)
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 2))
    params = jax.jit(lambda x: moved(net.init(jax.random.key(1), x), 0.3))(x)
    y = np.asarray(jax.jit(net.apply)(params, x)).reshape(6, 2, 3)
    turn = slice(None, None, 1 if order == "natural" else -1)
    tokens = np.asarray(x).reshape(6, 2)[turn]
    before = np.concatenate([np.zeros((1, 2)), tokens[:-1]])
    expected = transformer(params["params"], before, 2, causal=True).reshape(6, 2, 3)[turn]
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", ORDERS)
def test_outputs_depend_on_the_tokens_before_and_on_all_of_them(order):
    net, x = SMALL_CAUSAL(1, order=order), jax.random.normal(jax.random.key(0), (1, 2, 2, 2))

    @jax.jit
    def jacobian(x):
        params = moved(net.init(jax.random.key(1), x), 0.3)
        return jax.jacrev(lambda x: net.apply(params, x))(x)

    before = np.kron(np.tri(4, k=-1, dtype=bool), np.ones((2, 2), bool))
    expected = before if order == "natural" else before.T
    np.testing.assert_array_equal(np.asarray(jacobian(x)).reshape(8, 8) != 0, expected)


@pytest.mark.slow
def test_the_net_starts_as_zero_and_sees_its_own_image_and_context():
    net, x = SMALL_CAUSAL(3), jax.random.normal(jax.random.key(0), (2, 2, 3, 2))
    context = jax.random.normal(jax.random.key(1), (2, 5))

    @jax.jit
    def measure(x, context):
        start, params = net.init_with_output(jax.random.key(2), x, context)
        params = moved(params, 0.3)

        def tokens(x, context):
            return jnp.asarray(net.apply(params, x, context))[0, :, :, 0, 0]

        first = jax.grad(lambda context: tokens(x, context)[0, 0])(context)
        return start, first, jax.grad(lambda x: tokens(x, context)[-1, -1])(x)

    start, of_context, of_x = measure(x, context)
    np.testing.assert_array_equal(start, np.zeros((2, 2, 3, 2, 3)))
    assert jnp.all(of_context[0] != 0) and not jnp.any(of_context[1])
    assert jnp.all(of_x[0].reshape(6, 2)[:-1] != 0) and not jnp.any(of_x[1])


@pytest.mark.slow
@pytest.mark.float32
def test_the_net_in_bfloat16_keeps_parameters_and_output_in_float32():
    check_net_in_bfloat16(SMALL_CAUSAL)


# -------------------------------------------------------------------------------- inverses


def latents(order="natural"):
    """Parameters of a net of 6 tokens, latents and a context, all of three examples."""
    net = SMALL_CAUSAL(AFFINE.size, order=order)
    z = jax.random.normal(jax.random.key(0), (3, 2, 3, 2))
    context = jax.random.normal(jax.random.key(1), (3, 2))
    params = jax.jit(lambda z: moved(net.init(jax.random.key(2), z, context), 0.3))(z)
    return params, z, context


def inverted(net, params, z, context):
    flow = glowjax.Autoregressive(AFFINE, net)
    return jax.jit(functools.partial(flow.apply, method="inverse"))(
        {"params": {"net": params["params"]}}, z, context
    )


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_every_segment_inverts_as_number_by_number(order):
    params, z, context = latents(order)
    net = SMALL_CAUSAL(AFFINE.size, order=order)

    def apply(x):
        return net.apply(params, x, context)

    x, log_det = jax.jit(
        lambda z: autoregressive_inverse(z, apply, AFFINE, net.ordering(z.shape[1:]))
    )(z)
    assert jnp.max(jnp.abs(x - z)) > 1
    for segment in (1, 2, 3, None):
        parts = functools.partial(SMALL_CAUSAL, order=order, segment=segment)
        fast, fast_log_det = inverted(parts, params, z, context)
        np.testing.assert_allclose(fast, x, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(fast_log_det, log_det, rtol=1e-11, atol=1e-11)


def iterates(params, z, context):
    """All tokens at once, from zero on, again and again: each x with the change that led to it."""
    net, x = SMALL_CAUSAL(AFFINE.size), jnp.zeros_like(z)

    @jax.jit
    def again(x):
        return AFFINE.inverse(z, jnp.asarray(net.apply(params, x, context)))[0]

    for _ in range(6):
        old, x = x, again(x)
        yield x, float(jnp.max(jnp.abs(x - old)))


@pytest.mark.slow
def test_iterations_end_once_no_number_changes_by_more_than_the_tolerance():
    params, z, context = latents()
    steps = list(iterates(params, z, context))
    exact = steps[-1][0]
    for n, (x, change) in enumerate(steps):
        solved = x.reshape(3, 6, 2)[:, : n + 1]
        np.testing.assert_allclose(solved, exact.reshape(3, 6, 2)[:, : n + 1], rtol=1e-11)
        net = functools.partial(SMALL_CAUSAL, segment=None, tolerance=change * 1.001)
        first = next(x for x, earlier in steps if earlier <= change * 1.001)
        np.testing.assert_allclose(inverted(net, params, z, context)[0], first, rtol=1e-11)
    assert jnp.max(jnp.abs(steps[-2][0] - exact)) > 1e-6  # so that the last one is needed
    with jax.debug_nans(False):
        net = functools.partial(SMALL_CAUSAL, segment=None, tolerance=1e9)
        spoilt = inverted(net, params, z.at[0].set(jnp.nan), context)[0]
    assert jnp.all(jnp.isnan(spoilt[0]))
    np.testing.assert_allclose(spoilt[1:], exact[1:], rtol=1e-11)


@pytest.mark.slow
def test_a_tolerance_bounds_how_far_the_latents_come_back():
    """By what the net makes of a change so small: here at most 20 times as much."""
    flow = functools.partial(glowjax.tarflow, steps=2, **SMALL_TARFLOW)
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    params = jax.jit(lambda x: moved(flow().init(jax.random.key(1), x), 0.1))(x)
    z, _ = jax.jit(flow().forward)(params, x)
    errors = {}
    for tolerance in (1e-2, 1e-4, 1e-6):
        back, _ = jax.jit(flow(segment=None, tolerance=tolerance).inverse)(params, z)
        errors[tolerance] = float(jnp.max(jnp.abs(flow().forward(params, back)[0] - z)))
    assert all(1e-12 < error < 20 * tolerance for tolerance, error in errors.items()), errors


# ---------------------------------------------------------------------------------- model


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize(("dtype", "bound"), [(None, 1e-4), (jnp.bfloat16, 0.2)])
def test_round_trips_in_float32(dtype, bound):
    """Nets in bfloat16 round one token otherwise than many, unlike those of couplings."""
    flow = glowjax.tarflow(steps=2, dtype=dtype, **SMALL_TARFLOW)
    x = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))

    @jax.jit
    def measure(x):
        params = moved(flow.init(jax.random.key(1), x), 0.1)
        z, log_det = flow.forward(params, x)
        back, back_log_det = flow.inverse(params, z)
        return jnp.max(jnp.abs(back - x)), jnp.max(jnp.abs(log_det + back_log_det))

    errors = measure(x)
    assert max(errors) < bound, errors


@pytest.mark.slow
def test_one_step_shows_every_token_to_every_other():
    flow = glowjax.tarflow_step(net=SMALL_CAUSAL)
    x = jax.random.normal(jax.random.key(0), (1, 1, 4, 2))

    @jax.jit
    def jacobian(x):
        params = moved(flow.init(jax.random.key(1), x), 0.3)
        return jax.jacrev(lambda x: flow.forward(params, x)[0])(x)

    tokens = np.asarray(jacobian(x)).reshape(4, 2, 4, 2).transpose(0, 2, 1, 3)
    assert np.all(np.any(tokens != 0, axis=(2, 3)))


@pytest.mark.slow
def test_the_program_does_not_grow_with_depth():
    x, z = jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 2, 2, 4))

    def equations(**depth):
        flow = glowjax.tarflow(**(SMALL_TARFLOW | depth))
        params = jax.eval_shape(flow.init, jax.random.key(0), x)
        programs = jax.make_jaxpr(flow.forward)(params, x), jax.make_jaxpr(flow.inverse)(params, z)
        return [str(program).count("\n") for program in programs]

    assert equations(steps=2) == equations(steps=5, blocks=6)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "patch": ({"patch": 0}, "patch must be a whole number of at least 1, got 0"),
    "steps": ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    "backprop": ({"backprop": "forget"}, "backprop must be one of"),
    "heads": ({"heads": 3}, "width must be a multiple of 3, got 4"),
    "blocks": ({"blocks": 0}, "blocks must be a whole number of at least 1, got 0"),
    "segment": ({"segment": 3}, "segment must be a divisor of 4, got 3"),
    "no segment": ({"segment": 0}, "segment must be a whole number of at least 1, got 0"),
    "tolerance": ({"tolerance": -1.0}, r"tolerance must be in \[0, inf\), got -1.0"),
    "inexact": (
        {"backprop": "invert", "tolerance": 1e-3},
        "backprop must be 'store' or 'recompute' for tolerance=0.001, got 'invert'",
    ),
    "rounded": (
        {"backprop": "invert", "dtype": jnp.bfloat16},
        "backprop must be 'store' or 'recompute' for dtype='bfloat16', got 'invert'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_named(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        flow = glowjax.tarflow(**(SMALL_TARFLOW | options))
        jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))


def test_a_net_refuses_another_order():
    net = SMALL_CAUSAL(2, order="random")
    with pytest.raises(ValueError, match="order must be one of 'natural', 'reversed', got"):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 2, 2, 1)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 5, 1), "height and width divisible by 2 for patch=2, got 4×5"),
        ((1, 3, 4, 1), "height and width divisible by 2 for patch=2, got 3×4"),
        ((1, 4), "x must be images"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_images_of_another_size_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(glowjax.tarflow(**SMALL_TARFLOW).init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("context", [jnp.ones((2, 3)), jnp.ones((1, 3), int), jnp.ones((1, 2, 3))])
def test_a_context_of_another_kind_is_refused(context):
    flow = glowjax.tarflow(**SMALL_TARFLOW)
    with pytest.raises(ValueError, match=r"context must be floats of shape \(1, F\)"):
        jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)), context)


# ------------------------------------------------------------------------------- guidance


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_guidance_moves_each_token_by_its_weight_away_from_no_context(order):
    params, x, context = latents(order)
    net = SMALL_CAUSAL(AFFINE.size, order=order)
    seen, unseen = (net.apply(params, x, c) for c in (context, jnp.zeros_like(context)))
    assert jnp.max(jnp.abs(seen - unseen)) > 0.1
    turn = slice(None, None, 1 if order == "natural" else -1)
    rising = (0.5 + 1.5 * np.arange(6) / 5)[turn].reshape(2, 3, 1, 1)
    for guidance, weights in ((2.0, 2.0), ((0.5, 2.0), rising), (-1.0, -1.0), ((0.0, 0.0), 0.0)):
        guided = SMALL_CAUSAL(AFFINE.size, order=order, guidance=guidance)
        expected = seen + weights * (seen - unseen)
        np.testing.assert_allclose(guided.apply(params, x, context), expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("segment", [1, 3])
def test_a_guided_flow_inverts_with_the_parameters_of_the_plain_one(segment):
    plain = glowjax.tarflow(steps=1, **SMALL_TARFLOW)
    flow = glowjax.tarflow(steps=1, guidance=(0.0, 2.0), segment=segment, **SMALL_TARFLOW)
    x = jax.random.normal(jax.random.key(0), (3, 4, 6, 1))
    context = jax.random.normal(jax.random.key(1), (3, 2))
    params = jax.jit(lambda x: moved(plain.init(jax.random.key(2), x, context), 0.1))(x)
    z, log_det = jax.jit(flow.forward)(params, x, context)
    back, back_log_det = jax.jit(flow.inverse)(params, z, context)
    np.testing.assert_allclose(back, x, atol=1e-11)
    np.testing.assert_allclose(back_log_det, -log_det, atol=1e-11)
    without, _ = jax.jit(plain.forward)(params, x, context)
    assert jnp.max(jnp.abs(z - without)) > 0.01


@pytest.mark.slow
def test_guidance_by_0_is_the_plain_flow_and_by_minus_1_that_of_no_context():
    def latent(guidance, context):
        flow = glowjax.tarflow(steps=1, guidance=guidance, **SMALL_TARFLOW)
        return jax.jit(flow.forward)(params, x, context)

    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    context = jax.random.normal(jax.random.key(1), (3, 2))
    plain = glowjax.tarflow(steps=1, **SMALL_TARFLOW)
    params = jax.jit(lambda x: moved(plain.init(jax.random.key(2), x, context), 0.1))(x)
    for guidance, seen in ((0.0, context), (-1.0, jnp.zeros_like(context))):
        expected = jax.jit(plain.forward)(params, x, seen)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=1e-12),
            latent(guidance, context),
            expected,
        )


@pytest.mark.parametrize(
    ("guidance", "context", "message"),
    [
        (jnp.inf, True, "guidance must be a finite number or a pair of them, got inf"),
        ((1.0, 2.0, 3.0), True, "guidance must be a finite number or a pair of them, got"),
        ("strong", True, "guidance must be a finite number or a pair of them, got 'strong'"),
        (2.0, False, "context must be given for guidance=2.0, got None"),
    ],
)
def test_bad_guidance_is_named(guidance, context, message):
    flow = glowjax.tarflow(guidance=guidance, **SMALL_TARFLOW)
    context = jnp.ones((1, 2)) if context else None
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)), context)
