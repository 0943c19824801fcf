"""Every public flow once, in one table: what the property harness runs over."""

import functools
import importlib.util
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax
from glowjax import as_flow, preprocess
from glowjax.arrays import promote
from glowjax.preprocess.triangular import from_triangle, outer_product, symmetric, to_triangle
from glowjax.testing import check_flow, moved

IMAGE = (4, 4, 2)
SMALL_NET = functools.partial(glowjax.ConvNet, width=8)
SMALL_MLP = functools.partial(glowjax.MLP, width=8)
SMALL_MADE = functools.partial(glowjax.MADE, width=8)
SMALL_PIXELCNN = functools.partial(glowjax.PixelCNN, width=4, depth=2)
SMALL_RESNET = functools.partial(glowjax.ResNet, width=6, blocks=2)
SMALL_ATTENTION = functools.partial(glowjax.GatedAttention, width=4, blocks=1, heads=2)
SMALL_VIT = functools.partial(glowjax.ViT, width=4, blocks=2, heads=2)
SMALL_RESIDUAL = functools.partial(glowjax.Residual, width=8)


class Case(NamedTuple):
    flow: glowjax.Flow
    shape: tuple[int, ...]  # of one event of x
    covers: tuple[str, ...]  # public names
    context: Any = None  # "labels", a number of features, or the shape of an image
    noise: float = 0.1  # on every parameter; less where it would multiply up over the depth
    within: Any = None  # puts normal numbers where the flow is defined


def coupling_step(**hyper):
    return glowjax.chain(as_flow(glowjax.ActNorm()), as_flow(glowjax.AffineCoupling(**hyper)))


def drawn(key, shape, dtype):
    """Initialises last convolutions: with zero ones couplings are constant, and errors hide."""
    return 0.05 * jax.random.normal(key, shape, dtype)


def small_glow(**hyper):
    return glowjax.glow(levels=2, steps=2, width=8, output_init=drawn, **hyper)


class FreeNumbers(nn.Module):
    """A flow of arrays that depend on each other, as one of so many as its latents have.

    Attributes:
        flow: without parameters.
        of: "parts" of a whole, all but the last; a point of the "sphere", the same; "symmetric"
            matrices, the lower triangle; or "correlations", what is below the diagonal.
    """

    flow: glowjax.Flow
    of: str

    def forward(self, x):
        x = promote(x)
        if self.of == "sphere":  # its area over that of the disk below is 1 / height
            height = jnp.sqrt(1 - jnp.sum(jnp.square(x), axis=-1))
            z, log_det = self.flow.forward({}, jnp.concatenate([x, height[:, None]], axis=-1))
            return z, log_det - jnp.log(height)
        if self.of == "parts":
            whole = jnp.concatenate([x, 1 - jnp.sum(x, axis=-1, keepdims=True)], axis=-1)
        else:
            whole = symmetric(from_triangle("x", x, strict=self.of == "correlations"))
        if self.of == "correlations":
            whole = whole + jnp.eye(whole.shape[-1], dtype=x.dtype)
        return self.flow.forward({}, whole)

    def inverse(self, z):
        whole, log_det = self.flow.inverse({}, z)
        if self.of == "sphere":
            return whole[..., :-1], log_det + jnp.log(whole[..., -1])
        if self.of == "parts":
            return whole[..., :-1], log_det
        return to_triangle(whole, strict=self.of == "correlations"), log_det


def free_numbers(flow, of):
    return as_flow(FreeNumbers(flow, of))


def rising(x):
    return jnp.cumsum(jnp.exp(x), axis=-1) - 3


def some_parts(x):
    return jax.nn.softmax(jnp.pad(x, ((0, 0), (0, 1))))[:, :-1]


def covariances(x):
    return to_triangle(outer_product(from_triangle("x", x)) + 0.1 * jnp.eye(2))


def mixed_columns(x):
    return jnp.stack([x[:, 0], jnp.exp(x[:, 1]), *rising(x[:, 2:]).T], axis=1)


def angles(x):
    return 3 * jnp.sin(x)


def on_half_a_sphere(x):
    """What is left when the last number of a point of the sphere, above 0, is left out."""
    return 0.9 * x / jnp.sqrt(1 + jnp.sum(jnp.square(x), axis=-1, keepdims=True))


VECTOR_STEP = coupling_step(net=SMALL_MLP, scale="tanh")

