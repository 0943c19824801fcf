"""Elementwise maps one after the other, as one."""

import chex
import jax
import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.bijections.scalar.elementwise import Elementwise, check_elementwise
from glowjax.checks import require
from glowjax.expression import recorded


@recorded
def composed(*transforms: Elementwise) -> Elementwise:
    """z = f_n(… f_1(x; raw_1) …; raw_n), of elementwise maps f_1 … f_n.

        log_slope = Σ_i ln f_i'

    raw holds raw_1 … raw_n in this order, so that its size is the sum of theirs.

    Args:
        transforms: f_1 … f_n, one or more, in the order in which `forward` applies them.

    Raises:
        ValueError: there is none, or one is no elementwise map, has parameters that are `shared`,
            or differs by column.

    Source: Ho et al. 2019 (Flow++), equation 17, has `mixture_cdf` and then an affine map.

    Examples:
        >>> transform = glowjax.composed(glowjax.mixture_cdf(2), glowjax.affine(shift="last"))
        >>> z, log_slope = transform.forward(jnp.ones((5, 3)), jnp.zeros((5, 3, transform.size)))
        >>> transform.size, z.shape, log_slope.shape
        (8, (5, 3), (5, 3))
    """
    require(transforms, "transforms", "none", "one elementwise map at least")
    for i, transform in enumerate(transforms):
        name = f"transforms[{i}]"
        check_elementwise(name, transform)
        require(not transform.shared, f"{name}.shared", transform.shared, "0 for a composed map")
        require(transform.of_column is None, name, "one by column", "the same map of all columns")
    size = sum(transform.size for transform in transforms)
    ends = [sum(transform.size for transform in transforms[:i]) for i in range(1, len(transforms))]

    def apply(functions, raws, value):
        total = jnp.zeros_like(value)
        for function, raw in zip(functions, raws, strict=True):
            value, log_slope = function(value, raw)
            total = total + log_slope
        return value, total

    def parts(raw) -> list[jax.Array]:
        chex.assert_axis_dimension(raw, -1, size)
        return jnp.split(promote(raw), ends, axis=-1)

    def forward(x, raw):
        return apply([transform.forward for transform in transforms], parts(raw), promote(x))

    def inverse(z, raw):
        functions = [transform.inverse for transform in reversed(transforms)]
        return apply(functions, parts(raw)[::-1], promote(z))

    fixed_units = any(transform.fixed_units for transform in transforms)
    return Elementwise(size, forward, inverse, fixed_units=fixed_units)
