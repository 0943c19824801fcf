"""RealNVP (Dinh et al. 2017): assembly only."""

import functools

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.masks import Mask
from glowjax.bijections.permute import Riffle
from glowjax.bijections.scalar.elementwise import Elementwise, affine
from glowjax.bijections.split import Split
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import check_positive
from glowjax.compose import chain, invert, multiscale
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.nets.activations import Activation
from glowjax.nets.layers import Dtype
from glowjax.nets.mlp import MLP
from glowjax.nets.resnet import ResNet


@recorded
def realnvp(
    *,
    levels: int = 2,
    width: int = 64,
    blocks: int = 8,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
) -> Flow:
    """RealNVP of several scales: images `[B, H, W, C]` -> a tuple of one latent per level.

    Each level but the last: 3 checkerboard couplings, squeeze, 3 channel couplings, and half of the
    channels leaves; the last: 4 checkerboard couplings. Masks alternate. Of the paper, two things
    are changed: an ActNorm before each coupling in the place of batch normalization, and the half
    that leaves is whitened by a learned Gaussian prior (`Split`), which starts as the paper's
    N(0, I).

    Args:
        levels: height and width must be divisible by 2^(levels - 1). The paper has 2 for CIFAR-10.
        width: hidden channels of the nets of the first level; squeezing doubles them.
        blocks: residual blocks of a net, see `ResNet`.
        dtype: of the hidden layers of the nets; `jnp.bfloat16` for speed.
        backprop: see `repeat`; here for each coupling by itself, which is a `repeat` of one.

    `context`: floats, as `ResNet` takes them.

    Raises:
        ValueError: an argument is not as above; images of another rank or size.

    Source: Dinh et al. 2017, sections 3.6 and 4.1.

    Examples:
        >>> flow = glowjax.realnvp(levels=1, width=2, blocks=1)
        >>> x = jnp.zeros((2, 4, 4, 3))
        >>> params = jax.eval_shape(flow.init, jax.random.key(0), x)  # shapes alone
        >>> z, log_det = jax.eval_shape(flow.forward, params, x)
        >>> [latent.shape for latent in z], log_det.shape
        ([(2, 4, 4, 3)], (2,))
    """
    check_positive(levels=levels, width=width, blocks=blocks)

    def couplings(n, mask, level):
        return _couplings(n, mask, width * 2**level, blocks, dtype, backprop)

    flows = [
        chain(
            checkerboard=couplings(3, "checkerboard", level),
            squeeze=as_flow(Squeeze()),
            channels=couplings(3, "channels", level + 1),
        )
        for level in range(levels - 1)
    ]
    last = chain(checkerboard=couplings(4, "checkerboard", levels - 1))
    return multiscale([*flows, last], [as_flow(Split())] * (levels - 1))


@recorded
def realnvp_single_scale(
    *,
    width: int = 128,
    blocks: int = 8,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
) -> Flow:
    """RealNVP of 32×32 images without splits: `[B, H, W, C]` -> a latent of the same shape.

    4 checkerboard couplings, squeeze, 3 channel couplings, unsqueeze, 3 checkerboard couplings,
    with an ActNorm before each: the architecture of courses. Height and width must be even;
    arguments, context and errors as for `realnvp`, but for `width`, which is that of every net.
    """
    check_positive(width=width, blocks=blocks)

    def couplings(n, mask):
        return _couplings(n, mask, width, blocks, dtype, backprop)

    return chain(
        checkerboard1=couplings(4, "checkerboard"),
        squeeze=as_flow(Squeeze()),
        channels=couplings(3, "channels"),
        unsqueeze=invert(as_flow(Squeeze())),
        checkerboard2=couplings(3, "checkerboard"),
    )


@recorded
def realnvp_mlp(
    *,
    steps: int = 8,
    transform: Elementwise | None = None,
    width: int = 64,
    depth: int = 2,
    activation: Activation = "relu",
    backprop: Backprop = "recompute",
    unroll: int | bool = 1,
) -> Flow:
    """RealNVP of vectors: `[B, D]`, D at least 2, -> the same shape.

    K × [ActNorm, coupling of the halves, `Riffle`], with an `MLP` in each coupling. A float
    `context` of `[B, F]` goes to the nets. Splines in the place of affine maps:
    `neural_spline_flow`.

    Args:
        steps: K.
        transform: of every number of a half, as `rational_quadratic`; default: the paper's affine
            one, its log-scale gain·tanh(·) + offset.
        width, depth, activation: of the hidden layers of the nets, see `MLP`.
        backprop, unroll: see `repeat`.

    Raises:
        ValueError: an argument is not as above; vectors of 1 number.

    Source: Dinh et al. 2017, section 3.

    Examples:
        >>> flow = glowjax.realnvp_mlp(steps=2, width=4, depth=1)
        >>> x = jnp.zeros((4, 3))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 3), (4,))
    """
    check_positive(steps=steps, width=width, depth=depth)
    net = functools.partial(MLP, width=width, depth=depth, activation=activation)
    step = chain(step=realnvp_step(net=net, transform=transform), permutation=as_flow(Riffle()))
    return repeat(step, steps, backprop=backprop, unroll=unroll)


@recorded
def realnvp_step(
    *, net, mask: Mask = "channels", swap: bool = False, transform: Elementwise | None = None
) -> Flow:
    """One step: ActNorm, then a coupling.

    Args:
        net, mask, swap: of the coupling, see `Coupling`.
        transform: of a number; default: the paper's, `affine(scale="tanh")`.
    """
    transform = affine(scale="tanh") if transform is None else transform
    return chain(actnorm=as_flow(ActNorm()), coupling=as_flow(Coupling(transform, net, mask, swap)))


def _couplings(n, mask, width, blocks, dtype, backprop):
    """`n` steps with alternating masks."""
    net = functools.partial(ResNet, width=width, blocks=blocks, dtype=dtype)
    steps = [realnvp_step(net=net, mask=mask, swap=i % 2 == 1) for i in range(n)]
    return chain(
        **{
            f"step{number}": repeat(step, 1, backprop=backprop, unroll=True)
            for number, step in enumerate(steps, 1)
        }
    )
