"""Glow (Kingma & Dhariwal 2018): assembly only."""

import functools
from typing import Literal

import flax.linen as nn

from glowjax.bijections.actnorm import GlowActNorm
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.linear.conv1x1 import InvertibleConv1x1
from glowjax.bijections.linear.conv_exponential import ConvExponential
from glowjax.bijections.linear.emerging import EmergingConv
from glowjax.bijections.linear.periodic import PeriodicConv
from glowjax.bijections.permute import Reverse, Shuffle
from glowjax.bijections.scalar.elementwise import Scale, additive, affine
from glowjax.bijections.split import Split, TopPrior
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import check_choice, check_positive
from glowjax.compose import chain, multiscale, on_last
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.models.sizes import checking_sizes
from glowjax.nets.convnet import ConvNet
from glowjax.nets.layers import Dtype, Initializer

CouplingMap = Literal["affine", "additive"]
Mixing = Literal[
    "conv1x1",
    "conv1x1_lu",
    "periodic_conv",
    "emerging_conv",
    "conv_exponential",
    "reverse",
    "shuffle",
]


@recorded
def glow(
    *,
    levels: int = 3,
    steps: int = 32,
    width: int = 512,
    coupling: CouplingMap = "affine",
    scale: Scale = "sigmoid",
    mixing: Mixing = "conv1x1",
    num_classes: int | None = None,
    ring: bool = True,
    norm: bool = True,
    output_init: Initializer = nn.initializers.zeros,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """Glow: images `[B, H, W, C]`, floats in about [-½, ½] -> one whitened latent per level.

    x -> squeeze -> K × [ActNorm, mixing, coupling] -> split -> squeeze -> … -> top prior, each
    level's leaving half and the top whitened by learned Gaussian priors: the base is N(0, I). With
    the defaults it computes the function of the released TensorFlow code. It is
    `chain(backbone=glow_backbone(...), top=glow_top(...))`.

    Args:
        levels: L; height and width must be divisible by 2^L.
        steps: K, flow steps per level.
        width: hidden channels of the coupling nets.
        coupling: `"affine"` or `"additive"`.
        scale: map of an affine coupling's scale, see `affine`; `"floor"` bounds the
            inverse, for models that must sample.
        mixing: of channels: the `InvertibleConv1x1`, its LU form, a fixed permutation, or a
            convolution of 3×3: `PeriodicConv`, `EmergingConv`, or `ConvExponential` after an
            `InvertibleConv1x1`.
        num_classes: makes the top prior conditional on labels, `context: [B]` integers.
        ring: the padding-ring channel of every 3×3 convolution.
        norm: ActNorms in the coupling nets.
        output_init: of the weights of the nets' last convolutions.
        dtype: of the hidden layers of the nets; `jnp.bfloat16` for speed.
        backprop, unroll: see `repeat`.

    Raises:
        ValueError: an argument is not as above; images of another rank or size.

    Examples:
        >>> flow = glowjax.glow(levels=2, steps=1, width=4)
        >>> x = jnp.zeros((2, 8, 8, 3))
        >>> params = jax.jit(flow.init)(jax.random.key(0), x)
        >>> z, log_det = jax.jit(flow.forward)(params, x)
        >>> [latent.shape for latent in z], log_det.shape
        ([(2, 4, 4, 6), (2, 2, 2, 24)], (2,))
    """
    if num_classes is not None:
        check_positive(num_classes=num_classes)
    return chain(
        backbone=glow_backbone(
            levels=levels,
            steps=steps,
            width=width,
            coupling=coupling,
            scale=scale,
            mixing=mixing,
            ring=ring,
            norm=norm,
            output_init=output_init,
            dtype=dtype,
            backprop=backprop,
            unroll=unroll,
        ),
        top=glow_top(num_classes=num_classes, ring=ring),
    )


@recorded
def glow_backbone(
    *,
    levels: int = 3,
    steps: int = 32,
    width: int = 512,
    coupling: CouplingMap = "affine",
    scale: Scale = "sigmoid",
    mixing: Mixing = "conv1x1",
    ring: bool = True,
    norm: bool = True,
    output_init: Initializer = nn.initializers.zeros,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """Glow up to its top latent, which is not whitened: for what reads features off it.

    Images `[B, H, W, C]` -> one latent per level, the top one last; arguments and errors as for
    `glow`.
    """
    check_positive(levels=levels, steps=steps, width=width)
    net = functools.partial(
        ConvNet, width=width, ring=ring, norm=norm, output_init=output_init, dtype=dtype
    )
    step = glow_step(net=net, coupling=coupling, scale=scale, mixing=mixing)
    steps_of_flow = repeat(step, steps, backprop=backprop, unroll=unroll)
    level = chain(squeeze=as_flow(Squeeze()), steps=steps_of_flow)
    flow = multiscale([level] * levels, [as_flow(Split(ring=ring))] * (levels - 1))
    divisor = 2**levels
    return checking_sizes(flow, height=divisor, width=divisor, option=f"levels={levels}")


@recorded
def glow_step(*, net, coupling: CouplingMap, scale: Scale, mixing: Mixing) -> Flow:
    """One step of flow, `[B, H, W, C]` -> the same shape: ActNorm, mixing of channels, coupling.

    Args:
        net: makes the coupling's conditioner, see `Coupling`.
        coupling, scale, mixing: see `glow`.

    Raises:
        ValueError: an option is not one of its choices.

    Source: Kingma & Dhariwal 2018, section 3, figure 2a.
    """
    check_choice("coupling", coupling, ("affine", "additive"))
    transforms = {"affine": affine(scale=scale), "additive": additive()}
    return chain(
        actnorm=as_flow(GlowActNorm()),
        mixing=mixing_flow(mixing),
        coupling=as_flow(Coupling(transforms[coupling], net)),
    )


def mixing_flow(mixing: Mixing) -> Flow:
    """The mixing of channels of one step, by its name; see `glow`."""
    conv1x1 = as_flow(InvertibleConv1x1())
    flows = {
        "conv1x1": conv1x1,
        "conv1x1_lu": as_flow(InvertibleConv1x1("lu")),
        "periodic_conv": as_flow(PeriodicConv()),
        "emerging_conv": as_flow(EmergingConv()),
        "conv_exponential": chain(conv1x1=conv1x1, exponential=as_flow(ConvExponential())),
        "reverse": as_flow(Reverse()),
        "shuffle": as_flow(Shuffle()),
    }
    check_choice("mixing", mixing, flows)
    return flows[mixing]


@recorded
def glow_top(*, num_classes: int | None = None, ring: bool = True) -> Flow:
    """Whitens the last of the backbone's latents by the learned top prior: see `TopPrior`."""
    return on_last(as_flow(TopPrior(num_classes=num_classes, ring=ring)))
