"""TarFlow (Zhai et al. 2024), autoregressive flows of patches by transformers: assembly only."""

import functools

import jax.numpy as jnp

from glowjax.arrays import promote
from glowjax.bijections.actnorm import ActNorm
from glowjax.bijections.autoregressive import Autoregressive
from glowjax.bijections.scalar.elementwise import affine
from glowjax.bijections.squeeze import Squeeze
from glowjax.checks import check_positive, require
from glowjax.compose import chain
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow
from glowjax.loops import Backprop, repeat
from glowjax.models.sizes import checking_sizes
from glowjax.nets.causal_vit import CausalViT
from glowjax.nets.layers import Dtype


@recorded
def tarflow(
    *,
    patch: int = 4,
    steps: int = 4,
    width: int = 256,
    blocks: int = 4,
    heads: int = 4,
    segment: int | None = 1,
    tolerance: float = 0.0,
    guidance: float | tuple[float, float] = 0.0,
    dtype: Dtype | None = None,
    backprop: Backprop = "store",
    unroll: int | bool = 1,
) -> Flow:
    """TarFlow: images `[B, H, W, C]` -> a latent `[B, H/p, W/p, p²·C]`.

    x -> patches of p×p pixels as tokens -> ActNorm -> K × `tarflow_step` -> z. H and W must be
    multiples of p. A density takes one evaluation of each net, and a sample about one too, in
    small steps, token after token.

    Two things are changed. The ActNorm makes the units of the images not matter; the paper has
    none. And the first token is mapped too, by what the net makes of a token of zeros, which all
    others see as well; the paper leaves it as it is.

    The paper makes samples better in three ways. It trains on images with Gaussian noise, which is
    added in the loss, and it removes the noise of samples, as `tweedie` does. And it leaves out
    some labels in training, as `drop_context` does with one-hot ones: then the same parameters with
    `guidance` make images that are more typical of their labels. The flow with guidance is another
    density, and as exact. `experiments.tarflow_guidance` does all of it.

    Args:
        patch: p.
        steps: K, each of two autoregressive flows: the paper's T is 2·K.
        width, blocks, heads, dtype: of the nets, see `CausalViT`.
        segment, tolerance: of the inverse, see `CausalViT`: by default it is exact, token by token.
        guidance: w, see `CausalViT`: 0 in training; `(0, w)` rises along the tokens, as the paper's
            annealed one.
        backprop, unroll: see `repeat`. `"invert"` takes the H·W/p² steps of each inverse.

    `context`: floats `[B, F]`, as `CausalViT` takes them.

    Nets in bfloat16 round one token otherwise than all of them, so that an inverse is right to two
    or three digits only. So `backprop="invert"` is refused there, and with a tolerance.

    Raises:
        ValueError: an argument is not as above; images of another rank or size.

    Source: Zhai et al. 2024 (TarFlow) and the released code.

    Examples:
        >>> flow = glowjax.tarflow(patch=2, steps=1, width=4, blocks=1, heads=1)
        >>> x = jnp.zeros((2, 8, 8, 3))
        >>> params = jax.eval_shape(flow.init, jax.random.key(0), x)  # shapes alone
        >>> z, log_det = jax.eval_shape(flow.forward, params, x)
        >>> z.shape, log_det.shape
        ((2, 4, 4, 12), (2,))
    """
    check_positive(patch=patch, steps=steps)
    if backprop == "invert":
        _check_exact(tolerance, dtype)
    net = functools.partial(
        CausalViT,
        width=width,
        blocks=blocks,
        heads=heads,
        segment=segment,
        tolerance=tolerance,
        guidance=guidance,
        dtype=dtype,
    )
    flow = chain(
        patches=as_flow(Squeeze(patch)),
        actnorm=as_flow(ActNorm()),
        steps=repeat(tarflow_step(net=net), steps, backprop=backprop, unroll=unroll),
    )
    return checking_sizes(flow, height=patch, width=patch, option=f"patch={patch}")


@recorded
def tarflow_step(*, net) -> Flow:
    """One step of TarFlow, `[B, H, W, C]` -> the same shape: two flows over all tokens.

    The first reads the tokens in raster order, the second in the reversed one. The map of a number
    is z = (x + b)·exp(r), with b and r from the net.

    Args:
        net: makes the conditioner of an `Autoregressive`; it takes an `order`, as `CausalViT` does.

    Source: Zhai et al. 2024 (TarFlow) and the released code.
    """
    down, up = (
        as_flow(Autoregressive(affine(), functools.partial(net, order=order)))
        for order in ("natural", "reversed")
    )
    return chain(down=down, up=up)


def _check_exact(tolerance, dtype):
    name = None if dtype is None else jnp.dtype(dtype).name
    reason = f"{tolerance=}" if tolerance else f"dtype={name!r}"
    exact = not tolerance and (name is None or promote(jnp.zeros(0, name)).dtype == name)
    require(exact, "backprop", "invert", f"'store' or 'recompute' for {reason}")
