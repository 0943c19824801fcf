"""The kernels against exact products: interpreted on the CPU, and lowered for the GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import whole
from jax.experimental.pallas import mosaic_gpu as plgpu

import glowjax
from glowjax.nets import hopper, kernels

ROUNDING = 2.0**-8  # bfloat16 has 8 bits: what one rounding errs by, at most, relative
NOISE = 1e-4  # of sums of up to 512 products of about 1 in float32, absolute
SHAPES = {
    "less tiles than blocks": (128, 64, 256),
    "more tiles than blocks, several a row": (384, 128, 512),
    "more steps than the pipeline holds": (256, 512, 256),
}
AWKWARD = [(127, 64, 256), (128, 32, 256), (128, 65, 256), (128, 64, 128), (128, 64, 260)]

pytestmark = pytest.mark.float32


@pytest.fixture
def on_hopper(monkeypatch):
    """The kernels believe to be on a GPU with two multiprocessors."""
    if jax.__version_info__ < (0, 11):
        pytest.skip(
            f"jax {jax.__version__} has another `plgpu.load`; there the kernels are not used"
        )
    monkeypatch.setattr(kernels, "_on_hopper", lambda: True)
    monkeypatch.setattr(hopper, "_multiprocessors", lambda: 2)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.fixture
def interpreted(on_hopper, monkeypatch):
    """They also run here, as Pallas simulates them: buffers, barriers and all."""
    monkeypatch.setattr(kernels, "_choose", lambda fused, plain, *args: fused(*args))
    params = getattr(plgpu, "InterpretGPUParams")()  # noqa: B009 (jax 0.10 has it elsewhere)
    kernel = functools.partial(plgpu.kernel, interpret=params)
    monkeypatch.setattr(plgpu, "kernel", kernel)


def operands(m, k, n):
    """`x [M, K]`, `weight [K, N]`, `bias [N]`, `h [M, N]`, a ReLU's result: half of it is 0."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(m, k), (k, n), (n,), (m, n)]
    draws = zip(keys, shapes, strict=True)
    x, weight, bias, h = [jax.random.normal(key, s, jnp.bfloat16) for key, s in draws]
    return x, weight, bias, jax.nn.relu(h)


def check_bias_relu(x, weight, bias, *, once):
    """`once`: the sum alone is rounded, not the product before."""
    y = kernels.matmul_bias_relu(x, weight, bias)
    assert y.dtype == x.dtype
    x, weight, bias, y = (np.asarray(a, np.float64) for a in (x, weight, bias, y))
    product = x @ weight
    expected = np.maximum(product + bias, 0)
    rounded = expected + (0 if once else np.abs(product))
    assert np.all(np.abs(y - expected) <= ROUNDING * rounded + NOISE)


def check_where_positive(x, weight, h):
    alone = kernels.matmul_where_positive(x, weight, h)
    y, sums = kernels.matmul_where_positive(x, weight, h, sums=True)
    assert alone.dtype == y.dtype == x.dtype and sums.dtype == jnp.float32
    np.testing.assert_array_equal(alone, y)
    x, weight, h, y, sums = (np.asarray(a, np.float64) for a in (x, weight, h, y, sums))
    expected = np.where(h > 0, x @ weight, 0)
    np.testing.assert_allclose(y, expected, rtol=ROUNDING, atol=NOISE)
    # of numbers before or after they are rounded
    assert np.all(np.abs(sums - expected.sum(0)) <= ROUNDING * np.abs(expected).sum(0) + NOISE)


@pytest.mark.parametrize("name", SHAPES)
def test_interpreted_kernel_adds_bias_and_applies_relu(name, interpreted):
    x, weight, bias, _ = operands(*SHAPES[name])
    check_bias_relu(x, weight, bias, once=True)


@pytest.mark.parametrize("name", SHAPES)
def test_interpreted_kernel_masks_and_sums_columns(name, interpreted):
    x, weight, _, h = operands(*SHAPES[name])
    check_where_positive(x, weight, h)


