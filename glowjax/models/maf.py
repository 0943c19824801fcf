"""Masked and inverse autoregressive flows of vectors: assembly only."""

import functools
from typing import Literal

import flax.linen as nn

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.autoregressive import Autoregressive
from glowjax.bijections.permute import Reverse, Riffle, Shuffle
from glowjax.bijections.scalar.elementwise import Elementwise, affine
from glowjax.checks import check_integer, check_positive, require
from glowjax.compose import chain, invert
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.nets.activations import Activation
from glowjax.nets.layers import lecun_normal
from glowjax.nets.made import MADE, is_seed

Order = Literal["riffle", "alternate"] | int
BOUND = 2.0  # of a step's |log_scale|: eight steps stretch by e¹⁶ at most, within float32's 24 bits


@recorded
def maf(
    *,
    steps: int = 8,
    transform: Elementwise | None = None,
    width: int = 64,
    depth: int = 2,
    activation: Activation = "relu",
    order: Order = "riffle",
    backprop: Backprop = "recompute",
    unroll: int | bool = 1,
) -> Flow:
    """A masked autoregressive flow: vectors `[B, D]`, densities in one step, samples in D.

    x -> steps × [ActNorm, `Autoregressive` with a `MADE`, permutation] -> z. ActNorm has the place
    of the paper's batch normalisation: inputs at scale from the first batch on, and examples that
    do not depend on each other. A float `context` of `[B, F]` conditions every step.

    Args:
        steps: how many.
        transform: of every number; default: `affine(bound=2)`, since an unbounded exp overflows in
            the inverse where the net extrapolates.
        width, depth, activation: of the hidden layers of the nets, see `MADE`.
        order: of the inputs, from step to step: `"riffle"` interleaves its halves, see `Riffle`,
            `"alternate"` reverses it, which lets every latent depend on every input after two
            steps, a seed shuffles it by the same fixed permutation.
        backprop, unroll: see `repeat`; `"invert"` costs the D steps of the inverse.

    Raises:
        ValueError: an argument is not as above.

    Source: Papamakarios et al. 2017, section 3.

    Examples:
        >>> flow = glowjax.maf(steps=2, width=4, depth=1)
        >>> x = jnp.zeros((4, 3))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 3), (4,))
    """
    check_positive(steps=steps)
    step = _step(transform, order, MADE, width=width, depth=depth, activation=activation)
    return repeat(step, steps, backprop=backprop, unroll=unroll)


@recorded
def iaf(
    *,
    steps: int = 8,
    transform: Elementwise | None = None,
    width: int = 64,
    depth: int = 2,
    activation: Activation = "silu",
    order: Order = "alternate",
    backprop: Backprop = "recompute",
    unroll: int | bool = 1,
) -> Flow:
    """An inverse autoregressive flow, `invert(maf(...))`: samples in one step, densities in D.

    Arguments and errors as for `maf`. Three defaults differ, since reverse KL and samplers take the
    gradient of the density, and there are no data to overfit: the nets have SiLU, and first weights
    as large as LeCun's; and the order of the inputs is reversed from step to step.

    Source: Kingma et al. 2016, section 4.

    Examples:
        >>> model = glowjax.density(glowjax.iaf(steps=1, width=4, depth=1), (3,))
        >>> params = model.init_from_base(jax.random.key(0), 8)
        >>> x, log_prob = model.sample_and_log_prob(params, jax.random.key(1), 5)
        >>> x.shape, log_prob.shape
        ((5, 3), (5,))
    """
    check_positive(steps=steps)
    net = functools.partial(MADE, kernel_init=lecun_normal)
    step = _step(transform, order, net, width=width, depth=depth, activation=activation)
    return invert(repeat(step, steps, backprop=backprop, unroll=unroll))


def _step(transform, order, net, *, width, depth, activation):
    check_positive(width=width)
    check_integer("depth", depth, 0)
    made = functools.partial(net, width=width, depth=depth, activation=activation)
    transform = affine(bound=BOUND) if transform is None else transform
    return chain(
        actnorm=as_flow(ActNorm()),
        autoregressive=as_flow(Autoregressive(transform, made)),
        permutation=as_flow(_permutation(order)),
    )


def _permutation(order: Order) -> nn.Module:
    if order in ("riffle", "alternate"):
        return Riffle() if order == "riffle" else Reverse()
    wanted = "'riffle', 'alternate' or a seed of at least 0"
    require(is_seed(order), "order", order, wanted)
    return Shuffle(int(order))
