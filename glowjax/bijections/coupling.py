"""Coupling layers: one part of the input decides how the other is mapped (Dinh et al. 2015)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.bijections.masks import Mask, Partition, partition
from glowjax.bijections.scalar.elementwise import (
    Elementwise,
    Scale,
    additive,
    affine,
    has_fixed_units,
)
from glowjax.context import net_inputs, net_takes_context
from glowjax.nets.convnet import ConvNet
from glowjax.nets.mlp import MLP

Net = Callable[..., nn.Module]


class Coupling(nn.Module):
    """z_b = f(x_b; net(x_a)) for any elementwise map f; x_a passes. log_det = Σ ln f'.

    Attributes:
        transform: f, such as `affine(scale="sigmoid")`, `additive()`, `rational_quadratic()` or
            `mixture_cdf()`.
        net: makes the conditioner, a Linen module called with `(x_a, context)`, from the number of
            its output `features`: as many as f has parameters for the channels of x_b, those of one
            channel side by side. One whose `__call__` has no parameter `context`, such as
            `ConvNet`, is called with x_a alone, and refuses a context. It may have a method
            `prepare`, as `as_flow` describes. Default: `ConvNet` for images, `MLP` for vectors.
        mask: `"channels"` or `"checkerboard"`.
        swap: exchanges the roles of the two parts.

    Parameters that f `shared` are a parameter of the coupling, `[channels of x_b, shared]`, 0 at
    first.

    Sources: Dinh et al. 2015, section 3.1; Dinh et al. 2017, section 3.2; Durkan et al. 2019,
    section 3.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.Coupling(glowjax.affine())), jnp.ones((4, 3))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 3), (4,))
    """

    transform: Elementwise
    net: Net | None = None
    mask: Mask = "channels"
    swap: bool = False

    @property
    def fixed_units(self) -> bool:
        return has_fixed_units(self.transform)

    def forward(self, x, context=None) -> tuple[jax.Array, jax.Array]:
        return self._couple(self.transform.forward, x, context)

    def inverse(self, z, context=None) -> tuple[jax.Array, jax.Array]:
        return self._couple(self.transform.inverse, z, context)

    @property
    def takes_context(self) -> bool:
        return self.net is None or net_takes_context(self.net)

    @nn.nowrap
    def _net(self, *, images: bool) -> Net:
        return self.net or (ConvNet if images else MLP)

    @nn.nowrap
    def prepare(self, params) -> dict[str, Any]:
        images = any(jnp.ndim(leaf) == 4 for leaf in jax.tree.leaves(params["net"]))
        net = self._net(images=images)(features=1)
        if not hasattr(net, "prepare"):
            return {"params": params}
        variables = net.prepare(params["net"])  # which goes by the params' own sizes
        others = {name: value for name, value in params.items() if name != "net"}
        parts = {collection: {"net": tree} for collection, tree in variables.items()}
        return {**parts, "params": {**others, **parts.get("params", {})}}

    def parameters(self, x, context=None) -> jax.Array:
        """The parameters of f for every number of x_b, `[B, ..., channels, size]`."""
        parts = partition(self.mask, x, swap=self.swap)
        return self._raw(parts.split(promote(x))[0], parts, context)

    def _couple(self, apply, x, context):
        x = promote(x)
        parts = partition(self.mask, x, swap=self.swap)
        a, b = parts.split(x)
        b, log_slope = apply(b, self._raw(a, parts, context))
        return parts.merge(a, b), sum_event(parts.restrict(log_slope))

    @nn.compact
    def _raw(self, a, parts: Partition, context: Any):
        channels, shared = parts.features, self.transform.shared
        size = self.transform.size - shared
        net = self._net(images=a.ndim == 4)(features=size * channels, name="net")
        h = parts.restrict(promote(net(*net_inputs(net, a, context))))
        raw = h.reshape(*h.shape[:-1], channels, size)
        if not shared:
            return raw
        learned = self.param("shared", nn.initializers.zeros, (channels, shared), raw.dtype)
        learned = jnp.broadcast_to(learned, (*raw.shape[:-1], shared))
        return jnp.concatenate([raw, learned], axis=-1)


def AdditiveCoupling(
    net: Net | None = None, mask: Mask = "channels", swap: bool = False
) -> Coupling:
    """`Coupling` by `additive()`: z_b = x_b + net(x_a), log_det = 0."""
    return Coupling(additive(), net, mask, swap)


def AffineCoupling(
    net: Net | None = None,
    mask: Mask = "channels",
    swap: bool = False,
    scale: Scale = "sigmoid",
) -> Coupling:
    """`Coupling` by `affine(scale=scale)`: z_b = (x_b + shift)·exp(log_scale)."""
    return Coupling(affine(scale=scale), net, mask, swap)
