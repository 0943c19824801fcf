"""Flow++: its net by its formula, what it sees and drops, its size, its precision, refusals."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SMALL_ATTENTION, SMALL_FLOWPP
from low_precision import check_net_in_bfloat16
from weight_norm import conv

import glowjax
from glowjax import as_flow
from glowjax.bijections.masks import partition
from glowjax.testing import moved

# ------------------------------------------------------------------------------------- net


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@pytest.mark.slow
def test_the_net_is_its_formula():
    """Against a plain reading of its docstring, with one product for each output number."""
    net = SMALL_ATTENTION(3, blocks=2)
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 2))
    params = jax.jit(lambda x: moved(net.init(jax.random.key(1), x), 0.3))(x)
    y = np.asarray(jax.jit(net.apply)(params, x))[0]

    def f(h):
        return np.concatenate([elu(h), elu(-h)], -1)

    def gate(p, h):
        a, b = np.split(conv(p, h), 2, -1)
        return a * sigmoid(b)

    def norm(p, h):
        h = h - h.mean(-1, keepdims=True)
        h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6)
        return h * np.asarray(p["scale"]) + np.asarray(p["bias"])

    def attention(p, h):
        qkv = conv(p["qkv"], h + np.asarray(p["position"])).reshape(6, 3, 2, 2)  # 2 heads of 2
        heads = []
        for q, k, v in zip(*qkv.transpose(1, 2, 0, 3), strict=True):
            weights = np.exp(q @ k.T / np.sqrt(2))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v)
        return np.concatenate(heads, -1).reshape(h.shape)

    p = params["params"]
    h = conv(p["conv"], np.asarray(x[0]))
    for i in range(2):
        block = jax.tree.map(lambda a, i=i: a[i], p["blocks"])
        h = norm(block["norm1"], h + gate(block["gate1"], f(conv(block["conv"], f(h)))))
        h = norm(block["norm2"], h + gate(block["gate2"], attention(block, h)))
    np.testing.assert_allclose(y, conv(p["out"], f(h)), rtol=1e-11, atol=1e-11)


@pytest.mark.slow
def test_the_net_starts_as_zero_and_sees_all_pixels_of_its_own_image():
    net, x = SMALL_ATTENTION(3), jax.random.normal(jax.random.key(0), (2, 1, 12, 2))

    @jax.jit
    def measure(x):
        start, params = net.init_with_output(jax.random.key(2), x)
        params = moved(params, 0.3)
        corner = jax.grad(lambda x: jnp.asarray(net.apply(params, x))[0, 0, 0, 0])(x)
        return start, corner

    start, gradient = measure(x)
    np.testing.assert_array_equal(start, np.zeros((2, 1, 12, 3)))
    assert jnp.all(jnp.any(gradient[0] != 0, axis=-1))  # the convolutions alone reach 2 pixels
    np.testing.assert_array_equal(gradient[1], jnp.zeros_like(gradient[1]))


@pytest.mark.slow
@pytest.mark.float32
def test_the_net_in_bfloat16_keeps_parameters_and_output_in_float32():
    check_net_in_bfloat16(SMALL_ATTENTION)


# -------------------------------------------------------------------------------- dropout


@pytest.mark.slow
def test_dropout_needs_a_key_and_drops_the_same_both_ways():
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 2))
    dropping, whole = (
        glowjax.flowpp_step(net=functools.partial(SMALL_ATTENTION, dropout=p), components=2)
        for p in (0.5, 0.0)
    )
    params = moved(jax.jit(whole.init)(jax.random.key(1), x), 0.3)
    keys = jax.random.split(jax.random.key(2))
    forward = jax.jit(dropping.forward)
    z, log_det = forward(params, x, None, keys[0])
    back, back_log_det = jax.jit(dropping.inverse)(params, z, None, keys[0])
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back_log_det, -log_det, rtol=1e-9, atol=1e-9)
    without = jax.jit(whole.forward)(params, x, None, keys[0])[0]
    np.testing.assert_array_equal(forward(params, x)[0], without)
    others = [forward(params, x, None, key)[0] for key in keys] + [without]
    changed = [jnp.max(jnp.abs(a - b)) for a, b in itertools.pairwise(others)]
    assert min(changed) > 1e-3, changed


# ---------------------------------------------------------------------------------- model


@pytest.mark.parametrize("swap", [False, True])
def test_a_checkerboard_of_channels_is_the_checkerboard_of_the_mask(swap):
    x = jnp.arange(1.0, 49.0).reshape(1, 4, 6, 2)
    parts = partition("checkerboard", x, swap=swap)
    z, _ = glowjax.checkerboard_forward(x)
    halves = jnp.split(z, 2, axis=-1)
    for half, whole in zip(halves[::-1] if swap else halves, parts.split(x), strict=True):
        np.testing.assert_array_equal(jnp.sort(half.ravel()), jnp.sort(whole[whole > 0]))


@pytest.mark.slow
@pytest.mark.float32
def test_round_trips_in_float32():
    """Moved parameters are rougher than those of the trained model that docs/flows.md tells of."""
    flow = glowjax.chain(as_flow(glowjax.Logit(0.05)), glowjax.flowpp(**SMALL_FLOWPP, unroll=1))
    x = jax.random.uniform(jax.random.key(0), (8, 8, 8, 3)) - 0.5

    @jax.jit
    def measure(x):
        params = moved(flow.init(jax.random.key(1), x), 0.1)
        z, log_det = flow.forward(params, x)
        back, back_log_det = flow.inverse(params, z)
        return jnp.max(jnp.abs(back - x)), jnp.max(jnp.abs(log_det + back_log_det))

    error, log_det_error = measure(x)
    assert error < 1e-4, error
    assert log_det_error < 1e-2, log_det_error


@pytest.mark.slow
def test_the_program_does_not_grow_with_depth():
    x = jnp.zeros((1, 4, 4, 1))

    def equations(**depth):
        flow = glowjax.flowpp(**(SMALL_FLOWPP | depth))
        params = jax.eval_shape(flow.init, jax.random.key(0), x)
        return str(jax.make_jaxpr(flow.forward)(params, x)).count("\n")

    assert equations(steps=(2, 2, 2)) == equations(steps=(8, 5, 6), blocks=7)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "steps": ({"steps": (1, 2)}, r"steps must be three whole numbers, got \(1, 2\)"),
    "no step": ({"steps": (1, 0, 1)}, "n must be a whole number of at least 1, got 0"),
    "components": ({"components": 1}, "components must be a whole number of at least 2, got 1"),
    "backprop": ({"backprop": "forget"}, "backprop must be one of"),
    "heads": ({"heads": 3}, "width must be a multiple of 3, got 4"),
    "blocks": ({"blocks": 0}, "blocks must be a whole number of at least 1, got 0"),
    "dropout": ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_named(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        flow = glowjax.flowpp(**(SMALL_FLOWPP | options))
        jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 3, 1), "x must have an even width, got 4×3"),
        ((1, 3, 4, 1), "x must have height and width divisible by 2, got 3×4"),
        ((1, 4), "x must be"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_images_of_another_size_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(glowjax.flowpp(**SMALL_FLOWPP).init, jax.random.key(0), jnp.zeros(shape))


# ------------------------------------------------------------------------------- composed


def test_composed_maps_follow_each_other():
    first, second = glowjax.affine(), glowjax.affine(shift="last")
    raw, x = jnp.asarray([0.5, 0.2, -0.3, 0.1]), jnp.asarray(2.0)
    z, log_slope = glowjax.composed(first, second).forward(x, raw)
    np.testing.assert_allclose(z, 2.5 * np.exp(0.2) * np.exp(0.1) - 0.3, rtol=1e-12)
    np.testing.assert_allclose(log_slope, 0.3, rtol=1e-12)


def test_maps_that_cannot_be_composed_are_named():
    with pytest.raises(ValueError, match="transforms must be one elementwise map at least"):
        glowjax.composed()
    wrong: Any = 3
    with pytest.raises(ValueError, match=r"transforms\[1\] must be an Elementwise, .* got 3"):
        glowjax.composed(glowjax.affine(), wrong)
    with pytest.raises(ValueError, match=r"transforms\[0\].shared must be 0 .* got 2"):
        glowjax.composed(glowjax.affine(scale="tanh"))
