"""Multi-head attention over all tokens, with cuDNN's kernels where they fit."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from glowjax.arrays import HIGHEST, promote, varying_axes
from glowjax.checks import check_positive, require


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
    tokens = (batch, height * width, heads, channels // (3 * heads))
    q, k, v = (part.reshape(tokens) for part in jnp.split(qkv, 3, axis=-1))
    return dot_product_attention(q, k, v).reshape(batch, height, width, channels // 3)


def dot_product_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q·kᵀ/√d)·v of each head, `[B, T, heads, d]`, in the arrays' dtype.

    bfloat16 takes cuDNN's kernels on NVIDIA's GPUs, which never write the T×T weights to memory:
    a gradient of Flow++'s net with 512 tokens took 21 ms in place of 43 on an H200. They may add up
    in another order each time, so that the last digits of a gradient differ from run to run.
    """
    if promote(q).dtype == q.dtype:  # Flax has float64's digits in float64, JAX those of float32
        return nn.dot_product_attention(q, k, v, precision=HIGHEST)
    fits = q.dtype == jnp.bfloat16 and not q.shape[-1] % 8 and not varying_axes(q)
    if fits and _has_cudnn():
        # Such a machine may also run the program on its CPU.
        return lax.platform_dependent(q, k, v, cuda=_by_cudnn, default=jax.nn.dot_product_attention)
    return jax.nn.dot_product_attention(q, k, v)


_by_cudnn = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")


@functools.cache
def _has_cudnn():
    device = jax.devices()[0]
    return device.platform == "gpu" and float(getattr(device, "compute_capability", 0)) >= 8
