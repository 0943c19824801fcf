"""Neural spline flows of vectors (Durkan et al. 2019): assembly only."""

import functools

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.coupling import Coupling
from glowjax.bijections.permute import Riffle
from glowjax.bijections.scalar.spline import rational_quadratic
from glowjax.checks import check_positive
from glowjax.compose import chain
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.nets.activations import Activation
from glowjax.nets.mlp import MLP


@recorded
def neural_spline_flow(
    *,
    steps: int = 8,
    bins: int = 8,
    bound: float = 5.0,
    width: int = 64,
    depth: int = 2,
    activation: Activation = "relu",
    backprop: Backprop = "recompute",
    unroll: int | bool = 1,
) -> Flow:
    """A neural spline flow of couplings: vectors `[B, D]`, D at least 2, -> the same shape.

    K × [ActNorm, coupling of the halves by `rational_quadratic` splines, `Riffle`], with an `MLP`
    in each coupling. Densities and samples take one pass each. A float `context` of `[B, F]` goes
    to the nets. Of the paper's flow, two things are changed: `Riffle` has the place of a linear
    map by an LU factorization, and an ActNorm scales the inputs of each spline.

    Args:
        steps: K.
        bins, bound: of the splines, see `rational_quadratic`.
        width, depth, activation: of the hidden layers of the nets, see `MLP`.
        backprop, unroll: see `repeat`.

    Raises:
        ValueError: an argument is not as above; vectors of 1 number.

    Source: Durkan et al. 2019, section 3: RQ-NSF (C). For RQ-NSF (AR), give `maf` the splines as
    its `transform`.

    Examples:
        >>> flow = glowjax.neural_spline_flow(steps=2, width=4, depth=1)
        >>> x = jnp.zeros((4, 3))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> z.shape, log_det.shape
        ((4, 3), (4,))
    """
    check_positive(steps=steps, width=width, depth=depth)
    net = functools.partial(MLP, width=width, depth=depth, activation=activation)
    spline = rational_quadratic(bins, bound=bound)
    step = chain(
        actnorm=as_flow(ActNorm()),
        coupling=as_flow(Coupling(spline, net)),
        permutation=as_flow(Riffle()),
    )
    return repeat(step, steps, backprop=backprop, unroll=unroll)