CASES = {
    "actnorm": Case(as_flow(glowjax.ActNorm()), IMAGE, ("ActNorm", "as_flow")),
    "actnorm_glow": Case(as_flow(glowjax.GlowActNorm()), (3,), ("GlowActNorm",)),
    "conv1x1": Case(as_flow(glowjax.InvertibleConv1x1()), IMAGE, ("InvertibleConv1x1",)),
    "conv1x1_lu": Case(as_flow(glowjax.InvertibleConv1x1("lu")), (2, 2, 5), ()),
    "conv1x1_qr": Case(as_flow(glowjax.InvertibleConv1x1("qr")), (4,), ()),
    "conv1x1_svd": Case(as_flow(glowjax.InvertibleConv1x1("svd")), (2, 3), ()),
    "conv1x1_triangular": Case(as_flow(glowjax.InvertibleConv1x1("triangular")), (4,), ()),
    "conv1x1_rotation": Case(as_flow(glowjax.InvertibleConv1x1("rotation")), (4,), ()),
    "conv1x1_exponential": Case(as_flow(glowjax.InvertibleConv1x1("exponential")), (2, 3), ()),
    "householder": Case(as_flow(glowjax.Householder(3)), (5,), ("Householder",)),
    "woodbury": Case(as_flow(glowjax.Woodbury(2)), (2, 5), ("Woodbury",)),
    "periodic_conv": Case(as_flow(glowjax.PeriodicConv()), (2, 4, 2), ("PeriodicConv",)),
    "periodic_conv_5": Case(as_flow(glowjax.PeriodicConv(5)), (3, 6, 1), ()),
    "periodic_conv_odd": Case(as_flow(glowjax.PeriodicConv()), (4, 3, 2), ()),
    "emerging_conv": Case(as_flow(glowjax.EmergingConv()), (3, 2, 2), ("EmergingConv",)),
    "emerging_conv_5": Case(as_flow(glowjax.EmergingConv(5)), (4, 5, 1), ()),
    "emerging_conv_square": Case(as_flow(glowjax.EmergingConv()), (4, 4, 3), ()),
    "conv_exponential": Case(as_flow(glowjax.ConvExponential()), (2, 3, 2), ("ConvExponential",)),
    "conv_exponential_5": Case(as_flow(glowjax.ConvExponential(5)), (3, 6, 1), ()),
    "conv_exponential_scaled": Case(  # its kernel is scaled down
        as_flow(glowjax.ConvExponential(max_norm=0.5)), IMAGE, (), noise=0.3
    ),
    "permute": Case(as_flow(glowjax.Permute((2, 0, 1))), (3,), ("Permute",)),
    "reverse": Case(as_flow(glowjax.Reverse()), IMAGE, ("Reverse",)),
    "riffle": Case(as_flow(glowjax.Riffle()), IMAGE, ("Riffle",)),
    "riffle_odd": Case(as_flow(glowjax.Riffle()), (7,), ()),
    "shuffle": Case(as_flow(glowjax.Shuffle(seed=3)), (7,), ("Shuffle",)),
    "squeeze": Case(as_flow(glowjax.Squeeze()), IMAGE, ("Squeeze",)),
    "squeeze_3": Case(as_flow(glowjax.Squeeze(3)), (3, 6, 2), ()),
    "haar": Case(as_flow(glowjax.Haar()), (2, 2, 2), ("Haar",)),
    "logit_invert": Case(  # its latents are where data are
        glowjax.invert(as_flow(glowjax.Logit())), (3,), ("Logit",)
    ),
    "logit_alpha_invert": Case(glowjax.invert(as_flow(glowjax.Logit(0.05))), IMAGE, ()),
    "exp": Case(preprocess.exp(), (3,), ("preprocess.exp",), within=jnp.exp),
    "softplus": Case(preprocess.softplus(), (3,), ("preprocess.softplus",), within=jnp.exp),
    "power": Case(preprocess.power(3), (3,), ("preprocess.power",), within=jnp.exp),
    "power_negative": Case(preprocess.power(-0.5), (3,), (), within=jnp.exp),
    "sigmoid": Case(
        preprocess.sigmoid(-1.5, 4), (3,), ("preprocess.sigmoid",), within=lambda x: 2 * jnp.sin(x)
    ),
    "tanh": Case(preprocess.tanh(), (3,), ("preprocess.tanh",), within=jnp.sin),
    "fixed_affine": Case(  # which standardized makes
        preprocess.fixed_affine((1, 2, 3), -2.5),
        (3,),
        ("preprocess.fixed_affine", "preprocess.standardized"),
    ),
    "fixed_affine_images": Case(preprocess.fixed_affine(0.5, (0.1, 10)), IMAGE, ()),
    "ordered": Case(preprocess.ordered(), (4,), ("preprocess.ordered",), within=rising),
    "stick_breaking": Case(
        free_numbers(preprocess.stick_breaking(), "parts"),
        (3,),
        ("preprocess.stick_breaking",),
        within=some_parts,
    ),
    "softmax_centered": Case(
        free_numbers(preprocess.softmax_centered(), "parts"),
        (3,),
        ("preprocess.softmax_centered",),
        within=some_parts,
    ),
    "cholesky": Case(
        free_numbers(preprocess.cholesky(), "symmetric"),
        (3,),
        ("preprocess.cholesky",),
        within=covariances,
    ),
    "correlation": Case(
        free_numbers(preprocess.correlation(), "correlations"),
        (6,),
        ("preprocess.correlation",),
        within=lambda x: jnp.sin(x) / 3,
    ),
    "sphere": Case(
        free_numbers(preprocess.sphere(), "sphere"),
        (2,),
        ("preprocess.sphere",),
        within=on_half_a_sphere,
    ),
    "sphere_4d": Case(
        free_numbers(preprocess.sphere(), "sphere"), (4,), (), within=on_half_a_sphere
    ),
    "columns": Case(
        preprocess.columns(
            {"height": None, "income": preprocess.exp(), "span": (preprocess.ordered(), 2)}
        ),
        (4,),
        ("preprocess.columns",),
        within=mixed_columns,
    ),
    "columns_learned": Case(
        preprocess.columns(
            (None, 2), (glowjax.chain(preprocess.exp(), VECTOR_STEP), 2), as_flow(glowjax.ActNorm())
        ),
        (5,),
        (),
        context=2,
        within=jnp.exp,
    ),
    "additive": Case(
        as_flow(glowjax.AdditiveCoupling(SMALL_NET)), IMAGE, ("AdditiveCoupling", "ConvNet")
    ),
    "additive_checkerboard": Case(
        as_flow(glowjax.AdditiveCoupling(SMALL_NET, "checkerboard", swap=True)), (3, 4, 1), ()
    ),
    "affine": Case(as_flow(glowjax.AffineCoupling(SMALL_NET)), IMAGE, ("AffineCoupling",)),
    "affine_odd_channels": Case(
        as_flow(glowjax.AffineCoupling(SMALL_NET, swap=True, scale="floor")), (2, 4, 3), ()
    ),
    "affine_checkerboard": Case(
        as_flow(glowjax.AffineCoupling(SMALL_NET, "checkerboard", scale="tanh")), (3, 4, 2), ()
    ),
    "affine_plain_net": Case(
        as_flow(glowjax.AffineCoupling(functools.partial(SMALL_NET, ring=False, norm=False))),
        IMAGE,
        (),
    ),
    "affine_sigmoid_least": Case(
        as_flow(glowjax.Coupling(glowjax.affine(scale="sigmoid", least=1e-3), SMALL_MLP)), (3,), ()
    ),
    "affine_shift_last": Case(
        as_flow(
            glowjax.Coupling(glowjax.affine(scale="softplus", least=1e-3, shift="last"), SMALL_MLP)
        ),
        (3,),
        (),
    ),
    "affine_residual_mlp": Case(
        as_flow(
            glowjax.AffineCoupling(
                functools.partial(SMALL_MLP, activation="tanh", residual=True), scale="exp"
            )
        ),
        (3,),
        (),
        context=2,
    ),
    "affine_context": Case(
        as_flow(glowjax.AffineCoupling(SMALL_MLP, scale="floor")), (3,), ("MLP",), context=2
    ),
    "elementwise": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.affine(bound=2.0))), (3,), ("ElementwiseFlow",)
    ),
    "coupling": Case(
        as_flow(glowjax.Coupling(glowjax.affine(), SMALL_MLP, swap=True)),
        (3,),
        ("Coupling",),
        context=2,
    ),
    "coupling_checkerboard": Case(
        as_flow(glowjax.Coupling(glowjax.affine(bound=2.0), SMALL_NET, "checkerboard")), IMAGE, ()
    ),
    "split": Case(as_flow(glowjax.Split()), IMAGE, ("Split",)),
    "split_odd_channels": Case(as_flow(glowjax.Split(ring=False)), (2, 2, 5), ()),
    "top_prior": Case(as_flow(glowjax.TopPrior()), IMAGE, ("TopPrior",)),
    "top_prior_labels": Case(
        as_flow(glowjax.TopPrior(num_classes=4, ring=False)), IMAGE, (), context="labels"
    ),
    "chain": Case(
        glowjax.chain(as_flow(glowjax.ActNorm()), as_flow(glowjax.InvertibleConv1x1("lu"))),
        (3,),
        ("chain",),
    ),
    "chain_named": Case(
        glowjax.repeat(
            glowjax.chain(
                norm=as_flow(glowjax.ActNorm()),
                coupling=as_flow(glowjax.AffineCoupling(SMALL_MLP, scale="floor")),
                back=glowjax.invert(as_flow(glowjax.Reverse())),
            ),
            2,
            backprop="invert",
        ),
        (3,),
        (),
        context=2,
    ),
    "invert": Case(glowjax.invert(VECTOR_STEP), (3,), ("invert",)),
    "repeat": Case(glowjax.repeat(VECTOR_STEP, 3), (3,), ("repeat",)),
    "multiscale": Case(
        glowjax.multiscale(
            [as_flow(glowjax.ActNorm()), as_flow(glowjax.Squeeze())], [as_flow(glowjax.Split())]
        ),
        IMAGE,
        ("multiscale",),
    ),
    "on_last": Case(
        glowjax.chain(as_flow(glowjax.Split()), glowjax.on_last(as_flow(glowjax.ActNorm()))),
        IMAGE,
        ("on_last",),
    ),
    "glow_step": Case(
        glowjax.glow_step(net=SMALL_NET, coupling="affine", scale="sigmoid", mixing="conv1x1"),
        IMAGE,
        ("glow_step",),
    ),
    "glow": Case(
        glowjax.glow(levels=1, steps=2, width=8, output_init=drawn),
        (2, 4, 1),
        ("glow", "glow_backbone", "glow_top"),
        noise=0.02,
    ),
    "glow_levels": Case(small_glow(), (4, 4, 1), (), noise=0.02),
    "glow_lu_invert": Case(
        small_glow(mixing="conv1x1_lu", scale="floor", backprop="invert", num_classes=4),
        (4, 8, 2),
        (),
        context="labels",
        noise=0.02,
    ),
    "glow_additive_recompute": Case(
        small_glow(
            coupling="additive", mixing="shuffle", backprop="recompute", ring=False, norm=False
        ),
        (4, 4, 3),
        (),
        noise=0.02,
    ),
    "mixture": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.mixture_cdf(4))), (3,), ("mixture_cdf",), noise=0.3
    ),
    "mixture_normal": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.mixture_cdf(3, to="normal"))), (3,), (), noise=0.3
    ),
    "mixture_uniform": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.mixture_cdf(3, to="uniform"))), (3,), (), noise=0.3
    ),
    "mixture_gaussian_logit": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.mixture_cdf(3, family="gaussian"))),
        (3,),
        (),
        noise=0.3,
    ),
    "mixture_gaussian": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.mixture_cdf(2, family="gaussian", to="normal"))),
        (3,),
        (),
        noise=0.3,
    ),
    "mixture_gaussian_uniform_invert": Case(  # (0, 1) lies in between: latents are as data
        glowjax.chain(
            as_flow(glowjax.ElementwiseFlow(glowjax.mixture_cdf(3, to="uniform"))),
            glowjax.invert(
                as_flow(
                    glowjax.ElementwiseFlow(glowjax.mixture_cdf(2, family="gaussian", to="uniform"))
                )
            ),
        ),
        (3,),
        (),
    ),
    "marginal_gaussianization": Case(
        as_flow(glowjax.MarginalGaussianization(3)), (3,), ("MarginalGaussianization",)
    ),
    "marginal_gaussianization_gaussian": Case(
        as_flow(glowjax.MarginalGaussianization(2, "gaussian")), (2, 2), ()
    ),
    "gaussianization_flow": Case(
        glowjax.gaussianization_flow(steps=1, components=2),
        (2,),
        ("gaussianization_flow",),
        noise=0.05,
    ),
    "mixture_coupling": Case(
        as_flow(glowjax.Coupling(glowjax.mixture_cdf(3), SMALL_MLP)), (3,), (), context=2
    ),
    "mixture_coupling_images": Case(
        as_flow(glowjax.Coupling(glowjax.mixture_cdf(2), SMALL_NET, "checkerboard")),
        (2, 2, 2),
        (),
        noise=0.03,
    ),
    "spline": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.rational_quadratic(4))),
        (3,),
        ("rational_quadratic",),
        noise=0.5,
    ),
    "spline_and_its_outside": Case(  # some numbers lie outside
        as_flow(glowjax.ElementwiseFlow(glowjax.rational_quadratic(3, bound=0.8))), (3,), ()
    ),
    "spline_circular": Case(
        as_flow(
            glowjax.ElementwiseFlow(glowjax.rational_quadratic(3, bound=1, end_slopes="circular"))
        ),
        (3,),
        (),
        noise=0.3,
    ),
    "spline_end_slopes": Case(
        as_flow(
            glowjax.ElementwiseFlow(glowjax.rational_quadratic(3, bound=0.8, end_slopes="learned"))
        ),
        (3,),
        (),
        noise=0.5,
    ),
    "spline_coupling": Case(
        as_flow(glowjax.Coupling(glowjax.rational_quadratic(4, bound=3.0), SMALL_MLP, swap=True)),
        (3,),
        (),
        context=2,
    ),
    "spline_coupling_images": Case(
        as_flow(glowjax.Coupling(glowjax.rational_quadratic(3), SMALL_NET, "checkerboard")),
        (2, 2, 2),
        (),
        noise=0.03,
    ),
    "circular_spline": Case(
        as_flow(glowjax.ElementwiseFlow(glowjax.circular_spline(3))),
        (3,),
        (),
        noise=0.5,
        within=angles,
    ),
    "circular_coupling": Case(  # of an angle that a net sees, and of one that it moves
        as_flow(
            glowjax.Coupling(
                glowjax.by_column(glowjax.circular_spline(2), glowjax.affine()),
                functools.partial(SMALL_MLP, depth=1, angles=(0,)),
            )
        ),
        (3,),
        ("circular_spline", "by_column"),
        within=angles,
    ),
    "circular_maf": Case(
        glowjax.circular_maf(("circle", "line", "circle", "interval"), steps=1, bins=3, width=8),
        (4,),
        ("circular_maf",),
        within=lambda x: jnp.sin(x) * jnp.array([3.0, 1.0, 3.0, 0.9]),
    ),
    "circular_maf_conditional": Case(
        glowjax.circular_maf(("line", "circle"), steps=2, bins=3, width=8, depth=0),
        (2,),
        (),
        context=2,
        within=angles,
    ),
    "circular_spline_flow": Case(
        glowjax.circular_spline_flow(("circle", "line", "circle"), steps=1, bins=2, width=4),
        (3,),
        ("circular_spline_flow",),
        within=lambda x: jnp.sin(x) * jnp.array([3.0, 1.0, 3.0]),
    ),
    "circular_spline_flow_conditional": Case(
        glowjax.circular_spline_flow(("interval", "circle"), steps=2, bins=2, width=4, depth=1),
        (2,),
        (),
        context=2,
        within=lambda x: jnp.sin(x) * jnp.array([0.9, 3.0]),
    ),
    "circular_spline_random_order": Case(
        as_flow(
            glowjax.Autoregressive(
                glowjax.circular_spline(2), functools.partial(SMALL_MADE, order=3, angles=(0, 3))
            )
        ),
        (4,),
        (),
        within=angles,
    ),
    "planar": Case(as_flow(glowjax.Planar()), (5,), ("Planar",), noise=0.5),
    "planar_1d": Case(as_flow(glowjax.Planar()), (1,), (), noise=0.5),
    "planar_net": Case(as_flow(glowjax.Planar(SMALL_MLP)), (2,), (), context=3, noise=0.3),
    "planar_inverted": Case(
        glowjax.invert(glowjax.repeat(as_flow(glowjax.Planar()), 3)), (2,), (), noise=0.3
    ),
    "radial": Case(as_flow(glowjax.Radial()), (5,), ("Radial",), noise=0.5),
    "radial_1d": Case(as_flow(glowjax.Radial()), (1,), (), noise=0.5),
    "radial_net": Case(as_flow(glowjax.Radial(SMALL_MLP)), (2,), (), context=3, noise=0.3),
    "radial_inverted": Case(
        glowjax.invert(glowjax.repeat(as_flow(glowjax.Radial()), 3)), (2,), (), noise=0.3
    ),
    "sylvester": Case(as_flow(glowjax.Sylvester(rank=3)), (5,), ("Sylvester",), noise=0.3),
    "sylvester_full": Case(as_flow(glowjax.Sylvester(rank=2)), (2,), (), noise=0.3),
    "sylvester_inverted": Case(
        glowjax.invert(glowjax.repeat(as_flow(glowjax.Sylvester(rank=2)), 3)), (3,), (), noise=0.2
    ),
    "autoregressive": Case(
        as_flow(glowjax.Autoregressive(glowjax.affine(), SMALL_MADE)),
        (4,),
        ("Autoregressive", "MADE"),
    ),
    "autoregressive_reversed": Case(
        as_flow(
            glowjax.Autoregressive(
                glowjax.affine(bound=2.0), functools.partial(SMALL_MADE, order="reversed")
            )
        ),
        (3,),
        (),
        context=2,
    ),
    "autoregressive_random": Case(
        as_flow(glowjax.Autoregressive(glowjax.affine(), functools.partial(SMALL_MADE, order=3))),
        (5,),
        (),
    ),
    "autoregressive_residual": Case(
        as_flow(
            glowjax.Autoregressive(
                glowjax.affine(),
                functools.partial(SMALL_MADE, activation="tanh", residual=True),
            )
        ),
        (4,),
        (),
        context=2,
    ),
    "autoregressive_alone": Case(
        as_flow(glowjax.Autoregressive(glowjax.affine(), SMALL_MADE)), (1,), (), context=2
    ),
    "autoregressive_constant": Case(
        as_flow(glowjax.Autoregressive(glowjax.affine(), SMALL_MADE)), (1,), ()
    ),
    "autoregressive_images": Case(
        as_flow(glowjax.Autoregressive(glowjax.affine(bound=2.0), SMALL_PIXELCNN)),
        (2, 3, 2),
        ("PixelCNN",),
        context=2,
    ),
    "autoregressive_invert": Case(
        glowjax.invert(as_flow(glowjax.Autoregressive(glowjax.affine(), SMALL_MADE))),
        (3,),
        (),
        context=2,
    ),
    "autoregressive_images_invert": Case(
        glowjax.invert(as_flow(glowjax.Autoregressive(glowjax.affine(), SMALL_PIXELCNN))),
        (2, 2, 2),
        (),
    ),
    "maf": Case(glowjax.maf(steps=2, width=8), (3,), ("maf",), context=2),
    "maf_alternate": Case(glowjax.maf(steps=2, width=8, order="alternate"), (3,), ()),
    "maf_shuffled": Case(glowjax.maf(steps=2, width=8, depth=0, order=1), (4,), ()),
    "iaf": Case(glowjax.iaf(steps=2, width=8, depth=1), (3,), ("iaf",), context=2),
    "affine_resnet": Case(
        as_flow(glowjax.AffineCoupling(SMALL_RESNET, "checkerboard", scale="tanh")),
        (3, 4, 1),
        (),
    ),
    "affine_resnet_features": Case(
        as_flow(glowjax.AffineCoupling(SMALL_RESNET, swap=True, scale="tanh")),
        (2, 4, 3),
        (),
        context=2,
    ),
    "realnvp_step": Case(
        glowjax.realnvp_step(net=SMALL_RESNET), IMAGE, ("realnvp_step",), context=(8, 8, 1)
    ),
    "realnvp": Case(glowjax.realnvp(width=3, blocks=1), (4, 4, 1), ("realnvp",), noise=0.05),
    "realnvp_single_scale": Case(
        glowjax.realnvp_single_scale(width=4, blocks=1),
        (2, 2, 1),
        ("realnvp_single_scale",),
        noise=0.05,
    ),
    "realnvp_mlp": Case(glowjax.realnvp_mlp(steps=3, width=8), (3,), ("realnvp_mlp",), context=2),
    "neural_spline_flow": Case(
        glowjax.neural_spline_flow(steps=2, bins=3, width=8), (3,), ("neural_spline_flow",)
    ),
    "dequantization_flow": Case(
        glowjax.dequantization_flow(steps=2, width=4, blocks=1),
        (3, 2, 2),
        ("dequantization_flow",),
        context=(3, 2, 2),
    ),
    "residual": Case(as_flow(SMALL_RESIDUAL()), (3,), ("Residual",), context=2),
    "residual_dense": Case(
        as_flow(SMALL_RESIDUAL(net="dense", activation="clipswish")), (3,), (), context=2
    ),
    "residual_sine": Case(as_flow(SMALL_RESIDUAL(activation="sine")), (2,), ()),
    "residual_repeat": Case(
        glowjax.repeat(as_flow(SMALL_RESIDUAL(depth=1, coefficient=0.5)), 2), (2,), ()
    ),
}

