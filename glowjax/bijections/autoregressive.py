"""Autoregressive flows: every number is mapped by a function of the numbers before it."""

import math
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer

from glowjax.arrays import promote, sum_event, vary_as
from glowjax.bijections.scalar.elementwise import Elementwise, has_fixed_units
from glowjax.checks import require
from glowjax.context import net_inputs, net_takes_context
from glowjax.nets.in_turn import Number
from glowjax.nets.made import MADE

Conditioner = Callable[[Float[Array, "B *event"]], Float[Array, "B *event size"]]
InTurn = Callable[[Number, Float[Array, "B D"]], Float[Array, "B D"]]


def autoregressive_forward(
    x: Float[Array, "B *event"], net: Conditioner, transform: Elementwise
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """z_i = f(x_i; net(x)_i), where net(x)_i depends on the numbers before i only.

    Args:
        x: `[B, ...]`.
        net: from x to `[B, ..., transform.size]`.
        transform: f.

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ ln f', in nats.
    """
    raw = net(x)
    chex.assert_shape(raw, (*x.shape, transform.size))
    z, log_slope = transform.forward(x, raw)
    return z, sum_event(log_slope)


def autoregressive_inverse(
    z: Float[Array, "B *event"],
    net: Conditioner,
    transform: Elementwise,
    order: Integer[np.ndarray, "D"],
    in_turn: InTurn | None = None,
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """x_i = f⁻¹(z_i; net(x)_i), one number after the other, in one loop.

    Derivatives, of any order, are those of the implicit function theorem: a triangular system, for
    whose solution net's own derivative, kept once, is applied D times more.

    Args:
        z, net, transform: as for `autoregressive_forward`.
        order: `[D]`, the indices of a flattened event, each after those that it depends on.
        in_turn: a faster loop, from `number` and zeros `[B, D]` to x_i = number(net(x)_i, i), as
            `MADE.in_turn`. Default: D evaluations of net.

    Returns:
        `(x, log_det)`, with log_det from one evaluation at x.

    Raises:
        ValueError: order does not hold each of 0 … D-1 once.
    """
    size = math.prod(z.shape[1:])
    require(
        np.array_equal(np.sort(order), np.arange(size)), "order", order, f"0..{size - 1}, each once"
    )
    z = z.astype(jax.eval_shape(lambda z: autoregressive_forward(z, net, transform)[0], z).dtype)
    z_flat = z.reshape(-1, size)

    def raw(x):
        return net(x.reshape(z.shape)).reshape(*z_flat.shape, transform.size)

    def number(raw, i):
        single = transform.of_column(i) if transform.of_column else transform
        return single.inverse(z_flat[:, i], raw)[0]

    def one_by_one(number, zeros):
        return _substitute(lambda x, i: number(raw(x)[:, i], i), order, zeros)

    solve = in_turn or one_by_one
    x = lax.custom_root(
        lambda x: x - transform.inverse(z_flat, raw(x))[0],  # derivative: 1 plus a triangle
        vary_as(jnp.zeros_like(z_flat), z_flat),
        lambda _, zeros: solve(number, zeros),
        lambda slope, y: _substitute(lambda v, i: (y - slope(v))[:, i], order, jnp.zeros_like(y)),
    ).reshape(z.shape)
    return x, -autoregressive_forward(x, net, transform)[1]


def _substitute(number, order, zeros):
    """Puts `number(x, i)` at i of `x: [B, D]`, zeros at first, for each i of `order` in turn."""
    x, _ = lax.scan(lambda x, i: (x.at[:, i].set(number(x, i)), None), zeros, order)
    return x


class Autoregressive(nn.Module):
    """z_i = f(x_i; net(x)_i), in which net(x)_i depends on the numbers before i only.

    `forward` evaluates the net once: fast densities (MAF). `inverse` takes D steps, one after the
    other, for D numbers an event: with `MADE` or `CausalViT` about one evaluation of the net in
    all, with other nets D, and its gradient D more. For fast samples and slow densities (IAF),
    `invert` it.

    Attributes:
        transform: f, such as `affine()` or `rational_quadratic()`.
        net: makes the conditioner from its number of outputs per input, `features`: a Linen module
            from `(x [B, ...], context)` to `[B, ..., features]`, such as `MADE` or `PixelCNN`, with
            a method `ordering(event_shape)` that gives the order of dependence, as indices of the
            flattened event. It may have a method `in_turn`, as `MADE` and `CausalViT` have: then
            the inverse costs about one evaluation of the net.

    Sources: Papamakarios et al. 2017 (MAF), section 3; Kingma et al. 2016 (IAF), section 4.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Autoregressive(glowjax.affine())), jnp.ones((4, 3))
        >>> z, log_det = jax.jit(flow.forward)(flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 3), (4,))
    """

    transform: Elementwise
    net: Callable[..., nn.Module] = MADE

    @property
    def fixed_units(self) -> bool:
        return has_fixed_units(self.transform)

    @property
    def takes_context(self) -> bool:
        return net_takes_context(self.net)

    def forward(self, x, context=None) -> tuple[Array, Array]:
        x = promote(x)
        net, *_ = self._conditioner(x, context)
        return autoregressive_forward(x, net, self.transform)

    def inverse(self, z, context=None) -> tuple[Array, Array]:
        z = promote(z)
        net, order, in_turn = self._conditioner(z, context)
        return autoregressive_inverse(z, net, self.transform, order, in_turn)

    @nn.compact
    def _conditioner(self, x, context):
        """The net as a pure function, which a loop can call, its order, and its faster loop."""
        net = self.net(features=self.transform.size, name="net")
        if self.is_initializing():
            net(*net_inputs(net, x, context))
        net, variables = net.unbind()

        def pure(x):
            return net.apply(variables, *net_inputs(net, x, context))

        def in_turn(number, zeros):
            inputs = net_inputs(net, zeros.reshape(x.shape), context)
            return net.in_turn(variables["params"], number, *inputs).reshape(zeros.shape)

        order = net.ordering(x.shape[1:])
        return pure, order, in_turn if hasattr(net, "in_turn") else None
