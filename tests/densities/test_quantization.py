"""Whole numbers and floats: bins, noise, and what bits/dim counts."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe_numpy

import glowjax
from glowjax.densities.quantization import _noise, place

LEVELS = [2, 17, 32, 252, 256]  # 252: as hard to float32 as it gets


def greys(levels, copies=1):
    """`copies` images `[copies, levels]`, each of all grey levels."""
    return np.tile(np.arange(levels, dtype=np.uint8), (copies, 1))


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("levels", LEVELS)
def test_quantize_undoes_dequantize(levels, x64):
    images = greys(levels, 500)
    with jax.enable_x64(x64):
        x = jax.jit(lambda v: glowjax.dequantize(jax.random.key(0), v, levels=levels))(images)
        assert x.dtype == jnp.float32 and x.shape == images.shape
        back = glowjax.quantize(x, levels=levels)
    assert back.dtype == jnp.uint8
    np.testing.assert_array_equal(back, images)
    # In float64, where nothing rounds: strictly inside its own bin.
    fraction = (np.asarray(x, np.float64) + 0.5) * levels - images
    assert 0 < fraction.min() < 0.01 and 0.99 < fraction.max() < 1
    assert abs(fraction.mean() - 0.5) < 5 * np.sqrt(1 / 12 / fraction.size)
    assert abs(fraction.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / fraction.size)


@pytest.mark.slow
@pytest.mark.parametrize("levels", LEVELS)
def test_the_outermost_noise_stays_in_its_bin(levels):
    for extreme in (0.5 / 2**13, 1 - 0.5 / 2**13):
        compiled = jax.jit(lambda v, u=extreme: place(v, jnp.float32(u), levels))
        for x in (compiled(greys(levels)), place(greys(levels), jnp.float32(extreme), levels)):
            np.testing.assert_array_equal(glowjax.quantize(x, levels=levels), greys(levels))
            fraction = (np.asarray(x, np.float64) + 0.5) * levels - greys(levels)
            assert fraction.min() > 0 and fraction.max() < 1


def test_noise_takes_its_outermost_values():
    u = np.asarray(_noise(jax.random.key(0), (2**18,)))
    assert u.min() == 0.5 / 2**13 and u.max() == 1 - 0.5 / 2**13


@pytest.mark.parametrize("levels", LEVELS)
def test_bin_centres(levels):
    x = glowjax.bin_centres(greys(levels), levels=levels)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, (greys(levels) + 0.5) / levels - 0.5, atol=1e-7)
    np.testing.assert_array_equal(glowjax.quantize(x, levels=levels), greys(levels))


@pytest.mark.slow
@pytest.mark.parametrize("raw", [False, True])
def test_keys_of_examples_give_what_one_by_one_gives(raw):
    images = greys(32, 3)
    keys = jax.random.split((jax.random.PRNGKey if raw else jax.random.key)(1), 3)
    together = glowjax.dequantize(keys, images, levels=32)
    for i in range(3):
        alone = glowjax.dequantize(keys[i], images[i], levels=32)
        np.testing.assert_array_equal(together[i], alone)
        in_a_batch = glowjax.dequantize(keys[i : i + 1], images[i : i + 1], levels=32)
        np.testing.assert_array_equal(together[i], in_a_batch[0])
    assert jnp.any(together[0] != together[1])


@pytest.mark.parametrize("bits", [8, 5])
def test_the_recipe_preprocesses_alike(bits):
    images = greys(256, 50)
    values = images >> (8 - bits)
    x = np.asarray(glowjax.dequantize(jax.random.key(0), values, levels=2**bits), np.float64)
    noise = (x + 0.5) * 2**bits - values
    np.testing.assert_array_equal(x, recipe_numpy.preprocess(images, noise, bits))
    shown = glowjax.to_uint8(glowjax.quantize(jnp.asarray(x), levels=2**bits), levels=2**bits)
    np.testing.assert_array_equal(shown, recipe_numpy.decode_uint8(x, bits))


def test_to_uint8():
    np.testing.assert_array_equal(glowjax.to_uint8(greys(256)), greys(256))
    np.testing.assert_array_equal(glowjax.to_uint8(greys(2), levels=2), [[0, 128]])
    np.testing.assert_array_equal(
        glowjax.to_uint8(greys(17), levels=17)[0, [0, 8, 16]], [0, 120, 240]
    )


def test_quantize_clips():
    x = jnp.array([-3.0, -0.5, 0.4999, 0.5, 7.0])
    np.testing.assert_array_equal(glowjax.quantize(x, levels=4), [0, 0, 3, 3, 3])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.int64])
def test_out_of_range_is_nan_under_jit(dtype):
    wrong = 2**32 if dtype is np.int64 else -1  # which int32 takes for 0
    images = np.array([[0, 16, 17, wrong]]).astype(dtype)
    expected = [[False, False, True, True]]
    noisy = functools.partial(glowjax.dequantize, jax.random.key(0))
    for put in (glowjax.bin_centres, noisy):
        x = jax.jit(functools.partial(put, levels=17))(images)
        np.testing.assert_array_equal(jnp.isnan(x), expected)


ERRORS: dict[str, tuple[Any, Any, str]] = {
    "too large": (
        np.array([[0, 3], [0, 17], [17, 0]]),
        17,
        r"images must be in 0\.\.16 for levels=17, got 0\.\.17, image 1 ",
    ),
    "negative": (np.array([[-1, 3]]), 17, r"images must be .* got -1\.\.3"),
    "floats": (np.array([[0.5]]), 17, "images must be integers .* got float"),
    "one level": (np.array([[0]]), 1, "levels must be .* got 1"),
    "257 levels": (np.array([[0]]), 257, "levels must be .* got 257"),
    "levels not whole": (np.array([[0]]), 8.0, r"levels must be .* got 8\.0"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    images, levels, message = ERRORS[name]
    for f in (
        lambda: glowjax.dequantize(jax.random.key(0), images, levels=levels),
        lambda: glowjax.bin_centres(images, levels=levels),
        lambda: glowjax.to_uint8(images, levels=levels),
    ):
        with pytest.raises(ValueError, match=message):
            f()
    if "level" in name:
        with pytest.raises(ValueError, match="levels must be"):
            glowjax.quantize(jnp.zeros((1, 1)), levels=levels)
        with pytest.raises(ValueError, match="levels must be"):
            glowjax.bits_per_dim(jnp.zeros(1), (1,), levels=levels)


@pytest.mark.parametrize("levels", LEVELS)
def test_uniform_density_costs_log2_levels(levels):
    # p = 1 on [-½, ½)^D: log p = 0
    bits = glowjax.bits_per_dim(jnp.zeros(3), (4, 4, 3), levels=levels)
    np.testing.assert_allclose(bits, np.full(3, np.log2(levels)), rtol=1e-15)


def test_bits_per_dim_is_the_code_length_of_the_discrete_image():
    """A density constant on each bin, P(v)·levels^D, loses nothing to the noise.

    Charging a wrong width of the bin, or a wrong D, would show here.
    """
    levels, shape = 17, (2, 3, 1)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(levels), size=shape)
    images = np.random.default_rng(1).integers(0, levels, (5, *shape), dtype=np.uint8)
    x = glowjax.dequantize(jax.random.key(0), images, levels=levels)
    bins = np.asarray(glowjax.quantize(x, levels=levels))
    probability = np.take_along_axis(probabilities[None], bins[..., None].astype(int), axis=-1)
    log_density = np.log(probability * levels).sum(axis=(1, 2, 3, 4))
    expected = -np.log2([
        np.prod([probabilities[*index, v] for index, v in np.ndenumerate(image)])
        for image in images
    ]) / images[0].size  # fmt: skip
    bits = glowjax.bits_per_dim(log_density, shape, levels=levels)
    np.testing.assert_allclose(bits, expected, rtol=1e-12)
    wrong = glowjax.bits_per_dim(log_density, shape, levels=16)
    assert np.all(np.abs(wrong - expected) > 0.05)


@pytest.mark.parametrize("levels", [17, 256])
def test_bits_per_dim_is_the_recipes(levels):
    log_prob = np.array([-1000.0, 2000.0])
    expected = recipe_numpy.bits_per_dim(log_prob, 768, levels)
    bits = glowjax.bits_per_dim(log_prob, (16, 16, 3), levels=levels)
    np.testing.assert_allclose(bits, expected, rtol=1e-14)


def test_noise_bounds_the_code_length():
    """Jensen: for any density, the expectation over the noise is at least -log2 ∫ p."""
    levels = 4
    x = glowjax.dequantize(jax.random.key(0), np.repeat(greys(levels), 2000, 0), levels=levels)
    log_density = jnp.log(1.5 - 6 * x**2)  # 1 on the whole
    bits = jnp.mean(glowjax.bits_per_dim(log_density, (1,), levels=levels), axis=0)
    edges = np.arange(levels + 1) / levels - 0.5
    exact = -np.log2(np.diff(1.5 * edges - 2 * edges**3))
    assert np.all(bits > exact) and np.all(bits < exact + 0.5)


def test_known_images_are_checked_inside_jit_too():
    images = greys(256)
    x = jax.jit(lambda key: glowjax.dequantize(key, images))(jax.random.key(0))
    np.testing.assert_array_equal(glowjax.quantize(x), images)


def test_one_key_per_image_is_one_for_each():
    with pytest.raises(ValueError, match="key must be one key, or one for each of 2 images, got 3"):
        glowjax.dequantize(jax.random.split(jax.random.key(0), 3), np.zeros((2, 4), np.uint8))


@pytest.mark.parametrize("event_shape", [6, (0,), (2, -1), (2.5,)])
def test_event_shape_is_of_sizes(event_shape):
    with pytest.raises(ValueError, match="event_shape must be"):
        glowjax.bits_per_dim(np.zeros(2), event_shape)
    with pytest.raises(ValueError, match="event_shape must be"):
        glowjax.density(glowjax.as_flow(glowjax.Reverse()), event_shape)


@pytest.mark.parametrize("levels", [2, 17, 32, 255, 256])
def test_eight_bits_are_turned_back_into_levels(levels):
    images = np.arange(levels, dtype=np.uint8)[:, None]
    eight = glowjax.to_uint8(images, levels=levels)
    np.testing.assert_array_equal(glowjax.from_uint8(eight, levels=levels), images)
    every = glowjax.from_uint8(np.arange(256)[:, None], levels=levels)
    assert (every.min(), every.max(), every.dtype) == (0, levels - 1, np.uint8)