if importlib.util.find_spec("diffrax"):  # of the extra continuous
    CASES["continuous"] = Case(
        as_flow(
            glowjax.Continuous(
                functools.partial(SMALL_MLP, depth=1, activation="silu"), rtol=1e-11, atol=1e-11
            )
        ),
        (2,),
        ("Continuous",),
        context=2,
    )

SMALL_BLOCKS = glowjax.BlockAutoregressive(width=4)
CASES |= {
    "block_autoregressive": Case(
        as_flow(SMALL_BLOCKS), (3,), ("BlockAutoregressive",), context=2, noise=0.3
    ),
    "block_autoregressive_deep": Case(
        as_flow(glowjax.BlockAutoregressive(width=3, depth=3)), (2,), (), noise=0.3
    ),
    "block_autoregressive_inverted": Case(
        glowjax.invert(glowjax.repeat(as_flow(SMALL_BLOCKS), 2)), (2,), (), noise=0.2
    ),
    "block_autoregressive_1d": Case(as_flow(SMALL_BLOCKS), (1,), ()),
}

# Maps of single numbers, some of which lie beyond the bound; the covered case is that without nets.
MONOTONE = {
    "bernstein": glowjax.bernstein(5, bound=1.0),
    "sum_of_squares": glowjax.sum_of_squares(2, bound=1.0),
    "deep_sigmoidal": glowjax.deep_sigmoidal(2),
    "unconstrained_monotonic": glowjax.unconstrained_monotonic(3, bound=1.0, points=64),
}
for name, transform in MONOTONE.items():
    CASES[name] = Case(as_flow(glowjax.ElementwiseFlow(transform)), (3,), (name,), noise=0.3)
    coupling = as_flow(glowjax.Coupling(transform, SMALL_MLP))
    CASES[f"{name}_coupling"] = Case(coupling, (3,), (), context=2)
    autoregressive = as_flow(glowjax.Autoregressive(transform, SMALL_MADE))
    CASES[f"{name}_autoregressive"] = Case(autoregressive, (3,), ())


