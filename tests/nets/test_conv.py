"""The nets' convolutions, which are matrix products, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glowjax.nets import conv
from glowjax.nets.resnet import WeightNormConv

CHANNELS = [(1, 1), (2, 7), (7, 2), (3, 12), (12, 3), (24, 24)]  # and not whole lanes
close = np.testing.assert_allclose


def xlas(x, weight, padding="SAME"):
    return jax.lax.conv_general_dilated(
        x,
        weight,
        window_strides=(1, 1),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


def expected(x, weight, bias, *, ring):
    """The convolution with bias; with the ring, one more channel: 1 on the padding, 0 inside."""
    if not ring:
        return xlas(x, weight) + bias
    pad = ((0, 0), (1, 1), (1, 1), (0, 0))
    edge = jnp.pad(jnp.zeros((*x.shape[:3], 1), x.dtype), pad, constant_values=1)
    return xlas(jnp.concatenate([jnp.pad(x, pad), edge], axis=-1), weight, "VALID") + bias


def operands(channels, features, *, ring=False):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 4, 5, channels))
    weight = jax.random.normal(keys[1], (3, 3, channels + ring, features))
    return x, weight, jax.random.normal(keys[2], (features,))


@pytest.mark.slow
@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("channels, features", CHANNELS)
def test_product_of_patches_is_xlas_convolution(channels, features, ring):
    x, weight, bias = operands(channels, features, ring=ring)
    gathered, matrix = conv.patches(x, ring=ring), conv.patch_weight(weight, bias)
    assert gathered.shape[-1] == len(matrix) and len(matrix) % conv.LANES == 0
    y = conv.matmul(gathered, matrix)
    close(y, expected(x, weight, bias, ring=ring), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("channels, features", CHANNELS)
def test_sum_of_taps_is_xlas_convolution(channels, features, ring):
    x, weight, bias = operands(channels, features, ring=ring)
    taps = conv.taps(weight, bias, ring=ring, dtype=x.dtype)
    assert taps.matrix.shape[1] % conv.LANES == 0
    y = conv.conv_by_taps(x, taps)
    close(y, expected(x, weight, bias, ring=ring), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 1)])  # the padding is all that taps see
def test_smallest_images(shape):
    _, weight, bias = operands(3, 4, ring=True)
    x = jax.random.normal(jax.random.key(1), (2, *shape, 3))
    due = expected(x, weight, bias, ring=True)
    gathered = conv.matmul(conv.patches(x, ring=True), conv.patch_weight(weight, bias))
    close(gathered, due, rtol=1e-12, atol=1e-12)
    summed = conv.conv_by_taps(x, conv.taps(weight, bias, ring=True, dtype=x.dtype))
    close(summed, due, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("features", [1, 4, 7])
def test_spread_to_taps_is_the_transpose_of_sum_of_taps(features):
    lanes = 64
    g = jax.random.normal(jax.random.key(0), (2, 4, 5, features))
    like = jax.ShapeDtypeStruct((2, 4, 5, lanes), g.dtype)
    (due,) = jax.linear_transpose(lambda y: conv.sum_of_taps(y, features), like)(g)
    np.testing.assert_array_equal(conv.spread_to_taps(g, lanes), due)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 5)])
def test_ring_conv_is_xlas_convolution_of_zeros(size):
    weight = jax.random.normal(jax.random.key(0), (3, 3, 1, 6))
    ringed = jnp.concatenate([jnp.zeros((3, 3, 1, 6)), weight], axis=2)
    due = expected(jnp.zeros((1, *size, 1)), ringed, 0.0, ring=True)
    close(conv.ring_conv(*size, weight), due, rtol=1e-12, atol=1e-12)


@pytest.mark.float32
def test_float32_products_are_not_rounded_to_less():
    """Their precision is asked for, since a GPU's default is TF32; bfloat16 is what it says."""

    def precision(dtype):
        x, weight = jnp.ones((2, 4), dtype), jnp.ones((4, 3))
        assert conv.matmul(x, weight).dtype == dtype
        return str(jax.make_jaxpr(conv.matmul)(x, weight))

    assert "HIGHEST" in precision(jnp.float32)
    assert "HIGHEST" not in precision(jnp.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("narrow", ["in", "out"])
def test_bfloat16_rounds_once(narrow):
    """Operands have 8 bits and products are exact, so that only weights and results round."""
    x, weight, bias = operands(*((2, 7) if narrow == "in" else (7, 2)), ring=True)
    low = x.astype(jnp.bfloat16)
    if narrow == "in":
        y = conv.matmul(conv.patches(low, ring=True), conv.patch_weight(weight, bias))
    else:
        y = conv.conv_by_taps(low, conv.taps(weight, bias, ring=True, dtype=low.dtype))
    due = expected(low.astype(x.dtype), weight, bias, ring=True)
    # 2⁻⁹ for a weight and for a result, of sums of some 20 terms of both signs
    assert jnp.max(jnp.abs(y - due)) < 2**-9 * 3 * jnp.max(jnp.abs(due))


@pytest.mark.parametrize("dtype, tolerance", [(jnp.bfloat16, 2e-2), (jnp.float32, 1e-6)])
def test_a_weight_normalised_convolution_is_xlas_in_the_dtype_of_its_input(dtype, tolerance):
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3)).astype(dtype)
    y, params = WeightNormConv(6).init_with_output(jax.random.key(1), x)
    layer = params["params"]
    norms = jnp.linalg.norm(layer["direction"].reshape(-1, 6), axis=0)
    full = xlas(x.astype(jnp.float32), layer["direction"] * layer["scale"] / norms) + layer["bias"]
    assert y.dtype == dtype
    assert jnp.linalg.norm(y - full) < tolerance * jnp.linalg.norm(full)
