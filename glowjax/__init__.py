"""Normalizing flows in JAX: Glow and the flows around it, as pure functions over Flax modules.

    flow = glowjax.glow(levels=3, steps=32, width=512)
    params = flow.init(key, images)
    z, log_det = flow.forward(params, images)
    x, _ = flow.inverse(params, z)

`forward` goes from data to latents; log-determinants are in nats, `[B]`, of the map just applied.
"""

import importlib
from typing import TYPE_CHECKING, Any

from glowjax import preprocess, surjections, testing
from glowjax.arrays import actnorm_statistics
from glowjax.bijections.actnorm import (
    ActNorm,
    GlowActNorm,
    actnorm_forward,
    actnorm_inverse,
    trainable,
)
from glowjax.bijections.autoregressive import (
    Autoregressive,
    autoregressive_forward,
    autoregressive_inverse,
)
from glowjax.bijections.block_autoregressive import (
    BlockAutoregressive,
    BlockLayer,
    block_autoregressive_forward,
    block_autoregressive_inverse,
)
from glowjax.bijections.checkerboard import (
    CheckerboardSqueeze,
    checkerboard_forward,
    checkerboard_inverse,
)
from glowjax.bijections.contraction import lipswish
from glowjax.bijections.coupling import AdditiveCoupling, AffineCoupling, Coupling
from glowjax.bijections.gaussianization import MarginalGaussianization
from glowjax.bijections.haar import Haar, haar_forward, haar_inverse
from glowjax.bijections.linear.conv1x1 import (
    InvertibleConv1x1,
    conv1x1_forward,
    conv1x1_inverse,
    conv1x1_lu_forward,
    conv1x1_lu_inverse,
)
from glowjax.bijections.linear.conv_exponential import (
    ConvExponential,
    conv_exponential_forward,
    conv_exponential_inverse,
)
from glowjax.bijections.linear.emerging import (
    EmergingConv,
    emerging_conv_forward,
    emerging_conv_inverse,
)
from glowjax.bijections.linear.factorizations import random_rotation, random_rotation_lu
from glowjax.bijections.linear.householder import (
    Householder,
    householder_forward,
    householder_inverse,
)
from glowjax.bijections.linear.periodic import (
    PeriodicConv,
    periodic_conv_forward,
    periodic_conv_inverse,
)
from glowjax.bijections.linear.woodbury import Woodbury, woodbury_forward, woodbury_inverse
from glowjax.bijections.logit import Logit, logit_forward, logit_inverse
from glowjax.bijections.ode.continuous import Continuous
from glowjax.bijections.ode.few_steps import path_in_steps, straightness
from glowjax.bijections.permute import (
    Permute,
    Reverse,
    Riffle,
    Shuffle,
    permute_forward,
    permute_inverse,
)
from glowjax.bijections.planar import Planar, planar_forward, planar_inverse
from glowjax.bijections.radial import Radial, radial_forward, radial_inverse
from glowjax.bijections.residual import (
    Residual,
    residual_inverse,
    residual_log_det,
    residual_log_det_series,
)
from glowjax.bijections.roots import increasing_root
from glowjax.bijections.scalar.bernstein import bernstein
from glowjax.bijections.scalar.by_column import by_column
from glowjax.bijections.scalar.circular import circular_spline
from glowjax.bijections.scalar.composed import composed
from glowjax.bijections.scalar.deep_sigmoidal import deep_sigmoidal
from glowjax.bijections.scalar.elementwise import (
    Elementwise,
    ElementwiseFlow,
    additive,
    affine,
    affine_forward,
    affine_inverse,
)
from glowjax.bijections.scalar.mixture_cdf import mixture_cdf, mixture_log_prob, mixture_sample
from glowjax.bijections.scalar.mixture_fit import fitted_mixture
from glowjax.bijections.scalar.spline import rational_quadratic
from glowjax.bijections.scalar.sum_of_squares import sum_of_squares
from glowjax.bijections.scalar.unconstrained_monotonic import unconstrained_monotonic
from glowjax.bijections.split import Split, TopPrior, unwhiten, whiten
from glowjax.bijections.squeeze import Squeeze, squeeze_forward, squeeze_inverse
from glowjax.bijections.sylvester import Sylvester, sylvester_forward, sylvester_inverse
from glowjax.compose import chain, invert, multiscale, on_last, with_context
from glowjax.context import drop_context
from glowjax.densities import targets, toy
from glowjax.densities.annealed_losses import craft, fab
from glowjax.densities.annealing import Annealed, anneal, annealed_importance_sampling
from glowjax.densities.annealing_schedules import tuned_step_size, tuned_temperatures
from glowjax.densities.bases import (
    Base,
    class_conditional_normal,
    diagonal_normal,
    distrax_base,
    gaussian_mixture,
    logistic,
    resampled_normal,
    standard_normal,
    student_t,
    uniform,
)
from glowjax.densities.denoising import tweedie
from glowjax.densities.density import Density, density
from glowjax.densities.dequantizers import (
    Dequantizer,
    dequantized,
    log_prob_bound,
    uniform_dequantizer,
    variational_dequantizer,
)
from glowjax.densities.flow_matching import flow_matching
from glowjax.densities.importance import (
    Importance,
    importance_sampling,
    importance_weighted_log_prob,
)
from glowjax.densities.latents import attribute_direction, interpolate, redraw_levels
from glowjax.densities.lennard_jones import lennard_jones
from glowjax.densities.objectives import (
    alpha_divergence,
    effective_sample_size,
    forward_kl,
    importance_weighted_bound,
    log_mean_exp,
    log_weights,
    reverse_kl,
)
from glowjax.densities.quantization import (
    bin_centres,
    bits_per_dim,
    dequantize,
    from_uint8,
    quantize,
    to_uint8,
)
from glowjax.densities.spaces import circular_base, product_base, von_mises
from glowjax.densities.standardized import Standardized
from glowjax.densities.surjection import (
    Surjection,
    generative_surjection,
    inference_surjection,
)
from glowjax.densities.targets import Target
from glowjax.expression import recorded
from glowjax.extras import extra
from glowjax.fitting.fit import Fitted, fit
from glowjax.fitting.many import fit_many
from glowjax.fitting.rows import Batch
from glowjax.flow import Flow, as_flow
from glowjax.loops import repeat
from glowjax.models.circular import circular_maf, circular_spline_flow
from glowjax.models.dequantizer import dequantization_flow
from glowjax.models.flowpp import flowpp, flowpp_noise, flowpp_step
from glowjax.models.gaussianization import gaussianization_flow
from glowjax.models.glow import glow, glow_backbone, glow_step, glow_top
from glowjax.models.jet import jet, jet_step
from glowjax.models.maf import iaf, maf
from glowjax.models.neural_spline import neural_spline_flow
from glowjax.models.realnvp import realnvp, realnvp_mlp, realnvp_single_scale, realnvp_step
from glowjax.models.tarflow import tarflow, tarflow_step
from glowjax.models.wavelet import WaveletLevel, wavelet_flow, wavelet_levels
from glowjax.nets.causal_vit import CausalViT
from glowjax.nets.convnet import ConvNet
from glowjax.nets.gated_attention import GatedAttention
from glowjax.nets.made import MADE
from glowjax.nets.mlp import MLP
from glowjax.nets.pixelcnn import PixelCNN
from glowjax.nets.resnet import ResNet, weight_norm
from glowjax.nets.vit import ViT
from glowjax.timing import Timing, bench, copy_bandwidth, matmul_flops, matmul_peak