SMALL_FLOWPP: Any = {"components": 2, "width": 4, "blocks": 1, "heads": 2}
CASES |= {
    "checkerboard": Case(
        as_flow(glowjax.CheckerboardSqueeze()), (3, 4, 2), ("CheckerboardSqueeze",)
    ),
    "composed": Case(
        as_flow(
            glowjax.ElementwiseFlow(
                glowjax.composed(glowjax.affine(), glowjax.mixture_cdf(2), glowjax.affine())
            )
        ),
        (3,),
        ("composed",),
    ),
    "flowpp_step": Case(
        glowjax.flowpp_step(net=SMALL_MLP, components=2), (3,), ("flowpp_step",), context=2
    ),
    "flowpp_step_images": Case(
        glowjax.flowpp_step(net=SMALL_ATTENTION, components=2), IMAGE, (), context=(4, 4, 1)
    ),
    "flowpp_step_features": Case(
        glowjax.flowpp_step(
            net=functools.partial(SMALL_ATTENTION, blocks=2, dropout=0.5), components=3
        ),
        (2, 3, 3),
        (),
        context=2,
    ),
    "flowpp": Case(glowjax.flowpp(steps=(1, 1, 1), **SMALL_FLOWPP), (4, 4, 1), ("flowpp",)),
    "flowpp_recompute": Case(
        glowjax.flowpp(steps=(2, 1, 1), backprop="recompute", **SMALL_FLOWPP), (2, 4, 1), ()
    ),
    "flowpp_invert": Case(
        glowjax.flowpp(steps=(2, 1, 1), backprop="invert", **SMALL_FLOWPP), (2, 4, 1), ()
    ),
    "flowpp_noise": Case(
        glowjax.flowpp_noise(steps=2, backprop="invert", **SMALL_FLOWPP),
        (2, 4, 1),
        ("flowpp_noise",),
        context=(2, 4, 1),
    ),
}

