"""Sums of whole numbers are exact in float32, so a net in them is the same on every machine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax.codec.quantized import (
    EXACT,
    HIDDEN,
    SEEN,
    QuantizedConvNet,
    whole_matmul,
    whole_matrix,
)


def product(x, by):
    return np.asarray(jax.vmap(lambda row: whole_matmul(row, by))(jnp.asarray(x, jnp.float32)))


@pytest.mark.parametrize(("bits", "signed"), [(SEEN, True), (HIDDEN, False)])
@pytest.mark.parametrize("size", [1e-9, 1.0, 300.0])
def test_products_are_exact_in_any_order(bits, signed, size):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(200, 512)) ** 3, size * rng.normal(size=(512, 40)) ** 3
    weight[:, 0], weight[:, 1] = size, 0  # the largest sum of all, and the least
    x = x if signed else np.abs(x)
    x[0], x[1] = 1.999, 0
    by = whole_matrix(jnp.asarray(weight), bits, signed=signed)
    z, order = product(x, by), rng.permutation(512)
    moved = whole_matrix(jnp.asarray(weight[order]), bits, signed=signed)
    np.testing.assert_array_equal(z, product(x[:, order], moved))
    # The same in whole numbers of 64 bits:
    _, exponents = np.frexp(np.abs(x.astype(np.float32)).max(axis=1, keepdims=True))
    whole = np.rint(np.ldexp(x.astype(np.float32), bits - exponents)).astype(np.int64)
    sums = whole @ np.asarray(by.matrix).astype(np.int64)
    assert np.abs(sums).max() <= 2**EXACT
    assert np.abs(sums).max() > 2 ** (EXACT - 2)  # no bits are given away
    exact = np.ldexp(sums.astype(np.float64), exponents - bits + np.asarray(by.exponents))
    np.testing.assert_array_equal(z, exact)
    assert np.abs(z - x @ weight).max() < 0.02 * np.abs(x @ weight).max()


@pytest.mark.parametrize("options", [{}, {"ring": False, "norm": False}])
def test_a_quantized_net_is_near_the_net(options):
    rng, options = np.random.default_rng(0), {"features": 6, "width": 32} | options
    x = jnp.asarray(rng.normal(size=(5, 4, 4, 3)))
    net = glowjax.ConvNet(**options)
    params = net.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape), params)
    quantized = QuantizedConvNet(**options)
    y = np.asarray(net.apply({"params": params}, x))
    z = np.asarray(quantized.apply(quantized.prepare(params), x))
    assert z.dtype == np.float64
    assert 0 < np.sqrt(np.mean((y - z) ** 2)) < 0.005 * np.std(y)
