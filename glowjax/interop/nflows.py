"""Trained flows of nflows as flows of glowjax.

flow, params = from_nflows(trained)  # an nflows.flows.Flow, or a transform
log_prob = glowjax.density(flow, event_shape=(D,)).log_prob(params, x)
"""

from typing import Any

import numpy as np

from glowjax.bijections.scalar.elementwise import additive, affine
from glowjax.checks import require
from glowjax.flow import Flow
from glowjax.interop import parts, torch_nets
from glowjax.interop.parts import Dense, Part, kind
from glowjax.interop.torch_nets import array, refuse


def from_nflows(model: Any) -> tuple[Flow, Any]:
    """A trained flow or transform of nflows, of vectors, and its parameters.

    Log-likelihoods are equal, with `glowjax.standard_normal` as the base, up to rounding.
    Parameters keep their dtype. Dropout is left out and BatchNorm takes its running statistics,
    as after `model.eval()`. docs/other-libraries.md lists what can be converted.

    Args:
        model: an `nflows.flows.Flow` with a standard normal base, or a transform.

    Returns:
        `(flow, params)`: forward goes from data to latents, as in nflows.

    Raises:
        ValueError: a part cannot be converted; the message names it.

    Source: https://github.com/bayesiains/nflows, version 0.14.
    """
    require(parts.is_of("nflows", model), "model", kind(model), "a flow or a transform of nflows")
    if hasattr(model, "_transform") and hasattr(model, "_distribution"):
        base, embedding = kind(model._distribution), kind(model._embedding_net)
        require(base == "StandardNormal", "model", f"the base {base}", "one of base StandardNormal")
        refuse(embedding != "Identity", "model", f"the embedding net {embedding}")
        model = model._transform
    return parts.converted(_part(model), torch_nets.dtype_of(model))


def _part(transform: Any) -> Part:
    return parts.converter(CONVERTERS, "nflows", "transform", transform)(transform)


def _composite(transform):
    return parts.in_order([_part(each) for each in transform._transforms])


def _inverse(transform):
    return parts.inverted(_part(transform._transform))


def _permutation(transform):
    refuse(transform._dim != 1, kind(transform), f"dim={transform._dim}")
    return parts.permutation(transform._permutation.numpy())


def _linear(transform):
    return parts.linear(Dense(array(transform.weight()).T, array(transform.bias)))


def _actnorm(transform):
    return parts.normalization(array(transform.log_scale), array(transform.shift))


def _batch_norm(transform):
    log_scale = np.log(array(transform.weight))
    log_scale -= 0.5 * np.log(array(transform.running_var) + transform.eps)
    shift = array(transform.bias) - array(transform.running_mean) * np.exp(log_scale)
    return parts.normalization(log_scale, shift)


def _masked_affine(transform):
    scale = affine(scale="softplus", least=transform._epsilon, shift="last")
    return torch_nets.masked_affine(transform, scale)


def _affine_coupling(transform):
    count = transform.num_transform_features
    shifts, scales = np.split(np.arange(2 * count), 2)
    order = parts.alternating(shifts, scales)
    scale = affine(scale="sigmoid", least=1e-3, shift="last")
    return torch_nets.coupling(transform, scale, lambda out: parts.outputs(out, order))


def _additive_coupling(transform):
    return torch_nets.coupling(transform, additive(), lambda out: out)


CONVERTERS = {
    "ActNorm": _actnorm,
    "AdditiveCouplingTransform": _additive_coupling,
    "AffineCouplingTransform": _affine_coupling,
    "BatchNorm": _batch_norm,
    "CompositeTransform": _composite,
    "InverseTransform": _inverse,
    "LULinear": _linear,
    "MaskedAffineAutoregressiveTransform": _masked_affine,
    "MaskedPiecewiseRationalQuadraticAutoregressiveTransform": torch_nets.masked_spline,
    "NaiveLinear": _linear,
    "Permutation": _permutation,
    "PiecewiseRationalQuadraticCDF": torch_nets.elementwise_spline,
    "PiecewiseRationalQuadraticCouplingTransform": torch_nets.spline_coupling,
    "QRLinear": _linear,
    "RandomPermutation": _permutation,
    "ReversePermutation": _permutation,
    "SVDLinear": _linear,
}