def test_interpreted_kernel_under_vmap(interpreted):
    x, weight, bias, _ = operands(128, 64, 256)
    y = jax.vmap(lambda x: kernels.matmul_bias_relu(x, weight, bias))(jnp.stack([x, -x]))
    np.testing.assert_array_equal(y[0], kernels.matmul_bias_relu(x, weight, bias))
    np.testing.assert_array_equal(y[1], kernels.matmul_bias_relu(-x, weight, bias))


def test_gradient_through_interpreted_kernels_is_xlas(interpreted, monkeypatch):
    """Exactly, for all numbers are whole; but sums over the batch are rounded once, by 2⁻⁸."""
    loss, params, x = net_loss()
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)
    monkeypatch.setattr(kernels, "_choose", lambda fused, plain, *args: plain(*args))
    due, expected = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)
    assert value == due != 0

    def check(a, b):
        assert np.any(b != 0) and np.all(np.abs(a - b) <= ROUNDING * np.max(np.abs(b)))

    jax.tree.map(check, gradients, expected)


def net_loss():
    """A loss of a net, its parameters and its input, of shapes that fit the kernels."""
    net = glowjax.ConvNet(4, 256, dtype=jnp.bfloat16)
    x = jax.random.randint(jax.random.key(0), (2, 8, 8, 2), -2, 3).astype(jnp.float32)

    def loss(params, x):
        y = jnp.asarray(net.apply({"params": params}, x))
        return jnp.sum(y * jax.random.randint(jax.random.key(3), y.shape, -1, 2))

    return loss, whole(jax.jit(net.init)(jax.random.key(1), x)["params"], jax.random.key(2)), x


def kernels_in(function, *args):
    """How many kernels are in the program that `function` becomes on an NVIDIA GPU."""
    lowered = (
        jax.jit(lambda *args: function(*args)).trace(*args).lower(lowering_platforms=("cuda",))
    )
    return lowered.as_text().count("custom_call @mosaic_gpu")


@pytest.mark.parametrize("x64", [False, True])
def test_kernels_lower_for_the_gpu(x64, on_hopper):
    with jax.enable_x64(x64):
        x, weight, bias, h = operands(256, 128, 512)
        masked = functools.partial(kernels.matmul_where_positive, x, weight)
        assert kernels_in(kernels.matmul_bias_relu, x, weight, bias) == 1
        assert kernels_in(masked, h) == kernels_in(functools.partial(masked, sums=True), h) == 1


def test_nets_run_in_kernels(on_hopper):
    loss, params, x = net_loss()
    assert kernels_in(loss, params, x) == 1
    assert kernels_in(jax.grad(loss), params, x) == 3


@pytest.mark.parametrize("shape", AWKWARD)
def test_shapes_that_do_not_fit_are_left_to_xla(shape, on_hopper):
    x, weight, bias, h = operands(*shape)
    assert kernels_in(kernels.matmul_bias_relu, x, weight, bias) == 0
    check_bias_relu(x, weight, bias, once=False)
    check_where_positive(x, weight, h)


def test_float32_is_left_to_xla(on_hopper):
    x, weight, bias, _ = (a.astype(jnp.float32) for a in operands(128, 64, 256))
    assert kernels_in(kernels.matmul_bias_relu, x, weight, bias) == 0


@pytest.mark.slow
def test_other_machines_leave_it_to_xla():
    x, weight, bias, h = operands(128, 64, 256)
    assert kernels_in(kernels.matmul_bias_relu, x, weight, bias) == 0
    check_bias_relu(x, weight, bias, once=False)
    check_where_positive(x, weight, h)


def test_a_machine_with_the_gpu_still_runs_on_its_cpu(on_hopper):
    x, weight, bias, _ = operands(128, 64, 256)
    check_bias_relu(x, weight, bias, once=False)