CASES |= {
    "wavelet_flow": Case(
        glowjax.wavelet_flow(
            [glowjax.realnvp_step(net=SMALL_RESNET)],
            glowjax.chain(as_flow(glowjax.ActNorm()), as_flow(glowjax.InvertibleConv1x1())),
        ),
        (2, 4, 1),
        ("wavelet_flow",),
    ),
    "wavelet_flow_of_two_levels": Case(
        glowjax.wavelet_flow(
            [as_flow(glowjax.AffineCoupling(SMALL_NET)), as_flow(glowjax.ActNorm())],
            as_flow(glowjax.ActNorm()),
        ),
        (4, 4, 1),
        (),
    ),
}

SMALL_JET: Any = {"patch": 2, "channel_couplings": 1, "width": 4, "blocks": 1, "heads": 2}
CASES |= {
    "vit_coupling": Case(
        as_flow(glowjax.AffineCoupling(SMALL_VIT, scale="double_sigmoid")),
        (2, 3, 2),
        ("ViT",),
        context=2,
    ),
    "jet_step": Case(
        glowjax.jet_step(net=SMALL_VIT, channel_couplings=2), (2, 2, 3), ("jet_step",)
    ),
    "jet": Case(glowjax.jet(steps=2, **SMALL_JET), (4, 4, 1), ("jet",)),
    "jet_recompute": Case(
        glowjax.jet(steps=2, backprop="recompute", **SMALL_JET), (2, 4, 1), (), context=2
    ),
    "jet_invert": Case(
        glowjax.jet(steps=2, backprop="invert", **SMALL_JET), (2, 4, 1), (), context=2
    ),
}

