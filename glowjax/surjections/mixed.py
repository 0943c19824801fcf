"""Densities of tables that have numbers and categories."""

from collections.abc import Sequence
from typing import Any

from glowjax.checks import require
from glowjax.densities.density import Density, density
from glowjax.densities.surjection import generative_surjection
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.surjections.categories import argmax
from glowjax.surjections.table import columnwise


@recorded
def mixed_density(flow: Flow, categories: Sequence[int | None], base: Any = None) -> Density:
    """The density of tables `[B, D]` with numbers and categories. Its log_prob is a bound.

        mixed_density(maf(), (None, None, 3))  # two numbers, and a category 0, 1 or 2

    It is p(numbers, categories), a density in the numbers and a probability in the categories, in
    nats. A category with K values becomes K numbers by `argmax`, and the flow is of all numbers,
    so that each depends on each: see `generative_surjection`, which this is of `columnwise`.

    Args:
        flow: of `[B, D']`, D' the count of numbers plus the sum of all K. It should begin with an
            `ActNorm`, as `maf` does, since numbers come in units of their own.
        categories: for each column K, at least 2, if it holds the categories 0 … K - 1; or None, if
            it holds numbers.
        base: of the flow's latents, see `density`.

    Raises:
        ValueError: an argument is not as above; a category that is not in 0 … K - 1.

    Source: Hoogeboom et al. 2021, section 3.

    Examples:
        >>> model = glowjax.surjections.mixed_density(glowjax.maf(steps=1, width=8), (None, 3))
        >>> table = jnp.array([[0.1, 2.0], [1.3, 0.0], [-0.7, 2.0], [0.4, 1.0]])
        >>> params = model.init(jax.random.key(0), table)
        >>> model.log_prob(params, table, key=jax.random.key(1)).shape
        (4,)
    """
    ok = isinstance(categories, tuple | list) and categories
    require(ok, "categories", categories, "a tuple of None or a number of categories a column")
    table = columnwise(*(None if k is None else argmax(k) for k in categories))
    width = sum(1 if k is None else k for k in categories)
    return generative_surjection(density(flow, (width,), base), table)
