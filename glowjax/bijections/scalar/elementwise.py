"""Increasing maps of single numbers, whose parameters a net gives or are learned as they are."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, promote, sum_event
from glowjax.checks import NON_NEGATIVE, POSITIVE, check_choice, check_in, require
from glowjax.expression import expressed, recorded

Scale = Literal["exp", "sigmoid", "double_sigmoid", "softplus", "floor", "tanh"]
Shift = Literal["first", "last"]
FLOOR = 0.1
Map = Callable[
    [Float[Array, "*shape"], Float[Array, "*shape size"]],
    tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
]


@expressed
class Elementwise(NamedTuple):
    """An increasing map z = f(x; raw) of every number of an array, as pure functions.

        forward(x, raw) -> (z, log_slope)
        inverse(z, raw) -> (x, log_slope)

    `x` and `z` are `[...]`; `raw: [..., size]` holds the parameters of each number, unconstrained
    floats such as a net puts out; `log_slope: [...]` is ln of the derivative of the map just
    applied. At raw = 0 the map is a fixed one near the identity, and no two of its parameters play
    the same part, so that a net whose last layer starts at zero can learn.

    The last `shared` of the `size` parameters bound the others rather than describe one number: a
    `Coupling` learns them once a channel, and its net gives the rest.

    Optional: `fixed_units` says that the map has units of its own, as one of angles has; and where
    columns have different maps, `of_column(i)` is that of one of them, i perhaps traced.
    """

    size: int
    forward: Map
    inverse: Map
    shared: int = 0
    fixed_units: bool = False
    of_column: Callable[[Array], "Elementwise"] | None = None


def check_elementwise(name: str, transform: Any) -> None:
    """Raises `ValueError` unless `transform` is an elementwise map, as `affine()` is."""
    wanted = "an Elementwise, as affine() makes"
    require(isinstance(transform, Elementwise), name, transform, wanted)


def has_fixed_units(transform: Elementwise) -> bool:
    """The map's `fixed_units`; raises `ValueError` as `check_elementwise`."""
    check_elementwise("transform", transform)
    return transform.fixed_units


@recorded
def additive() -> Elementwise:
    """z = x + shift, with raw = (shift). Source: Dinh et al. 2015 (NICE), section 3.2."""

    def forward(x, raw):
        z = promote(x) + promote(raw[..., 0])
        return z, jnp.zeros_like(z)

    def inverse(z, raw):
        x = promote(z) - promote(raw[..., 0])
        return x, jnp.zeros_like(x)

    return Elementwise(1, forward, inverse)


@recorded
def affine(
    *,
    scale: Scale = "exp",
    bound: float | None = None,
    least: float = 0.0,
    shift: Shift = "first",
) -> Elementwise:
    """z = (x + shift)·exp(log_scale), with raw = (shift, raw scale).

    Args:
        scale: how log_scale comes of the raw scale r. `"exp"`: it is r. `"sigmoid"`: ln σ(r + 2),
            scales in (0, 1), as in the released Glow. `"double_sigmoid"`: ln 2σ(r), scales in
            (0, 2), as in Jet. `"softplus"`: ln softplus(r). `"floor"`: ln(0.1 + 0.9·σ(r + 2)), so
            that no inverse stretches by more than 10. `"tanh"`: gain·tanh(r) + offset, both
            learned, as in RealNVP; then raw goes on with (gain - 1, offset), which are `shared`.
        bound: with `"exp"`, log_scale = bound·tanh(r / bound).
        least: is added to the scale of `"sigmoid"` or `"softplus"`, which is never below it.
        shift: `"last"` scales before it shifts: z = x·exp(log_scale) + shift.

    Raises:
        ValueError: scale or shift is not as above; a bound that is not positive, or of another
            scale; a `least` below 0, or of another scale.

    Sources: Dinh et al. 2017, section 3.2; Kingma & Dhariwal 2018, table 1; Kolesnikov et al. 2024
    (Jet), section 3.

    Examples:
        >>> z, log_slope = glowjax.affine().forward(jnp.array([1.0]), jnp.array([[2.0, 0.0]]))
        >>> float(z[0]), float(log_slope[0])
        (3.0, 0.0)
    """
    check_choice("scale", scale, get_args(Scale))
    check_choice("shift", shift, ("first", "last"))
    check_in(POSITIVE, optional=True, bound=bound)
    check_in(NON_NEGATIVE, least=least)
    require(bound is None or scale == "exp", "bound", bound, f"None for scale={scale!r}")
    has_least = scale in ("sigmoid", "softplus")
    require(has_least or least == 0, "least", least, f"0 for scale={scale!r}")

    last, shared = shift == "last", 2 if scale == "tanh" else 0

    def parameters(raw):
        shift, *rest = _parts(promote(raw))
        return shift, _log_scale(rest, scale, bound, least)

    def forward(x, raw):
        shift, log_scale = parameters(raw)
        z, log_slope = _scaled(promote(x) if last else promote(x) + shift, log_scale)
        return z + shift if last else z, log_slope

    def inverse(z, raw):
        shift, log_scale = parameters(raw)
        x, log_slope = _scaled(promote(z) - shift if last else promote(z), -log_scale)
        return x if last else x - shift, log_slope

    return Elementwise(2 + shared, forward, inverse, shared)


