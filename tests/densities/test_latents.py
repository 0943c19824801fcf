"""Blends of latents, directions of attributes, levels drawn anew."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

STRAIGHT: Any = "straight"  # no path


def latents(seed, batch=3):
    keys = jax.random.split(jax.random.key(seed))
    return (
        jax.random.normal(keys[0], (batch, 4, 4, 2)),
        jax.random.normal(keys[1], (batch, 2, 2, 8)),
    )


def vectors(z, axis=1):
    leaves = jax.tree.leaves(z)
    return np.concatenate([np.reshape(h, (*h.shape[:axis], -1)) for h in leaves], axis=-1)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_path_goes_from_end_to_end(path):
    a, b = latents(0), latents(1)
    between = vectors(glowjax.interpolate(a, b, 5, path=path), 2)
    np.testing.assert_allclose(between[0], vectors(a), atol=1e-12)
    np.testing.assert_allclose(between[-1], vectors(b), atol=1e-12)


def test_the_linear_path_is_even():
    a, b = latents(0), latents(1)
    between = vectors(glowjax.interpolate(a, b, 5, path="linear"), 2)
    np.testing.assert_allclose(between[2], (vectors(a) + vectors(b)) / 2)


def test_the_spherical_path_keeps_norm_and_pace():
    a, b = latents(0), latents(1)
    norm = [np.linalg.norm(vectors(z), axis=1)[:, None, None, None] for z in (a, b)]
    a, b = (jax.tree.map(lambda h, n=n: h / n, z) for z, n in zip((a, b), norm, strict=True))
    between = vectors(glowjax.interpolate(a, b, 9), 2)
    np.testing.assert_allclose(np.linalg.norm(between, axis=-1), 1)
    angles = np.arccos(np.sum(between[1:] * between[:-1], axis=-1))
    np.testing.assert_allclose(angles, np.broadcast_to(angles[0], angles.shape), rtol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_spherical_path_between_parallel_latents_is_the_linear_one(factor):
    a = latents(0)
    b = jax.tree.map(lambda h: factor * h, a)
    spherical, linear = (
        vectors(glowjax.interpolate(a, b, 4, path=p), 2) for p in ("spherical", "linear")
    )
    np.testing.assert_allclose(spherical, linear, atol=1e-6)


def test_a_direction_is_a_difference_of_means():
    base, attribute = latents(0, 1), latents(1, 1)
    with_it = jax.tree.map(
        lambda h, d: h + d + jnp.array([-1.0, 1.0])[:, None, None, None], base, attribute
    )
    direction = glowjax.attribute_direction(with_it, base)
    jax.tree.map(lambda d, a: np.testing.assert_allclose(d, a[0]), direction, attribute)


def test_other_levels_are_kept():
    z = latents(0, 2000)
    low, top = glowjax.redraw_levels(jax.random.key(1), z, [1], temperature=0.5)
    np.testing.assert_array_equal(top, z[1])
    assert abs(np.std(low) - 0.5) < 0.01 and abs(np.mean(low * z[0])) < 0.01


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda z: glowjax.interpolate(z, z[:1], 3), "latents must be of one structure"),
        (lambda z: glowjax.interpolate(z, latents(0, 2), 3), "latents must be of one structure"),
        (lambda z: glowjax.interpolate(z, z, 1), "n must be at least 2"),
        (lambda z: glowjax.interpolate(z, z, 3, path=STRAIGHT), "path must be"),
        (lambda z: glowjax.attribute_direction(z, latents(0, 0)), "one example at least"),
        (lambda z: glowjax.redraw_levels(jax.random.key(0), z, [3]), "levels must be in 1..2"),
        (
            lambda z: glowjax.redraw_levels(jax.random.key(0), z[0], [1]),
            "z must be one latent a level",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(latents(0))