SMALL_CAUSAL = functools.partial(glowjax.CausalViT, width=4, blocks=2, heads=2)
SMALL_TARFLOW: Any = {"patch": 2, "width": 4, "blocks": 1, "heads": 2}
CASES |= {
    "autoregressive_vit": Case(
        as_flow(glowjax.Autoregressive(glowjax.affine(), SMALL_CAUSAL)),
        (2, 2, 2),
        ("CausalViT",),
        context=2,
    ),
    "tarflow_step": Case(
        glowjax.tarflow_step(net=functools.partial(SMALL_CAUSAL, segment=None)),
        (1, 3, 2),
        ("tarflow_step",),
    ),
    "tarflow": Case(glowjax.tarflow(steps=2, **SMALL_TARFLOW), (2, 4, 1), ("tarflow",)),
    "tarflow_guided": Case(
        glowjax.tarflow(steps=1, guidance=(0.5, 2.0), **SMALL_TARFLOW), (2, 4, 1), (), context=2
    ),
    "tarflow_recompute": Case(
        glowjax.tarflow(steps=2, backprop="recompute", **SMALL_TARFLOW), (2, 4, 1), (), context=2
    ),
    "tarflow_invert": Case(
        glowjax.tarflow(steps=2, backprop="invert", **SMALL_TARFLOW), (2, 4, 1), (), context=2
    ),
}


