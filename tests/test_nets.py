"""The conditioners' convolution against XLA's own, and what the nets promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax.nets import conv


def reference(x, weight, padding="SAME"):
    return jax.lax.conv_general_dilated(
        x,
        weight,
        window_strides=(1, 1),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


def with_ring(x, edge):
    """`x` padded, with one more channel: 1 on the padding, 0 inside."""
    pad = ((0, 0), (edge, edge), (edge, edge), (0, 0))
    ring = jnp.pad(jnp.zeros((*x.shape[:3], 1), x.dtype), pad, constant_values=1)
    return jnp.concatenate([jnp.pad(x, pad), ring], axis=-1)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("channels, features", [(2, 7), (7, 2), (4, 4)])  # narrow in, narrow out
def test_conv_is_xlas(size, channels, features):
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, channels))
    weight = jax.random.normal(jax.random.key(1), (size, size, channels + 1, features))

    @jax.jit
    def both(x, weight):
        plain = conv(x, weight[:, :, :-1]), reference(x, weight[:, :, :-1])
        ringed = conv(x, weight), reference(with_ring(x, size // 2), weight, "VALID")
        return plain, ringed

    for ours, expected in both(x, weight):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels, features", [(2, 7), (7, 2)])
def test_bfloat16_conv_rounds_once(channels, features):
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, channels), jnp.bfloat16)
    weight = jax.random.normal(jax.random.key(1), (3, 3, channels + 1, features), jnp.float32)
    y = jax.jit(conv)(x, weight)
    assert y.dtype == (jnp.bfloat16 if channels < features else jnp.float32)
    exact = reference(with_ring(x, 1).astype(float), weight.astype(float), "VALID")
    # bfloat16 has 8 bits: weights and result round to 2⁻⁹ each, sums of some 20 terms
    assert jnp.max(jnp.abs(y - exact)) < 2**-9 * 3 * jnp.max(jnp.abs(exact))


@pytest.mark.float32
@pytest.mark.parametrize("options", [{}, {"ring": False, "norm": False}])
def test_convnet_in_bfloat16_keeps_parameters_and_output_in_float32(options):
    net = functools.partial(
        glowjax.ConvNet, 4, width=8, output_init=jax.nn.initializers.normal(0.05), **options
    )
    x = jax.random.normal(jax.random.key(0), (4, 4, 4, 2))

    @jax.jit
    def outputs(x):
        params = net(dtype=jnp.bfloat16).init(jax.random.key(1), x)
        return params, net(dtype=jnp.bfloat16).apply(params, x), net().apply(params, x)

    params, low, full = outputs(x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert low.dtype == full.dtype == jnp.float32 and low.shape == (4, 4, 4, 4)
    assert 0 < jnp.max(jnp.abs(low - full)) < 0.03 * jnp.max(jnp.abs(full))


def test_convnet_starts_as_zero_and_ignores_context():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 2))
    y, params = jax.jit(glowjax.ConvNet(6, width=4).init_with_output)(jax.random.key(1), x, x)
    np.testing.assert_array_equal(y, np.zeros((2, 4, 4, 6)))
    shapes = jax.tree.map(jnp.shape, params["params"])
    assert shapes["conv1"]["weight"] == (3, 3, 3, 4)
    assert shapes["conv2"]["weight"] == (1, 1, 4, 4)
    assert shapes["out"]["weight"] == (3, 3, 5, 6)


def test_hidden_weights_are_drawn_with_deviation_005():
    x = jnp.ones((1, 2, 2, 7))
    params = jax.jit(glowjax.ConvNet(2, width=200).init)(jax.random.key(0), x)["params"]
    for layer in ("conv1", "conv2"):
        weight = np.asarray(params[layer]["weight"])
        assert abs(weight.std() - 0.05) < 0.001 and abs(weight.mean()) < 0.002


def test_mlp_reads_its_context():
    net = glowjax.MLP(3, width=8)
    x, context = jax.random.normal(jax.random.key(0), (2, 5, 2))

    @jax.jit
    def measure(x, context):
        params = net.init(jax.random.key(1), x, context)
        start = net.apply(params, x, context)
        moved = jax.tree.map(lambda p: p + 0.1, params)
        one_input = net.apply(moved, jnp.concatenate([x, context], axis=-1))
        gradient = jax.grad(lambda c: jnp.sum(jnp.asarray(net.apply(moved, x, c))))(context)
        return start, net.apply(moved, x, context), one_input, gradient

    start, y, one_input, gradient = measure(x, context)
    np.testing.assert_array_equal(start, np.zeros((5, 3)))
    np.testing.assert_allclose(y, one_input, rtol=1e-12)
    assert jnp.all(gradient != 0)
