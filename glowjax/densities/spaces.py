"""Bases of angles, and of vectors whose columns lie in different spaces."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, split_key
from glowjax.bijections.scalar.circular import Space, check_spaces, wrap
from glowjax.checks import NON_NEGATIVE, check_in, check_integer, described, require
from glowjax.densities.bases import Base, key_tree, standard_normal, sum_leaves, uniform
from glowjax.expression import recorded

NARROW = 1e5  # concentrations above are a normal's: the density is within 1/(8·NARROW) of it


@recorded
def von_mises(concentration: float = 0.0) -> Base:
    """The von Mises density around 0 of every latent, an angle in radians; uniform by default.

        p(z) = exp(κ·cos z) / (2π·I₀(κ))

    It is periodic: log p(z + 2π) = log p(z), and over one turn it integrates to 1. Samples are in
    [-π, π]. Temperature T samples the one with κ/T², whose density is as p^(1/T²); at T = 0 all
    samples are 0, unless κ is 0.

    Args:
        concentration: κ, at least 0, which is the uniform distribution on the circle.

    Raises:
        ValueError: `concentration` is below 0, or not finite.

    Source: Mardia & Jupp 2000, Directional statistics.

    Examples:
        >>> base, z = glowjax.von_mises(), jnp.zeros((5, 2))
        >>> base.sample(None, jax.random.key(0), z, 1.0).shape, base.log_prob(None, z).shape
        ((5, 2), (5,))
    """
    check_in(NON_NEGATIVE, concentration=concentration)
    require(math.isfinite(concentration), "concentration", concentration, "finite")

    def log_density(z):
        if concentration == 0:
            return jnp.where(jnp.isnan(z), z, -math.log(2 * math.pi))
        return jax.scipy.stats.vonmises.logpdf(z, concentration)

    def draw(key, a, temperature):
        if concentration == 0:
            return jax.random.uniform(key, a.shape, a.dtype, -math.pi, math.pi)
        return _von_mises(key, a, concentration, temperature)

    def sample(_, key, like, temperature, context=None):
        return jax.tree.map(lambda k, a: draw(k, a, temperature), key_tree(key, like), like)

    return Base(lambda _, z, context=None: sum_leaves(log_density, z), sample, takes_context=False)


def _von_mises(key, like, concentration, temperature):
    """Samples with the concentration κ/T² of the shape of `like`."""
    import distrax

    keys = split_key(key)
    t = jnp.asarray(temperature, like.dtype)
    narrow = jnp.square(t) * NARROW <= concentration
    wide = concentration / jnp.square(jnp.where(narrow, 1, t))
    wide = distrax.VonMises(jnp.zeros((), like.dtype), jnp.minimum(wide, NARROW))
    angle = wide.sample(seed=keys[0], sample_shape=like.shape).astype(like.dtype)
    normal = jax.random.normal(keys[1], like.shape, like.dtype)
    return jnp.where(narrow, wrap(t / math.sqrt(concentration) * normal), angle)


@recorded
def product_base(*parts: Base | tuple[Base, int]) -> Base:
    """p(z) = Π_k p_k(z_k): a base for each column of z `[B, D]`, or for several side by side.

        product_base(von_mises(), (standard_normal(), 3))  # an angle, then three numbers

    Params are a tuple of those of the parts if one is learned. A context goes to the parts that
    take one. Temperature is that of each part.

    Args:
        parts: for each column its base; or for n columns side by side a pair of a base and n.

    Raises:
        ValueError: there are no parts, or one is not as above; z is not `[B, D]`.

    Examples:
        >>> base = glowjax.product_base(glowjax.von_mises(), (glowjax.standard_normal(), 2))
        >>> base.log_prob(None, jnp.zeros((5, 3))).shape
        (5,)
    """
    require(parts, "parts", parts, "a base for each column, at least one")
    bases, widths = [], []
    for number, part in enumerate(parts):
        pair = isinstance(part, tuple) and not isinstance(part, Base)
        base, width = part if pair and len(part) == 2 else (part, 1)
        name = f"parts[{number}]"
        require(isinstance(base, Base), name, described(part), "a Base, or a pair of one and n")
        check_integer(f"number of columns of {name}", width, 1)
        bases.append(base)
        widths.append(int(width))
    return _Product(bases, widths).base()


class _Product:
    """The functions of a base of columns side by side."""

    def __init__(self, bases: Sequence[Base], widths: Sequence[int]):
        self.bases, self.widths = bases, widths

    def base(self) -> Base:
        learned = any(base.init for base in self.bases)
        takes = any(base.takes_context for base in self.bases)
        return Base(self.log_prob, self.sample, self.init if learned else None, takes)

    def init(self, key, z):
        parts = zip(self.bases, self._keys(key), self._cut(z), strict=True)
        return tuple(base.init and base.init(k, piece) for base, k, piece in parts)

    def log_prob(self, params, z, context=None):
        parts = zip(self.bases, self._params(params), self._cut(z), strict=True)
        return sum(
            base.log_prob(p, piece, context if base.takes_context else None)
            for base, p, piece in parts
        )

    def sample(self, params, key, like, temperature, context=None):
        self._check(like)
        every = zip(self.bases, self._params(params), self._keys(key), self.widths, strict=True)
        pieces = []
        for base, p, k, width in every:
            piece = jax.ShapeDtypeStruct((like.shape[0], width), like.dtype)
            seen = context if base.takes_context else None
            pieces.append(base.sample(p, k, piece, temperature, seen))
        return jnp.concatenate(pieces, axis=1)

    def _keys(self, key):
        return split_key(key, len(self.bases))

    def _params(self, params):
        return [None] * len(self.bases) if params is None else params

    def _cut(self, z):
        self._check(z)
        return jnp.split(promote(z), np.cumsum(self.widths)[:-1], axis=1)

    def _check(self, z: Any):
        size = sum(self.widths)
        shape = getattr(z, "shape", None)
        ok = shape is not None and len(shape) == 2 and shape[1] == size
        require(ok, "z", shape, f"one array of shape [B, {size}], as parts have so many columns")


@recorded
def circular_base(spaces: Sequence[Space], *, concentration: float = 0.0) -> Base:
    """A base of vectors `[B, D]` for flows of the same spaces, such as `circular_maf`.

        ln p(z) = Σ_i ln p_i(z_i)

    Args:
        spaces: for each column `"circle"`, which gets `von_mises(concentration)`; `"line"`, a
            standard normal; or `"interval"`, uniform in [-1, 1].
        concentration: of all circles, at least 0; 0 is uniform.

    Raises:
        ValueError: an argument is not as above.

    Examples:
        >>> base = glowjax.circular_base(("circle", "line"))
        >>> base.log_prob(None, jnp.zeros((5, 2))).shape
        (5,)
    """
    check_spaces(spaces)
    bases = {
        "circle": von_mises(concentration),
        "line": standard_normal(),
        "interval": uniform(-1, 1),
    }
    base = product_base(*(bases[space] for space in spaces))
    return base._replace(spaces=tuple(spaces))
