"""Flows of vectors whose columns are angles, numbers, or in an interval: assembly only."""

import functools
import math
from collections.abc import Sequence
from itertools import groupby

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.autoregressive import Autoregressive
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.permute import Permute
from glowjax.bijections.scalar.by_column import by_column
from glowjax.bijections.scalar.circular import Space, check_spaces, circular_spline
from glowjax.bijections.scalar.elementwise import Elementwise
from glowjax.bijections.scalar.spline import rational_quadratic
from glowjax.checks import check_integer, check_positive, require
from glowjax.compose import chain, invert
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.nets.activations import Activation
from glowjax.nets.made import MADE
from glowjax.nets.mlp import MLP
from glowjax.preprocess import columns


@recorded
def circular_maf(
    spaces: Sequence[Space],
    *,
    steps: int = 2,
    bins: int = 8,
    width: int = 64,
    depth: int = 2,
    activation: Activation = "relu",
    backprop: Backprop = "recompute",
    unroll: int | bool = 1,
) -> Flow:
    """A masked autoregressive flow of splines on a product of circles, lines and intervals.

    x `[B, D]` -> ActNorm of the lines -> steps × [`Autoregressive` in the natural order, the same
    in reverse] -> z in the same spaces. Nets see the cosine and the sine of angles, so that the
    density is periodic in them. Densities take one pass, and samples D steps one after the other. A
    float `context` of `[B, F]` conditions every step. Its density has the base
    `circular_base(spaces)`, unless another one is given:

        model = density(circular_maf(spaces), (len(spaces),))

    Two circles are a torus. `chain(preprocess.sphere(), circular_maf(("circle", "interval")))` is a
    flow on the sphere.

    Args:
        spaces: for each column `"circle"`, angles in radians, which `circular_spline` maps;
            `"line"`, any number, by a `rational_quadratic` spline; or `"interval"`, numbers in
            [-1, 1], by such a spline from there to itself.
        steps: pairs of layers.
        bins: of the splines.
        width, depth, activation: of the hidden layers of the nets, see `MADE`.
        backprop, unroll: see `repeat`.

    Raises:
        ValueError: an argument is not as above.

    Source: Rezende et al. 2020, Normalizing flows on tori and spheres.

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
    net = functools.partial(
        MADE, width=width, depth=depth, activation=activation, angles=_angles(spaces)
    )
    both = {
        order: as_flow(Autoregressive(_maps(spaces, bins), functools.partial(net, order=order)))
        for order in ("natural", "reversed")
    }
    return _on(spaces, repeat(chain(**both), steps, backprop=backprop, unroll=unroll))


@recorded
def circular_spline_flow(
    spaces: Sequence[Space],
    *,
    steps: int = 4,
    bins: int = 8,
    width: int = 64,
    depth: int = 2,
    activation: Activation = "relu",
    backprop: Backprop = "recompute",
    unroll: int | bool = 1,
) -> Flow:
    """A flow of spline couplings on a product of two or more circles, lines and intervals.

    x `[B, D]` -> ActNorm of the lines -> steps × [couplings of halves of the columns, each half
    given the other] -> z in the same spaces. The halves are those of perfect shuffles: in every
    step any two columns are in different halves at least once, in about 2·log₂ D couplings.
    Densities and samples take one pass each. All else is as for `circular_maf`:

        model = density(circular_spline_flow(spaces), (len(spaces),))

    Args:
        spaces: for each column `"circle"`, `"line"` or `"interval"`, see `circular_maf`.
        steps: how many.
        bins: of the splines.
        width, depth, activation: of the hidden layers of the nets, see `MLP`.
        backprop, unroll: see `repeat`.

    Raises:
        ValueError: an argument is not as above.

    Sources: Rezende et al. 2020, Normalizing flows on tori and spheres; Durkan et al. 2019, section
    3, for the couplings.

    Examples:
        >>> flow = glowjax.circular_spline_flow(("circle", "line"), steps=1, width=4, depth=1)
        >>> x = jnp.zeros((4, 2))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 2), (4,))
    """
    check_spaces(spaces)
    require(len(spaces) > 1, "spaces", spaces, "of 2 columns or more, of which one moves another")
    check_positive(steps=steps, width=width, depth=depth)
    net = functools.partial(MLP, width=width, depth=depth, activation=activation)
    step = chain(**_couplings(spaces, bins, net))
    return _on(spaces, repeat(step, steps, backprop=backprop, unroll=unroll))


def _couplings(spaces, bins, net):
    """The parts of a step: columns in an order, each half of them given the other, and back."""
    parts = {}
    for number, order in enumerate(_orders(len(spaces))):
        middle = len(spaces) // 2
        first, second = _taken(spaces, order[:middle]), _taken(spaces, order[middle:])
        parts[f"order{number}"] = as_flow(Permute(order))
        for name, given, moved in (("second", first, second), ("first", second, first)):
            sees = functools.partial(net, angles=_angles(given))
            coupling = Coupling(_maps(moved, bins), sees, swap=name == "first")
            parts[f"{name}{number}"] = as_flow(coupling)
        parts[f"back{number}"] = invert(as_flow(Permute(order)))
    return parts


def _orders(size: int) -> list[tuple[int, ...]]:
    """Orders of columns: any two are in different halves, `[: size // 2]` and the rest, of one.

    Where k perfect shuffles of a deck put a card is 2ᵏ·i modulo the deck's size + 1, i from 1. An
    odd number of columns gets one more card, which is then left out.
    """
    deck = size + size % 2
    orders = []
    for k in range(math.ceil(math.log2(deck + 1))):
        place = [2**k * (column + 1) % (deck + 1) for column in range(size)]
        halves = [[i for i in range(size) if (place[i] > deck // 2) == upper] for upper in (0, 1)]
        smaller, other = sorted(halves, key=lambda half: (len(half), half))
        orders.append((*smaller, *other))
    return list(dict.fromkeys(orders))


def _maps(spaces: Sequence[Space], bins: int) -> Elementwise:
    """The map of each column, by its space."""
    maps = {
        "circle": circular_spline(bins),
        "line": rational_quadratic(bins),
        "interval": rational_quadratic(bins, bound=1.0, end_slopes="learned"),
    }
    return by_column(*(maps[space] for space in spaces))


def _angles(spaces):
    return tuple(number for number, space in enumerate(spaces) if space == "circle")


def _taken(spaces, order):
    return [spaces[column] for column in order]


def _on(spaces: Sequence[Space], flow: Flow) -> Flow:
    """The flow after an ActNorm of the lines; the units of all other columns are fixed."""
    if "line" in spaces:
        flow = chain(actnorm=columns(*_actnorms(spaces)), steps=flow)
    return flow._replace(fixed_units=set(spaces) != {"line"}, spaces=tuple(spaces))


def _actnorms(spaces):
    """The parts of `columns`: an ActNorm for lines side by side, and nothing for other columns."""
    for line, group in groupby(spaces, lambda space: space == "line"):
        yield as_flow(ActNorm()) if line else None, len(list(group))
