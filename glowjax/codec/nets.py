"""What nets say of the numbers in fixed point, in float64: the one part that is not whole numbers.

Glow's nets are whole numbers inside, see `quantized`. Others are in float64 throughout, where other
machines and versions add up in another order, so they differ in the last bits: see `steady`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from glowjax.bijections.coupling import Coupling
from glowjax.bijections.split import Split, TopPrior
from glowjax.codec.fixed_point import FRACTION
from glowjax.codec.quantized import QuantizedConvNet
from glowjax.nets.convnet import ConvNet


def coupling(
    module: Coupling, variables: Any, x: jax.Array, context: Any
) -> tuple[jax.Array, jax.Array]:
    """Scale and offset of the half that a coupling changes."""
    args = (_floats(x),) + (() if context is None else (context,))
    raw: Any = module.apply(variables, *args, method="parameters")
    offset, log_scale = module.transform.forward(jnp.zeros(raw.shape[:-1], raw.dtype), raw)
    return jnp.exp(log_scale), offset


def split(
    module: Split, variables: Any, kept: jax.Array, like: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scale and offset that whiten the half that leaves, of the shape of `like`."""
    return _whitening(module.apply(variables, _floats(kept), like, method="prior"))


def top(module: TopPrior, variables: Any, x: jax.Array, labels: Any) -> tuple[jax.Array, jax.Array]:
    """Scale and offset that whiten the top latent."""
    zeros = jnp.zeros(x.shape, jnp.float64)
    return _whitening(module.apply(variables, zeros, labels, method="prior"))


def prepared(module: Coupling, params: Any) -> tuple[Coupling, Any]:
    """A coupling with the net that the codec computes, and the variables to apply it with."""
    module = module.clone(net=_net(module.net))
    return module, _prepare(module, params)


@functools.partial(jax.jit, static_argnums=0)
def _prepare(module, params):
    return module.prepare(params)


@functools.cache  # partials are equal if they are one: else each step would compile its own
def _net(net):
    """A net without narrower floats inside; `ConvNet`, the default of images, in whole numbers."""
    make, options = (net.func, net.keywords) if isinstance(net, functools.partial) else (net, {})
    if make in (None, ConvNet):
        make = QuantizedConvNet
    elif "dtype" not in options:
        return net
    return functools.partial(make, **options | ({"dtype": None} if "dtype" in options else {}))


def _floats(x):
    return x.astype(jnp.float64) * 2.0**-FRACTION


def _whitening(prior):
    mean, log_std = prior
    scale = jnp.exp(-log_std)
    return scale, -mean * scale