def _parts(raw: Float[Array, "*shape size"]) -> list[Array]:
    """The parameters one by one, each `[...]`: a split has a cheaper gradient than slices."""
    return [part[..., 0] for part in jnp.split(raw, raw.shape[-1], axis=-1)]


def _log_scale(raw, scale, bound, least):
    """`affine`'s log_scale of all parameters but the shift."""
    r, *shared = raw
    if scale == "tanh":
        gain, offset = shared
        return (1 + gain) * jnp.tanh(r) + offset
    if scale == "floor":
        return jnp.log(FLOOR + (1 - FLOOR) * jax.nn.sigmoid(r + 2))
    if scale == "double_sigmoid":
        return jax.nn.log_sigmoid(r) + math.log(2)
    if scale == "softplus":
        return jnp.log(least + jax.nn.softplus(r))
    if scale == "sigmoid":
        return jnp.log(least + jax.nn.sigmoid(r + 2)) if least else jax.nn.log_sigmoid(r + 2)
    return r if bound is None else bound * jnp.tanh(r / bound)


def affine_forward(
    x: Float[AnyArray, "B *event"],
    shift: Float[AnyArray, "B *event"],
    log_scale: Float[AnyArray, "B *event"],
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """z = (x + shift)·exp(log_scale), element by element.

    Args:
        x, shift, log_scale: `[B, ...]`, of one shape.

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ log_scale, in nats.
    """
    chex.assert_equal_shape([x, shift, log_scale])
    z, log_slope = _scaled(promote(x) + shift, promote(log_scale))
    return z, sum_event(log_slope)


def affine_inverse(
    z: Float[AnyArray, "B *event"],
    shift: Float[AnyArray, "B *event"],
    log_scale: Float[AnyArray, "B *event"],
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """x = z·exp(-log_scale) - shift; returns `(x, log_det)` as `affine_forward`."""
    chex.assert_equal_shape([z, shift, log_scale])
    x, log_slope = _scaled(promote(z), -promote(log_scale))
    return x - shift, sum_event(log_slope)


def _scaled(x, log_scale):
    return x * jnp.exp(log_scale), log_scale


class ElementwiseFlow(nn.Module):
    """z_i = f(x_i; raw_i), with parameters of its own for every number of an event `[B, ...]`.

    Attributes:
        transform: the map of one number.

    Examples:
        >>> flow = glowjax.as_flow(glowjax.ElementwiseFlow(glowjax.mixture_cdf(components=4)))
        >>> flow.init(jax.random.key(0), jnp.ones((5, 3)))["raw"].shape
        (3, 12)
    """

    transform: Elementwise

    @property
    def fixed_units(self) -> bool:
        return has_fixed_units(self.transform)

    def forward(self, x) -> tuple[Array, Array]:
        return self._apply(self.transform.forward, x)

    def inverse(self, z) -> tuple[Array, Array]:
        return self._apply(self.transform.inverse, z)

    @nn.compact
    def _apply(self, apply, x):
        x = promote(x)
        shape = (*x.shape[1:], self.transform.size)
        raw = self.param("raw", nn.initializers.zeros, shape, x.dtype)
        y, log_slope = apply(x, jnp.broadcast_to(raw, (*x.shape, self.transform.size)))
        return y, sum_event(log_slope)