if TYPE_CHECKING:
    from glowjax.runs.loading import load
    from glowjax.runs.trained import ImageModel

__version__ = "0.1.0"

__all__ = [
    "MADE",
    "MLP",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Annealed",
    "Autoregressive",
    "Base",
    "Batch",
    "BlockAutoregressive",
    "BlockLayer",
    "CausalViT",
    "CheckerboardSqueeze",
    "Continuous",
    "ConvExponential",
    "ConvNet",
    "Coupling",
    "Density",
    "Dequantizer",
    "Elementwise",
    "ElementwiseFlow",
    "EmergingConv",
    "Fitted",
    "Flow",
    "GatedAttention",
    "GlowActNorm",
    "Haar",
    "Householder",
    "ImageModel",
    "Importance",
    "InvertibleConv1x1",
    "Logit",
    "MarginalGaussianization",
    "PeriodicConv",
    "Permute",
    "PixelCNN",
    "Planar",
    "Radial",
    "ResNet",
    "Residual",
    "Reverse",
    "Riffle",
    "Shuffle",
    "Split",
    "Squeeze",
    "Standardized",
    "Surjection",
    "Sylvester",
    "Target",
    "Timing",
    "TopPrior",
    "ViT",
    "WaveletLevel",
    "Woodbury",
    "actnorm_forward",
    "actnorm_inverse",
    "actnorm_statistics",
    "additive",
    "affine",
    "affine_forward",
    "affine_inverse",
    "alpha_divergence",
    "anneal",
    "annealed_importance_sampling",
    "as_flow",
    "attribute_direction",
    "autoregressive_forward",
    "autoregressive_inverse",
    "bench",
    "bernstein",
    "bin_centres",
    "bits_per_dim",
    "block_autoregressive_forward",
    "block_autoregressive_inverse",
    "by_column",
    "chain",
    "checkerboard_forward",
    "checkerboard_inverse",
    "circular_base",
    "circular_maf",
    "circular_spline",
    "circular_spline_flow",
    "class_conditional_normal",
    "composed",
    "conv1x1_forward",
    "conv1x1_inverse",
    "conv1x1_lu_forward",
    "conv1x1_lu_inverse",
    "conv_exponential_forward",
    "conv_exponential_inverse",
    "copy_bandwidth",
    "craft",
    "deep_sigmoidal",
    "density",
    "dequantization_flow",
    "dequantize",
    "dequantized",
    "diagonal_normal",
    "distrax_base",
    "drop_context",
    "effective_sample_size",
    "emerging_conv_forward",
    "emerging_conv_inverse",
    "fab",
    "fit",
    "fit_many",
    "fitted_mixture",
    "flow_matching",
    "flowpp",
    "flowpp_noise",
    "flowpp_step",
    "forward_kl",
    "from_uint8",
    "gaussian_mixture",
    "gaussianization_flow",
    "generative_surjection",
    "glow",
    "glow_backbone",
    "glow_step",
    "glow_top",
    "haar_forward",
    "haar_inverse",
    "householder_forward",
    "householder_inverse",
    "iaf",
    "importance_sampling",
    "importance_weighted_bound",
    "importance_weighted_log_prob",
    "increasing_root",
    "inference_surjection",
    "interpolate",
    "invert",
    "jet",
    "jet_step",
    "lennard_jones",
    "lipswish",
    "load",
    "log_mean_exp",
    "log_prob_bound",
    "log_weights",
    "logistic",
    "logit_forward",
    "logit_inverse",
    "maf",
    "matmul_flops",
    "matmul_peak",
    "mixture_cdf",
    "mixture_log_prob",
    "mixture_sample",
    "multiscale",
    "neural_spline_flow",
    "on_last",
    "path_in_steps",
    "periodic_conv_forward",
    "periodic_conv_inverse",
    "permute_forward",
    "permute_inverse",
    "planar_forward",
    "planar_inverse",
    "preprocess",
    "product_base",
    "quantize",
    "radial_forward",
    "radial_inverse",
    "random_rotation",
    "random_rotation_lu",
    "rational_quadratic",
    "realnvp",
    "realnvp_mlp",
    "realnvp_single_scale",
    "realnvp_step",
    "recorded",
    "redraw_levels",
    "repeat",
    "resampled_normal",
    "residual_inverse",
    "residual_log_det",
    "residual_log_det_series",
    "reverse_kl",
    "squeeze_forward",
    "squeeze_inverse",
    "standard_normal",
    "straightness",
    "student_t",
    "sum_of_squares",
    "surjections",
    "sylvester_forward",
    "sylvester_inverse",
    "tarflow",
    "tarflow_step",
    "targets",
    "testing",
    "to_uint8",
    "toy",
    "trainable",
    "tuned_step_size",
    "tuned_temperatures",
    "tweedie",
    "unconstrained_monotonic",
    "uniform",
    "uniform_dequantizer",
    "unwhiten",
    "variational_dequantizer",
    "von_mises",
    "wavelet_flow",
    "wavelet_levels",
    "weight_norm",
    "whiten",
    "with_context",
    "woodbury_forward",
    "woodbury_inverse",
]

TRAIN = {"ImageModel": "trained", "load": "loading"}  # what needs glowjax[train], and where it is


def __getattr__(name: str) -> Any:
    if name not in TRAIN:
        raise AttributeError(f"module 'glowjax' has no attribute {name!r}")
    with extra("train", f"glowjax.{name}"):
        module = importlib.import_module(f"glowjax.runs.{TRAIN[name]}")
    return getattr(module, name)
