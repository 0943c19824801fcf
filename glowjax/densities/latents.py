"""What is done to latents: blends, directions of attributes, levels drawn anew."""

import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from glowjax.arrays import split_key
from glowjax.checks import NON_NEGATIVE, check_choice, check_in, check_positive, require

Path = Literal["spherical", "linear"]


def interpolate(a: Any, b: Any, n: int, *, path: Path = "spherical") -> Any:
    """Latents on the way from `a` to `b`: n of them, both ends included.

        linear:     (1 - t)·a + t·b
        spherical:  sin((1 - t)·ω)/sin ω·a + sin(t·ω)/sin ω·b,  ω the angle of a and b

    with t = 0, 1/(n - 1), …, 1. Whitened latents have norms near √D, which the spherical path
    keeps; halfway along the linear one, they are shorter by a factor √2.

    Args:
        a, b: latents `[B, ...]`, or trees of them, such as Glow's, one a level. The angle is that
            of all of an example's numbers.
        n: at least 2.
        path: see above.

    Returns:
        The same tree, `[n, B, ...]`.

    Raises:
        ValueError: `a` and `b` differ in structure or shape; n < 2; an unknown path.

    Source: White 2016, Sampling generative networks, section 2.1.
    """
    _check_alike(a, b)
    check_choice("path", path, ("spherical", "linear"))
    check_positive(n=n)
    require(n >= 2, "n", n, "at least 2, the ends")
    t = jnp.linspace(0.0, 1.0, n)[:, None]
    if path == "linear":
        from_a, from_b = 1 - t, t
    else:
        cosine = _dot(a, b) / jnp.sqrt(_dot(a, a) * _dot(b, b))
        angle = jnp.arccos(jnp.clip(cosine, -1, 1))
        small = jnp.sin(angle) < 1e-4  # then the paths are the same
        safe = jnp.where(small, 1.0, angle)
        from_a = jnp.where(small, 1 - t, jnp.sin((1 - t) * safe) / jnp.sin(safe))
        from_b = jnp.where(small, t, jnp.sin(t * safe) / jnp.sin(safe))

    def blend(a, b):
        weights = [
            jnp.reshape(w * jnp.ones((n, len(a))), (n, len(a)) + (1,) * (a.ndim - 1))
            for w in (from_a, from_b)
        ]
        return weights[0] * a + weights[1] * b

    return jax.tree.map(blend, a, b)


def attribute_direction(positive: Any, negative: Any) -> Any:
    """The mean of latents with an attribute, less the mean of those without.

    `z + strength·direction` has more of the attribute.

    Args:
        positive, negative: latents `[B, ...]` and `[C, ...]`, or trees of them.

    Returns:
        The same tree, without the batch axis.

    Raises:
        ValueError: the two differ in structure or in the shape of an example, or one is empty.

    Source: Kingma & Dhariwal 2018, section 6.
    """
    _check_alike(positive, negative, batch=False)
    return jax.tree.map(lambda p, q: jnp.mean(p, axis=0) - jnp.mean(q, axis=0), positive, negative)


def redraw_levels(
    key: jax.Array, z: Sequence[jax.Array], levels: Collection[int], *, temperature: float = 1.0
) -> tuple[jax.Array, ...]:
    """Latents of Glow with some levels drawn anew from the base, N(0, temperature²).

    What the images keep is what the other levels say.

    Args:
        key: a JAX key.
        z: one latent a level, `[B, ...]`, the top one last.
        levels: numbers of those to draw anew, counted from 1.
        temperature: of what is drawn.

    Returns:
        Latents of the same shapes.

    Raises:
        ValueError: `z` is no sequence of latents, or has no such level.
    """
    levels_there = isinstance(z, tuple | list)
    require(levels_there, "z", type(z).__name__, "one latent a level, a tuple of arrays")
    check_in(NON_NEGATIVE, temperature=temperature)
    wrong = sorted(set(levels) - set(range(1, len(z) + 1)))
    require(not wrong, "levels", wrong, f"in 1..{len(z)}")
    drawn = [
        temperature * jax.random.normal(k, h.shape, h.dtype)
        for k, h in zip(split_key(key, len(z)), z, strict=True)
    ]
    return tuple(
        new if i in levels else h for i, (h, new) in enumerate(zip(z, drawn, strict=True), 1)
    )


def _dot(a, b):
    """The inner product of each example of two trees, `[B]`."""
    products = jax.tree.map(lambda p, q: jnp.sum(p * q, axis=tuple(range(1, p.ndim))), a, b)
    return sum(jax.tree.leaves(products))


def _check_alike(a, b, *, batch=True):
    shapes = [jax.tree.map(lambda x: jnp.shape(x)[not batch :], tree) for tree in (a, b)]
    alike = jax.tree.structure(a) == jax.tree.structure(b) and shapes[0] == shapes[1]
    require(alike, "latents", shapes, "of one structure and shape")
    sizes = [math.prod(jnp.shape(leaf)) for tree in (a, b) for leaf in jax.tree.leaves(tree)]
    require(all(sizes), "latents", shapes, "of one example at least")
