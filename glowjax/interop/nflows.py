"""Trained flows of nflows as flows of glowjax.

flow, params = from_nflows(trained)  # an nflows.flows.Flow, or a transform
log_prob = glowjax.density(flow, event_shape=(D,)).log_prob(params, x)
"""

from typing import Any

import numpy as np

from glowjax.bijections.elementwise import additive, affine
from glowjax.checks import require
from glowjax.flow import Flow
from glowjax.interop import parts, torch_nets
from glowjax.interop.parts import Dense, Part
from glowjax.interop.torch_nets import Spline, array, refuse


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
    require(_is_nflows(model), "model", _kind(model), "a flow or a transform of nflows")
    if hasattr(model, "_transform") and hasattr(model, "_distribution"):
        base, embedding = _kind(model._distribution), _kind(model._embedding_net)
        require(base == "StandardNormal", "model", f"the base {base}", "one of base StandardNormal")
        refuse(embedding != "Identity", "model", f"the embedding net {embedding}")
        model = model._transform
    dtypes = {tensor.dtype for tensor in model.parameters()}
    double = any("float64" in str(dtype) for dtype in dtypes)
    return parts.converted(_part(model), np.float64 if double else np.float32)


def _part(transform: Any) -> Part:
    kind = _kind(transform)
    known = _is_nflows(transform) and kind in CONVERTERS
    require(known, "transform", kind, f"one of {', '.join(sorted(CONVERTERS))} of nflows")
    return CONVERTERS[kind](transform)


def _kind(thing):
    return type(thing).__name__


def _is_nflows(thing):
    return type(thing).__module__.partition(".")[0] == "nflows"


def _composite(transform):
    return parts.in_order([_part(each) for each in transform._transforms])


def _inverse(transform):
    return parts.inverted(_part(transform._transform))


def _permutation(transform):
    refuse(transform._dim != 1, _kind(transform), f"dim={transform._dim}")
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
    size = transform.features
    order = np.arange(2 * size).reshape(size, 2)[:, ::-1].ravel()  # shift first
    net = torch_nets.masked_net(transform.autoregressive_net, lambda out: parts.outputs(out, order))
    scale = affine(scale="softplus", least=transform._epsilon, shift="last")
    return parts.autoregressive(scale, net)


def _masked_spline(transform):
    spline, net = Spline(transform, transform.num_bins), transform.autoregressive_net
    hidden = getattr(net, "hidden_features", None)
    changed = torch_nets.masked_net(net, lambda out: spline.change(out, hidden))
    return parts.autoregressive(spline.transform, changed)


def _affine_coupling(transform):
    count = transform.num_transform_features
    order = np.arange(2 * count).reshape(2, count).T.ravel()  # theirs: shifts, then scales
    scale = affine(scale="sigmoid", least=1e-3, shift="last")
    return _coupling(transform, scale, lambda out: parts.outputs(out, order))


def _additive_coupling(transform):
    return _coupling(transform, additive(), lambda out: out)


def _spline_coupling(transform):
    spline = Spline(transform, transform.num_bins)
    hidden = getattr(transform.transform_net, "hidden_features", None)
    return _coupling(transform, spline.transform, lambda out: spline.change(out, hidden))


def _coupling(transform, mapping, change):
    own = transform.unconditional_transform
    return parts.coupling(
        mapping,
        torch_nets.conditioner(transform.transform_net, change, None),
        transform.identity_features.numpy(),
        transform.transform_features.numpy(),
        own if own is None else _part(own),
    )


def _spline(transform):
    spline = Spline(transform, transform.unnormalized_widths.shape[-1])
    return parts.elementwise(spline.transform, spline.raw(transform))


CONVERTERS = {
    "ActNorm": _actnorm,
    "AdditiveCouplingTransform": _additive_coupling,
    "AffineCouplingTransform": _affine_coupling,
    "BatchNorm": _batch_norm,
    "CompositeTransform": _composite,
    "InverseTransform": _inverse,
    "LULinear": _linear,
    "MaskedAffineAutoregressiveTransform": _masked_affine,
    "MaskedPiecewiseRationalQuadraticAutoregressiveTransform": _masked_spline,
    "NaiveLinear": _linear,
    "Permutation": _permutation,
    "PiecewiseRationalQuadraticCDF": _spline,
    "PiecewiseRationalQuadraticCouplingTransform": _spline_coupling,
    "QRLinear": _linear,
    "RandomPermutation": _permutation,
    "ReversePermutation": _permutation,
    "SVDLinear": _linear,
}
