"""Samples of the plane to fit, `(key, n) -> [n, 2]` float32, independent of one another.

They are those of FFJORD's toy_data.py (Grathwohl et al. 2019) in shape, 6 to 8 units wide, except
`eight_gaussians`, whose density is known.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from glowjax.checks import check_positive
from glowjax.densities.targets import circular_gaussians


def two_moons(key: jax.Array, n: int) -> Float32[Array, "{n} 2"]:
    """Two half circles, one in the other's opening, with noise."""
    choice, along, noise = _keys(key, n)
    upper = jax.random.bernoulli(choice, shape=(n,))
    angle = _uniform(along, n, high=jnp.pi)
    x = _polar(angle)
    x = jnp.where(upper[:, None], x, jnp.array([1.0, 0.5], jnp.float32) - x)
    x = x + 0.1 * _normal(noise, n)
    return 2 * (x - jnp.array([0.5, 0.25], jnp.float32))


def eight_gaussians(key: jax.Array, n: int) -> Float32[Array, "{n} 2"]:
    """Samples of `glowjax.targets.circular_gaussians(8)`."""
    draw: Any = circular_gaussians(8).sample
    return draw(key, n).astype(jnp.float32)


def rings(key: jax.Array, n: int) -> Float32[Array, "{n} 2"]:
    """Four circles around the origin, equally likely, with noise."""
    choice, along, noise = _keys(key, n)
    radius = 0.75 * jax.random.randint(choice, (n,), 1, 5)
    return radius[:, None] * _polar(_uniform(along, n, high=2 * jnp.pi)) + 0.08 * _normal(noise, n)


def pinwheel(key: jax.Array, n: int) -> Float32[Array, "{n} 2"]:
    """Five normals, longer than wide, round the origin, each bent as it goes outwards."""
    choice, _, noise = _keys(key, n)
    x = _normal(noise, n) * jnp.array([0.3, 0.1], jnp.float32) + jnp.array([1.0, 0.0], jnp.float32)
    angle = 2 * jnp.pi / 5 * jax.random.randint(choice, (n,), 0, 5) + 0.25 * jnp.exp(x[:, 0])
    along, across = _polar(angle), _polar(angle + jnp.pi / 2)
    return 2 * (x[:, :1] * along + x[:, 1:] * across)


def spirals(key: jax.Array, n: int) -> Float32[Array, "{n} 2"]:
    """Two spirals, each the other turned by half a turn, with noise."""
    choice, along, noise = _keys(key, n)
    sign = jax.random.rademacher(choice, (n,), jnp.float32)
    angle = 3 * jnp.pi * jnp.sqrt(_uniform(along, n))
    x = (sign * angle)[:, None] * _polar(jnp.pi - angle)
    return x / 3 + 0.1 * _normal(noise, n)


def checkerboard(key: jax.Array, n: int) -> Float32[Array, "{n} 2"]:
    """The eight dark squares of a 4 × 4 board on [-4, 4]², uniformly."""
    choice, along, noise = _keys(key, n)
    column = jax.random.randint(choice, (n,), 0, 4)
    row = 2 * jax.random.randint(along, (n,), 0, 2) + column % 2
    corner = 2.0 * jnp.stack([column, row], axis=-1) - 4
    return corner + 2 * jax.random.uniform(noise, (n, 2), jnp.float32)


def swiss_roll(key: jax.Array, n: int) -> Float32[Array, "{n} 2"]:
    """One spiral of a turn and a half, with noise."""
    _, along, noise = _keys(key, n)
    angle = 1.5 * jnp.pi * (1 + _uniform(along, n, high=2.0))
    return (angle[:, None] * _polar(angle) + _normal(noise, n)) / 5


TOY = {
    f.__name__: f
    for f in (
        two_moons,
        eight_gaussians,
        rings,
        pinwheel,
        spirals,
        checkerboard,
        swiss_roll,
    )
}


def _keys(key, n):
    check_positive(n=n)
    return jax.random.split(key, 3)


def _uniform(key, n, high=1.0):
    return jax.random.uniform(key, (n,), jnp.float32, 0.0, high)


def _normal(key, n):
    return jax.random.normal(key, (n, 2), jnp.float32)


def _polar(angle):
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
