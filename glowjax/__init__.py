"""Normalizing flows in JAX: Glow and the flows around it, as pure functions over Flax modules.

    flow = glowjax.glow(levels=3, steps=32, width=512)
    params = flow.init(key, images)
    z, log_det = flow.forward(params, images)
    x, _ = flow.inverse(params, z)

`forward` goes from data to latents; log-determinants are in nats, `[B]`, of the map just applied.
"""

from glowjax.actnorm import ActNorm, actnorm_forward, actnorm_inverse, actnorm_statistics
from glowjax.bases import Base, distrax_base, standard_normal
from glowjax.bench import Timing, bench, copy_bandwidth, matmul_flops, matmul_peak
from glowjax.conv1x1 import (
    InvertibleConv1x1,
    conv1x1_forward,
    conv1x1_inverse,
    conv1x1_lu_forward,
    conv1x1_lu_inverse,
    random_rotation,
    random_rotation_lu,
)
from glowjax.coupling import (
    AdditiveCoupling,
    AffineCoupling,
    Coupling,
    affine_forward,
    affine_inverse,
)
from glowjax.density import Density, density
from glowjax.discrete import bin_centres, bits_per_dim, dequantize, quantize, to_uint8
from glowjax.elementwise import Elementwise, ElementwiseFlow, affine
from glowjax.flow import Flow, as_flow, chain, invert, multiscale, on_last, repeat
from glowjax.glow import glow, glow_backbone, glow_step, glow_top
from glowjax.nets import MLP, ConvNet
from glowjax.permute import Reverse, Shuffle, permute_forward, permute_inverse
from glowjax.residual import (
    Residual,
    lipswish,
    residual_inverse,
    residual_log_det,
    residual_log_det_series,
)
from glowjax.roots import increasing_root
from glowjax.split import Split, TopPrior, unwhiten, whiten
from glowjax.squeeze import Squeeze, squeeze_forward, squeeze_inverse

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Base",
    "ConvNet",
    "Coupling",
    "Density",
    "Elementwise",
    "ElementwiseFlow",
    "Flow",
    "InvertibleConv1x1",
    "Residual",
    "Reverse",
    "Shuffle",
    "Split",
    "Squeeze",
    "Timing",
    "TopPrior",
    "actnorm_forward",
    "actnorm_inverse",
    "actnorm_statistics",
    "affine",
    "affine_forward",
    "affine_inverse",
    "as_flow",
    "bench",
    "bin_centres",
    "bits_per_dim",
    "chain",
    "conv1x1_forward",
    "conv1x1_inverse",
    "conv1x1_lu_forward",
    "conv1x1_lu_inverse",
    "copy_bandwidth",
    "density",
    "dequantize",
    "distrax_base",
    "glow",
    "glow_backbone",
    "glow_step",
    "glow_top",
    "increasing_root",
    "invert",
    "lipswish",
    "matmul_flops",
    "matmul_peak",
    "multiscale",
    "on_last",
    "permute_forward",
    "permute_inverse",
    "quantize",
    "random_rotation",
    "random_rotation_lu",
    "repeat",
    "residual_inverse",
    "residual_log_det",
    "residual_log_det_series",
    "squeeze_forward",
    "squeeze_inverse",
    "standard_normal",
    "to_uint8",
    "unwhiten",
    "whiten",
]
