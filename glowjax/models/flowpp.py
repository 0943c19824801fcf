"""Flow++ (Ho et al. 2019): assembly only."""

import functools

import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.checkerboard import CheckerboardSqueeze, checkerboard_forward
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.linear.conv1x1 import InvertibleConv1x1
from glowjax.bijections.scalar.composed import composed
from glowjax.bijections.scalar.elementwise import affine
from glowjax.bijections.scalar.mixture_cdf import mixture_cdf
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import check_positive, described, is_array, require
from glowjax.compose import chain, invert, with_context
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.nets.gated_attention import GatedAttention
from glowjax.nets.layers import Dtype


@recorded
def flowpp(
    *,
    steps: tuple[int, int, int] = (4, 2, 3),
    components: int = 32,
    width: int = 96,
    blocks: int = 10,
    heads: int = 4,
    dropout: float = 0.0,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """Flow++: images `[B, H, W, C]` -> a latent `[B, H/2, W/2, 4·C]`.

    H is even, and W a multiple of 4. K₁ steps on the two colours of a checkerboard, squeeze, K₂
    steps on the halves of the channels, and K₃ on the colours of a checkerboard of the squeezed
    image; each is a `flowpp_step`.

    Two things are changed. A step's 1×1 convolution mixes all channels, as Glow's does, where the
    paper has one for each half. And the last latent is squeezed, which changes its shape alone. The
    paper takes the logit of the pixels first, which `Logit(0.05)` in a `chain` does.

    Args:
        steps: (K₁, K₂, K₃), as the paper has them for CIFAR-10.
        components: of a mixture, see `mixture_cdf`.
        width, blocks, heads, dropout, dtype: of the nets, see `GatedAttention`. With a dropout, the
            flow is for training: evaluate its parameters by a flow without one.
        backprop, unroll: see `repeat`.

    `context`: floats, as `GatedAttention` takes them.

    Raises:
        ValueError: an argument is not as above; images of another rank or size.

    Source: Ho et al. 2019, section 4 and the released code.

    Examples:
        >>> flow = glowjax.flowpp(steps=(1, 1, 1), components=2, width=4, blocks=1, heads=1)
        >>> x = jnp.zeros((2, 8, 8, 3))
        >>> params = jax.eval_shape(flow.init, jax.random.key(0), x)  # shapes alone
        >>> z, log_det = jax.eval_shape(flow.forward, params, x)
        >>> z.shape, log_det.shape
        ((2, 4, 4, 12), (2,))
    """
    require(isinstance(steps, tuple) and len(steps) == 3, "steps", steps, "three whole numbers")
    net = functools.partial(
        GatedAttention, width=width, blocks=blocks, heads=heads, dropout=dropout, dtype=dtype
    )
    step = flowpp_step(net=net, components=components)
    first, second, third = (repeat(step, n, backprop=backprop, unroll=unroll) for n in steps)
    return chain(
        checkerboard1=on_checkerboard(first),
        squeeze=as_flow(Squeeze()),
        channels=second,
        checkerboard2=on_checkerboard(third),
    )


@recorded
def flowpp_step(*, net, components: int = 32) -> Flow:
    """One step of Flow++, `[B, ..., C]` -> the same shape, C at least 2.

    ActNorm, an invertible 1×1 convolution, and a coupling of the channels' halves whose map is

        z = logit(F(x))·exp(tanh(a)) + b

    with F the CDF of a mixture of logistics: `mixture_cdf`, and then `affine`.

    Args:
        net: makes the coupling's conditioner, see `Coupling`.
        components: of the mixture.

    Raises:
        ValueError: an argument is not as above.

    Source: Ho et al. 2019, section 3.2, equations 16 and 17.
    """
    transform = composed(mixture_cdf(components), affine(bound=1.0, shift="last"))
    return chain(
        actnorm=as_flow(ActNorm()),
        mixing=as_flow(InvertibleConv1x1()),
        coupling=as_flow(Coupling(transform, net)),
    )


@recorded
def flowpp_noise(
    *,
    steps: int = 4,
    components: int = 32,
    width: int = 32,
    blocks: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """Flow++'s flow of the noise, for `variational_dequantizer`: `[B, H, W, C]` to the same.

    It is the inverse of K `flowpp_step`s on the two colours of a checkerboard, so that to draw
    noise, by `inverse`, needs no iterations. The nets see the context, an image of the same height
    and width, as it is; in the paper, a net of its own reads it first.

    Args:
        steps: K.
        components, width, blocks, heads, dropout, dtype, backprop, unroll: see `flowpp`.

    Raises:
        ValueError: an argument is not as above; x or the context is no image of an even width.

    Source: Ho et al. 2019, sections 3.1 and 4, and the released code.
    """
    check_positive(steps=steps)
    net = functools.partial(
        GatedAttention, width=width, blocks=blocks, heads=heads, dropout=dropout, dtype=dtype
    )
    step = flowpp_step(net=net, components=components)
    flow = repeat(step, steps, backprop=backprop, unroll=unroll)
    return with_context(invert(on_checkerboard(flow)), _colours)


def on_checkerboard(flow: Flow) -> Flow:
    """`flow` of an image whose channels are the two colours of a checkerboard."""
    squeeze = as_flow(CheckerboardSqueeze())
    return chain(squeeze=squeeze, steps=flow, unsqueeze=invert(squeeze))


def _colours(image):
    shape = jnp.shape(image) if is_array(image) else ()
    if len(shape) != 4 or 0 in shape or shape[2] % 2:
        raise ValueError(
            f"context must be images [B, H, W, C] of an even width, got {described(image)}"
        )
    return checkerboard_forward(promote(image))[0]