LONG = {  # minutes of one core: their tests are slow
    "continuous",
    "dequantization_flow",
    "flowpp",
    "flowpp_noise",
    "circular_maf",
    "circular_spline_flow",
    "gaussianization_flow",
    "wavelet_flow",
    "jet",
    "jet_step",
    "vit_coupling",
    "autoregressive_vit",
    "tarflow",
    "tarflow_step",
}
# Variants that take long to compile: their tests run with -m exhaustive.
SLOW = {
    "glow_additive_recompute",
    "glow_lu_invert",
    "mixture_normal",
    "mixture_gaussian_logit",
    "mixture_gaussian_uniform_invert",
    "spline_and_its_outside",
    "autoregressive_alone",
    "autoregressive_invert",
    "residual_repeat",
    "mixture_coupling_images",
    "spline_coupling_images",
    "planar_1d",
    "planar_inverted",
    "radial_1d",
    "radial_net",
    "radial_inverted",
    "sylvester_full",
    "sylvester_inverted",
    "autoregressive_reversed",
    "autoregressive_random",
    "autoregressive_constant",
    "autoregressive_images_invert",
    "maf_shuffled",
    "affine_resnet_features",
    "realnvp",
    "neural_spline_flow",
    "realnvp_single_scale",
    "deep_sigmoidal_autoregressive",
    "flowpp_invert",
    "flowpp_recompute",
    "flowpp_step_features",
    "jet_invert",
    "jet_recompute",
    "tarflow_invert",
    "tarflow_recompute",
}


