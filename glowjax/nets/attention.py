"""Multi-head attention over all tokens, with cuDNN's kernels where they fit."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from glowjax.arrays import HIGHEST, promote, varying_axes
from glowjax.checks import check_positive, require

Place = jax.Array | int | None


def check_heads(width: int, heads: int) -> None:
    """Raises `ValueError` unless `width` channels can be shared by so many heads."""
    check_positive(width=width, heads=heads)
    require(width % heads == 0, "width", width, f"a multiple of {heads}")


def self_attention(qkv: jax.Array, heads: int) -> jax.Array:
    """Attention of all positions of an image to all: `[B, H, W, 3·C]` -> `[B, H, W, C]`.

    Args:
        qkv: the queries, then the keys, then the values of every position, C channels each.
        heads: which have C / `heads` channels each.
    """
    batch, height, width, channels = qkv.shape
    parts = split_heads(qkv.reshape(batch, height * width, channels), heads)
    return dot_product_attention(*parts).reshape(batch, height, width, channels // 3)


def split_heads(qkv: jax.Array, heads: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values `[B, T, heads, C / heads]` of `[B, T, 3·C]`."""
    batch, count, channels = qkv.shape
    shape = batch, count, heads, channels // (3 * heads)
    q, k, v = (part.reshape(shape) for part in jnp.split(qkv, 3, axis=-1))
    return q, k, v


def dot_product_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, place: Place = None
) -> jax.Array:
    """softmax(q·kᵀ/√d)·v of each head, `[B, S, heads, d]`, in the arrays' dtype.

    Args:
        q: queries, `[B, S, heads, d]`.
        k, v: keys and values, `[B, T, heads, d]`.
        place: of the first query among the keys: query i sees those up to `place + i` alone, as
            is causal. None: every query sees all.

    bfloat16 takes cuDNN's kernels on NVIDIA's GPUs, which never write the T×T weights to memory:
    a gradient of Flow++'s net with 512 tokens took 21 ms in place of 43 on an H200. They may add up
    in another order each time, so that the last digits of a gradient differ from run to run.
    """
    queries, keys = q.shape[1], k.shape[1]
    if promote(q).dtype == q.dtype:  # Flax has float64's digits in float64, JAX those of float32
        return nn.dot_product_attention(
            q, k, v, mask=_causal(queries, keys, place), precision=HIGHEST
        )
    if queries < keys:
        return jax.nn.dot_product_attention(q, k, v, mask=_causal(queries, keys, place))
    attend = functools.partial(jax.nn.dot_product_attention, is_causal=place is not None)
    fits = q.dtype == jnp.bfloat16 and not q.shape[-1] % 8 and not varying_axes(q)
    if fits and _has_cudnn():
        # Such a machine may also run the program on its CPU.
        by_cudnn = functools.partial(attend, implementation="cudnn")
        return lax.platform_dependent(q, k, v, cuda=by_cudnn, default=attend)
    return attend(q, k, v)


def _causal(queries, keys, place):
    """Which keys each query sees, `[1, 1, S, T]`; None: all."""
    if place is None:
        return None
    return (jnp.arange(keys) <= place + jnp.arange(queries)[:, None])[None, None]


@functools.cache
def _has_cudnn():
    device = jax.devices()[0]
    return device.platform == "gpu" and float(getattr(device, "compute_capability", 0)) >= 8
