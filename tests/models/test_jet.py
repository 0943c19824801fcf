"""Jet: its net by its formula, what it sees, its precision, its size, refusals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_JET, SMALL_VIT
from low_precision import check_net_in_bfloat16
from transformer_numpy import transformer

import glowjax
from glowjax.testing import moved

# ------------------------------------------------------------------------------------- net


@pytest.mark.slow
def test_the_net_is_its_formula():
    net = SMALL_VIT(3)
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 2))
    params = jax.jit(lambda x: moved(net.init(jax.random.key(1), x), 0.3))(x)
    y = np.asarray(jax.jit(net.apply)(params, x)).reshape(6, 3)
    expected = transformer(params["params"], np.asarray(x).reshape(6, 2), 2, causal=False)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.slow
def test_the_net_starts_as_zero_and_sees_all_tokens_of_its_own_image_and_its_context():
    net, x = SMALL_VIT(3), jax.random.normal(jax.random.key(0), (2, 3, 4, 2))
    context = jax.random.normal(jax.random.key(1), (2, 5))

    @jax.jit
    def measure(x, context):
        start, params = net.init_with_output(jax.random.key(2), x, context)
        params = moved(params, 0.3)

        def corner(x, context):
            return jnp.asarray(net.apply(params, x, context))[0, 0, 0, 0]

        return start, jax.grad(corner, argnums=(0, 1))(x, context)

    start, gradients = measure(x, context)
    np.testing.assert_array_equal(start, np.zeros((2, 3, 4, 3)))
    for gradient in gradients:
        assert jnp.all(gradient[0] != 0)
        np.testing.assert_array_equal(gradient[1], jnp.zeros_like(gradient[1]))


@pytest.mark.slow
@pytest.mark.float32
def test_the_net_in_bfloat16_keeps_parameters_and_output_in_float32():
    check_net_in_bfloat16(SMALL_VIT)


# ---------------------------------------------------------------------------------- model


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_round_trips_in_float32(dtype):
    """Both directions round their nets alike, so that nets in bfloat16 cost no exactness."""
    flow = glowjax.jet(steps=3, dtype=dtype, **SMALL_JET)
    x = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))

    @jax.jit
    def measure(x):
        params = moved(flow.init(jax.random.key(1), x), 0.1)
        z, log_det = flow.forward(params, x)
        back, back_log_det = flow.inverse(params, z)
        return jnp.max(jnp.abs(back - x)), jnp.max(jnp.abs(log_det + back_log_det))

    error, log_det_error = measure(x)
    assert error < 1e-5, error
    assert log_det_error < 1e-4, log_det_error


@pytest.mark.slow
def test_the_program_does_not_grow_with_depth():
    x = jnp.zeros((1, 4, 4, 1))

    def equations(**depth):
        flow = glowjax.jet(**(SMALL_JET | depth))
        params = jax.eval_shape(flow.init, jax.random.key(0), x)
        return str(jax.make_jaxpr(flow.forward)(params, x)).count("\n")

    assert equations(steps=2, channel_couplings=2) == equations(
        steps=5, channel_couplings=7, blocks=6
    )


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "patch": ({"patch": 0}, "patch must be a whole number of at least 1, got 0"),
    "steps": ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    "channel_couplings": (
        {"channel_couplings": 0},
        "channel_couplings must be a whole number of at least 1, got 0",
    ),
    "backprop": ({"backprop": "forget"}, "backprop must be one of"),
    "heads": ({"heads": 3}, "width must be a multiple of 3, got 4"),
    "blocks": ({"blocks": 0}, "blocks must be a whole number of at least 1, got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_named(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        flow = glowjax.jet(**(SMALL_JET | options))
        jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 6, 1), "height divisible by 2 and a width divisible by 4 for patch=2, got 4×6"),
        ((1, 3, 4, 1), "height divisible by 2 and a width divisible by 4 for patch=2, got 3×4"),
        ((1, 4), "x must be images"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_images_of_another_size_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(glowjax.jet(**SMALL_JET).init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("context", [jnp.ones((2, 3)), jnp.ones((1, 3), int), jnp.ones((1, 2, 3))])
def test_a_context_of_another_kind_is_refused(context):
    flow = glowjax.jet(**SMALL_JET)
    with pytest.raises(ValueError, match=r"context must be floats of shape \(1, F\)"):
        jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)), context)