def named(cases):
    """Names of cases as parameters of a test."""
    return [pytest.param(name, marks=tier(name)) for name in cases]


def tier(name):
    """Marks of a case: the first of a public flow is quick, its variants are not."""
    if name in SLOW:
        return [pytest.mark.exhaustive]
    quick = CASES[name].covers and name not in LONG
    return [] if quick else [pytest.mark.slow]


NAMES = named(CASES)


def data(case: Case, batch: int = 3, seed: int = 0):
    """A batch `x` and its context, from the same seed always."""
    key_x, key_context = jax.random.split(jax.random.key(seed))
    x = 0.3 + 0.7 * jax.random.normal(key_x, (batch, *case.shape), jnp.result_type(float))
    x = x if case.within is None else case.within(x)
    if case.context == "labels":
        return x, jax.random.randint(key_context, (batch,), 0, 4)
    if case.context is not None:
        shape = case.context if isinstance(case.context, tuple) else (case.context,)
        return x, jax.random.normal(key_context, (batch, *shape), x.dtype)
    return x, None


def parameters(case: Case):
    """Parameters initialised on a batch of their own, every one of them then moved.

    Zero-initialised layers would hide wrong signs.
    """
    params = case.flow.init(jax.random.key(1), *data(case, 16))
    return moved(params, case.noise)


def check(case: Case) -> None:
    """Raises `AssertionError` unless the flow is an invertible map with its log-determinant."""
    check_flow(case.flow, *data(case), noise=case.noise, unjitted=False)


def whole(params, key):
    """`params` of a `ConvNet`, drawn anew as few and small whole numbers, its scales all 1.

    Of whole numbers up to 256 bfloat16 makes no error, so no ReLU switches where it should not.
    """

    def draw(path, p, key):
        if path[-1].key == "log_scale":
            return jnp.zeros_like(p)
        inputs = np.prod(p.shape[:-1])
        keys = jax.random.split(key)
        kept = jax.random.bernoulli(keys[0], min(4 / inputs, 0.5), p.shape)
        return kept * jax.random.rademacher(keys[1], p.shape, p.dtype)

    leaves, structure = jax.tree.flatten(params)
    keys = structure.unflatten(list(jax.random.split(key, len(leaves))))
    return jax.tree_util.tree_map_with_path(draw, params, keys)
