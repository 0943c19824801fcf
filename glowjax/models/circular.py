"""Autoregressive flows of vectors whose columns are angles, numbers, or in an interval."""

import functools
from collections.abc import Sequence
from itertools import groupby

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.autoregressive import Autoregressive
from glowjax.bijections.by_column import by_column
from glowjax.bijections.circular import Space, check_spaces, circular_spline
from glowjax.bijections.spline import rational_quadratic
from glowjax.checks import check_integer, check_positive
from glowjax.compose import chain
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.nets.made import MADE
from glowjax.preprocess import columns


@recorded
def circular_maf(
    spaces: Sequence[Space],
    *,
    steps: int = 2,
    bins: int = 8,
    width: int = 64,
    depth: int = 2,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """A masked autoregressive flow of splines on a product of circles, lines and intervals.

    x `[B, D]` -> ActNorm of the lines -> steps × [`Autoregressive` in the natural order, the same
    in reverse] -> z in the same spaces. Nets see the cosine and the sine of angles, so that the
    density is periodic in them. Densities take one step, samples D. A float `context` of `[B, F]`
    conditions every step. The base that goes with it is `circular_base(spaces)`:

        model = density(circular_maf(spaces), (len(spaces),), circular_base(spaces))

    Two circles are a torus. `chain(preprocess.sphere(), circular_maf(("circle", "interval")))` is a
    flow on the sphere.

    Args:
        spaces: for each column `"circle"`, angles in radians, which `circular_spline` maps;
            `"line"`, any number, by a `rational_quadratic` spline; or `"interval"`, numbers in
            [-1, 1], by such a spline from there to itself.
        steps: pairs of layers.
        bins: of the splines.
        width, depth: of the hidden layers of the nets.
        backprop, unroll: see `repeat`.

    Raises:
        ValueError: an argument is not as above.

    Source: Rezende et al. 2020, Normalizing flows on tori and spheres, section 2.2.1.

    Examples:
        >>> flow = glowjax.circular_maf(("circle", "line"), steps=1, width=4, depth=1)
        >>> x = jnp.zeros((4, 2))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 2), (4,))
    """
    check_spaces(spaces)
    check_positive(steps=steps, width=width)
    check_integer("depth", depth, 0)
    maps = {
        "circle": circular_spline(bins),
        "line": rational_quadratic(bins),
        "interval": rational_quadratic(bins, bound=1.0, end_slopes="learned"),
    }
    transform = by_column(*(maps[space] for space in spaces))
    angles = tuple(number for number, space in enumerate(spaces) if space == "circle")
    net = functools.partial(MADE, width=width, depth=depth, angles=angles)
    both = {
        order: as_flow(Autoregressive(transform, functools.partial(net, order=order)))
        for order in ("natural", "reversed")
    }
    flow = repeat(chain(**both), steps, backprop=backprop, unroll=unroll)
    if "line" in spaces:
        flow = chain(actnorm=columns(*_actnorms(spaces)), steps=flow)
    return flow._replace(fixed_units=set(spaces) != {"line"})


def _actnorms(spaces):
    """The parts of `columns`: an ActNorm for lines side by side, and nothing for other columns."""
    for line, group in groupby(spaces, lambda space: space == "line"):
        yield as_flow(ActNorm()) if line else None, len(list(group))
