"""Scores of anomaly against what they must be for images of known make."""

import io

import numpy as np
import pytest
from PIL import Image

from glowjax.densities.anomaly import complexity_bits, typicality


def test_typicality_is_the_distance_from_the_mean_either_way():
    np.testing.assert_array_equal(typicality([1.0, 3.0, 8.0], [2.0, 4.0]), [2, 0, 5])


def test_noise_takes_its_entropy_and_a_constant_next_to_nothing():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, 32, 32, 1), np.uint8)
    coarse = rng.integers(0, 2, (3, 32, 32, 1), np.uint8) * np.uint8(255)
    bits = complexity_bits(np.concatenate([noise, coarse, np.zeros_like(noise)]))
    header = complexity_bits(np.zeros((1, 32, 32, 1), np.uint8))[0]
    assert (bits[:3] > 8 * 32 * 32).all() and (bits[:3] < 9 * 32 * 32).all()
    assert (bits[3:6] > 32 * 32).all() and (bits[3:6] < 3 * 32 * 32).all()
    np.testing.assert_array_equal(bits[6:], header)


@pytest.mark.parametrize("channels", [1, 3])
def test_complexity_is_of_an_image_alone_and_without_loss(channels):
    images = np.random.default_rng(0).integers(0, 9, (4, 6, 5, channels), np.uint8)
    bits = complexity_bits(images)
    assert bits.shape == (4,)
    np.testing.assert_array_equal(complexity_bits(images[2:]), bits[2:])
    png = io.BytesIO()
    picture = Image.fromarray(images[0].squeeze() if channels == 1 else images[0])
    picture.save(png, "PNG", optimize=True)
    assert bits[0] == 8 * len(png.getvalue())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: typicality(np.zeros((2, 2)), [1.0]), r"log_prob must be of shape \[N\]"),
        (lambda: typicality([1.0], []), r"reference must be of shape \[M\], M at least 1"),
        (lambda: complexity_bits(np.zeros((1, 2, 2, 1))), "images must be uint8, got dtype"),
        (lambda: complexity_bits(np.zeros((1, 2, 2), np.uint8)), r"images must be of shape \[N, H"),
        (lambda: complexity_bits(np.zeros((1, 2, 2, 4), np.uint8)), "images must be of shape"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
