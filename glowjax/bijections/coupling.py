"""Coupling layers: one part of the input shifts and scales the other (Dinh et al. 2015, 2017)."""

from collections.abc import Callable
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.bijections.elementwise import Elementwise
from glowjax.bijections.masks import Mask, partition
from glowjax.checks import check_choice
from glowjax.context import net_inputs, takes_context
from glowjax.nets.convnet import ConvNet
from glowjax.nets.mlp import MLP

ScaleMap = Literal["sigmoid", "floor", "tanh"]
FLOOR = 0.1


def affine_forward(x: jax.Array, shift: jax.Array, log_scale: jax.Array):
    """z = (x + shift)·exp(log_scale), element by element.

    Args:
        x, shift, log_scale: `[B, ...]`, of one shape.

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ log_scale, in nats.
    """
    chex.assert_equal_shape([x, shift, log_scale])
    log_scale = promote(log_scale)
    return (promote(x) + shift) * jnp.exp(log_scale), sum_event(log_scale)


def affine_inverse(z: jax.Array, shift: jax.Array, log_scale: jax.Array):
    """x = z·exp(-log_scale) - shift; returns `(x, log_det)` as `affine_forward`."""
    chex.assert_equal_shape([z, shift, log_scale])
    log_scale = promote(log_scale)
    return promote(z) * jnp.exp(-log_scale) - shift, -sum_event(log_scale)


def sigmoid_log_scale(raw: jax.Array) -> jax.Array:
    """ln σ(raw + 2): scales in (0, 1), 0.881 at raw = 0, as in the released Glow."""
    return jax.nn.log_sigmoid(raw + 2)


def floor_log_scale(raw: jax.Array) -> jax.Array:
    """ln(f + (1 - f)·σ(raw + 2)), f = 0.1: no step of the inverse stretches by more than 10."""
    return jnp.log(FLOOR + (1 - FLOOR) * jax.nn.sigmoid(raw + 2))


def tanh_log_scale(raw: jax.Array, gain: jax.Array, offset: jax.Array) -> jax.Array:
    """gain·tanh(raw) + offset, both learned: RealNVP's bounded log-scale."""
    return gain * jnp.tanh(raw) + offset


class AdditiveCoupling(nn.Module):
    """z_b = x_b + net(x_a); x_a passes. log_det = 0.

    Attributes:
        net: makes the conditioner, a Linen module called with `(x_a, context)`, from the number of
            its output `features`. One whose `__call__` has no parameter `context`, such as
            `ConvNet`, is called with x_a, and the coupling takes no context. It may have a method
            `prepare`, as `as_flow` describes.
        mask: `"channels"` or `"checkerboard"`.
        swap: exchanges the roles of the two parts.

    Source: Dinh et al. 2015 (NICE), section 3.2.
    """

    net: Callable[..., nn.Module] = ConvNet
    mask: Mask = "channels"
    swap: bool = False

    def forward(self, x, context=None):
        return self._add(x, context, sign=1)

    def inverse(self, z, context=None):
        return self._add(z, context, sign=-1)

    @property
    def takes_context(self):
        return takes_context(self.net(features=1))

    @nn.nowrap
    def prepare(self, params):
        return prepare_net(self.net, params)

    @nn.compact
    def _add(self, x, context, sign):
        x = promote(x)
        parts = partition(self.mask, x, swap=self.swap)
        a, b = parts.split(x)
        net = self.net(features=parts.features, name="net")
        shift = promote(net(*net_inputs(net, a, context)))
        return parts.merge(a, b + sign * parts.restrict(shift)), jnp.zeros(x.shape[:1], x.dtype)


class AffineCoupling(nn.Module):
    """z_b = (x_b + shift)·exp(log_scale) with shift and raw scale from net(x_a); x_a passes.

    Of the net's output, even channels are the shift and odd ones the raw scale, which a map bounds:
    `"sigmoid"` (Glow), `"tanh"` (RealNVP, with learned gain and offset), or `"floor"`, whose
    inverse stays bounded where a sigmoid's scale may go to 0.

    Attributes:
        net, mask, swap: as for `AdditiveCoupling`; here `features` is twice the channels of x_b.
        scale: the map.

    Sources: Dinh et al. 2017, section 3.2; Kingma & Dhariwal 2018, table 1.
    """

    net: Callable[..., nn.Module] = ConvNet
    mask: Mask = "channels"
    swap: bool = False
    scale: ScaleMap = "sigmoid"

    def forward(self, x, context=None):
        return self._couple(affine_forward, x, context)

    def inverse(self, z, context=None):
        return self._couple(affine_inverse, z, context)

    @property
    def takes_context(self):
        return takes_context(self.net(features=1))

    @nn.nowrap
    def prepare(self, params):
        return prepare_net(self.net, params)

    @nn.compact
    def _couple(self, affine, x, context):
        x = promote(x)
        parts = partition(self.mask, x, swap=self.swap)
        a, b = parts.split(x)
        net = self.net(features=2 * parts.features, name="net")
        h = promote(net(*net_inputs(net, a, context)))
        shift, log_scale = h[..., 0::2], self._log_scale(h[..., 1::2])
        b, log_det = affine(b, parts.restrict(shift), parts.restrict(log_scale))
        return parts.merge(a, b), log_det

    def _log_scale(self, raw):
        check_choice("scale", self.scale, ("sigmoid", "floor", "tanh"))
        if self.scale == "tanh":
            gain = self.param("gain", nn.initializers.ones, raw.shape[-1:], raw.dtype)
            offset = self.param("offset", nn.initializers.zeros, raw.shape[-1:], raw.dtype)
            return tanh_log_scale(raw, gain, offset)
        return {"sigmoid": sigmoid_log_scale, "floor": floor_log_scale}[self.scale](raw)


class Coupling(nn.Module):
    """z_b = f(x_b; net(x_a)) for any elementwise map f; x_a passes.

    Attributes:
        transform: f, such as `rational_quadratic()` or `mixture_cdf()`.
        net, mask, swap: as for `AdditiveCoupling`; here `features` is `transform.size` times the
            channels of x_b, and those of one channel lie side by side.

    Sources: Dinh et al. 2017, section 3.2; Durkan et al. 2019, section 3.
    """

    transform: Elementwise
    net: Callable[..., nn.Module] = MLP
    mask: Mask = "channels"
    swap: bool = False

    def forward(self, x, context=None):
        return self._couple(self.transform.forward, x, context)

    def inverse(self, z, context=None):
        return self._couple(self.transform.inverse, z, context)

    @property
    def takes_context(self):
        return takes_context(self.net(features=1))

    @nn.nowrap
    def prepare(self, params):
        return prepare_net(self.net, params)

    @nn.compact
    def _couple(self, apply, x, context):
        x, size = promote(x), self.transform.size
        parts = partition(self.mask, x, swap=self.swap)
        a, b = parts.split(x)
        net = self.net(features=size * parts.features, name="net")
        h = promote(net(*net_inputs(net, a, context)))
        b, log_slope = apply(b, h.reshape(*h.shape[:-1], parts.features, size))
        return parts.merge(a, b), sum_event(parts.restrict(log_slope))


def prepare_net(net: Callable[..., nn.Module], params: Any) -> Any:
    """A coupling's parameters with those of its net in the form that the net's `prepare` makes."""
    prepare = getattr(net(features=1), "prepare", None)  # which goes by the params' own sizes
    return params if prepare is None else {**params, "net": prepare(params["net"])}
