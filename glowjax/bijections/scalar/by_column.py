"""Different maps of single numbers for different columns of vectors, such as angles and lengths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, taken
from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.checks import require
from glowjax.expression import recorded


@recorded
def by_column(*transforms: Elementwise) -> Elementwise:
    """z_i = f_i(x_i; raw_i): one map for each column of `[..., D]`.

        spline, circle = rational_quadratic(), circular_spline()
        Autoregressive(by_column(circle, circle, spline), partial(MADE, angles=(0, 1)))

    Columns with one and the same map are computed together. raw has as many numbers for a column as
    the largest map takes, and the others use the first of them. In a `Coupling` the columns are
    those that it changes.

    Args:
        transforms: f_i, for each column; without `shared` parameters.

    Raises:
        ValueError: there is none, or one has shared parameters; x has another number of columns.

    Examples:
        >>> maps = glowjax.by_column(glowjax.additive(), glowjax.affine())
        >>> z, _ = maps.forward(jnp.ones((1, 2)), jnp.array([[[2.0, 0.0], [3.0, 0.0]]]))
        >>> maps.size, z.tolist()
        (2, [[3.0, 4.0]])
    """
    require(transforms, "transforms", transforms, "one map for each column")
    for transform in transforms:
        maps = isinstance(transform, Elementwise) and not transform.shared
        require(maps, "transforms", transform, "maps without shared parameters, as affine() makes")
    different = list(dict.fromkeys(transforms))
    which = np.array([different.index(transform) for transform in transforms])
    columns = [np.flatnonzero(which == number) for number in range(len(different))]
    back = np.argsort(np.concatenate(columns))

    def every(direction, x, raw):
        fits = x.shape[-1:] == which.shape
        require(fits, "x", x.shape, f"of {len(which)} columns, one for each of transforms")
        x = promote(x)
        parts = [
            getattr(transform, direction)(
                taken(x, at, axis=-1), taken(raw, at, axis=-2)[..., : transform.size]
            )
            for transform, at in zip(different, columns, strict=True)
        ]
        values, slopes = (jnp.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return taken(values, back, axis=-1), taken(slopes, back, axis=-1)

    def single(direction, i, x, raw):
        def branch(transform, x, raw):
            return getattr(transform, direction)(x, raw[..., : transform.size])

        branches = [functools.partial(branch, transform) for transform in different]
        return jax.lax.switch(jnp.asarray(which)[i], branches, promote(x), raw)

    def of_column(i):
        return _maps(
            functools.partial(single, "forward", i), functools.partial(single, "inverse", i)
        )

    def _maps(forward, inverse, of_column=None):
        size = max(transform.size for transform in different)
        units = any(transform.fixed_units for transform in different)
        return Elementwise(size, forward, inverse, fixed_units=units, of_column=of_column)

    return _maps(
        functools.partial(every, "forward"), functools.partial(every, "inverse"), of_column
    )
