"""Jet (Kolesnikov et al. 2024), couplings whose nets are vision transformers: assembly only."""

import functools

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.permute import Riffle
from glowjax.bijections.scalar.elementwise import affine
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import check_positive
from glowjax.compose import chain
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.models.flowpp import on_checkerboard
from glowjax.models.sizes import checking_sizes
from glowjax.nets.layers import Dtype
from glowjax.nets.vit import ViT


@recorded
def jet(
    *,
    patch: int = 4,
    steps: int = 4,
    channel_couplings: int = 4,
    width: int = 256,
    blocks: int = 2,
    heads: int = 4,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """Jet: images `[B, H, W, C]` -> a latent `[B, H/p, W/p, p²·C]`.

    x -> patches of p×p pixels as tokens -> ActNorm -> K × `jet_step` -> z. H must be a multiple of
    p, and W one of 2p.

    Three things are changed. The ActNorm makes the units of the images not matter; the paper has
    none. Before each coupling of channels `Riffle` mixes them, since all steps are one compiled
    loop with the same permutations: a random one, as the paper draws for each coupling, would leave
    some channels in the same half for ever. And tokens are split by checkerboards alone, where the
    paper also has rows and columns.

    Args:
        patch: p.
        steps: K.
        channel_couplings: of the channels, before each coupling of the tokens; the released
            settings for ImageNet have 4.
        width, blocks, heads, dtype: of the nets, see `ViT`.
        backprop, unroll: see `repeat`.

    `context`: floats `[B, F]`, as `ViT` takes them.

    Raises:
        ValueError: an argument is not as above; images of another rank or size.

    Source: Kolesnikov et al. 2024, section 3 and the released code.

    Examples:
        >>> flow = glowjax.jet(patch=2, steps=1, channel_couplings=1, width=4, blocks=1, heads=1)
        >>> x = jnp.zeros((2, 8, 8, 3))
        >>> params = jax.eval_shape(flow.init, jax.random.key(0), x)  # shapes alone
        >>> z, log_det = jax.eval_shape(flow.forward, params, x)
        >>> z.shape, log_det.shape
        ((2, 4, 4, 12), (2,))
    """
    check_positive(patch=patch, steps=steps)
    net = functools.partial(ViT, width=width, blocks=blocks, heads=heads, dtype=dtype)
    step = jet_step(net=net, channel_couplings=channel_couplings)
    flow = chain(
        patches=as_flow(Squeeze(patch)),
        actnorm=as_flow(ActNorm()),
        steps=repeat(step, steps, backprop=backprop, unroll=unroll),
    )
    return checking_sizes(flow, height=patch, width=2 * patch, option=f"patch={patch}")


@recorded
def jet_step(*, net, channel_couplings: int = 4) -> Flow:
    """One step of Jet, `[B, H, W, C]` -> the same shape, W even and C at least 2.

    N couplings of the channels' halves, each after a `Riffle` of the channels, then one of the odd
    positions of a checkerboard by the even ones; then the same with the colours exchanged. The map
    of a number is

        z = (x + b)·2σ(r),    with b and r from the net.

    Args:
        net: makes a coupling's conditioner, see `Coupling`.
        channel_couplings: N.

    Raises:
        ValueError: an argument is not as above.

    Source: Kolesnikov et al. 2024, section 3.
    """
    check_positive(channel_couplings=channel_couplings)
    transform = affine(scale="double_sigmoid")
    channel = chain(mixing=as_flow(Riffle()), coupling=as_flow(Coupling(transform, net)))
    channels = repeat(channel, channel_couplings)
    odd, even = (
        on_checkerboard(as_flow(Coupling(transform, net, swap=swap))) for swap in (False, True)
    )
    return chain(channels1=channels, odd=odd, channels2=channels, even=even)
