"""Gaussianization flows of vectors (Laparra et al. 2011; Meng et al. 2020): assembly only."""

from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.gaussianization import MarginalGaussianization
from glowjax.bijections.linear.conv1x1 import InvertibleConv1x1
from glowjax.checks import check_integer, check_positive
from glowjax.compose import chain
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat


@recorded
def gaussianization_flow(
    *,
    steps: int = 8,
    components: int = 16,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """Rotations between layers that make each number normal: vectors `[B, D]`, D at least 2.

    x -> ActNorm -> `MarginalGaussianization` -> K × [rotation, `MarginalGaussianization`] -> z.
    There is no net, and it takes no context.

    `init` is rotation-based iterative Gaussianization (RBIG): layer by layer, a random rotation and
    then mixtures that fit what came out of it, without gradients. Each layer brings the data closer
    to N(0, I). So `density(gaussianization_flow(...), (D,)).init(key, x)`, on all of the data,
    already is a density of them, and `fit` then trains all layers together, rotations included; by
    default from what `init` makes of the first 1,024 examples.

    Args:
        steps: K, how many rotations. Without gradients take more of them, such as 30.
        components: of each mixture, which are logistics.
        backprop, unroll: see `repeat`; `"invert"` costs the inverses of the mixtures.

    Raises:
        ValueError: an argument is not as above; vectors of 1 number.

    Sources: Laparra et al. 2011, Iterative Gaussianization: from ICA to random rotations; Meng et
    al. 2020, Gaussianization flows, whose rotations are Householder reflections.

    Examples:
        >>> model = glowjax.density(glowjax.gaussianization_flow(steps=2, components=4), (3,))
        >>> x = jax.random.normal(jax.random.key(0), (100, 3))
        >>> params = jax.jit(model.init)(jax.random.key(1), x)
        >>> jax.jit(model.log_prob)(params, x).shape
        (100,)
    """
    check_positive(steps=steps)
    check_integer("components", components, 2)
    marginal = as_flow(MarginalGaussianization(components))
    step = chain(rotation=as_flow(InvertibleConv1x1("rotation")), marginal=marginal)
    return chain(
        actnorm=as_flow(ActNorm()),
        marginal=marginal,
        steps=repeat(step, steps, backprop=backprop, unroll=unroll),
    )
