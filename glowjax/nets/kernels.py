"""Matrix products of bfloat16 with what follows them done in the same kernel, on Hopper GPUs.

XLA writes a product out and reads it again to add a bias or to apply a mask; at Glow's shapes
(512 channels, hundreds of thousands of rows) that takes as long as the product. On other backends,
for shapes that do not fit (TILE must divide B·H·W), and inside `jax.shard_map` unless its
`check_vma` is off, the functions here are plain XLA. They are for use inside rules of
differentiation: the kernels have none. `pmap` splits them over devices, `jit` by itself does not.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from glowjax.arrays import varying_axes
from glowjax.nets.tiles import DEPTH, TILE


def matmul_bias_relu(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """max(x·W + bias, 0): `[M, K], [K, N], [N] -> [M, N]`."""

    def plain(x, weight, bias):
        return jnp.maximum(jnp.matmul(x, weight) + bias, 0)

    def fused(x, weight, bias):
        return _hopper().matmul(x, weight, bias, False)[0]

    return _choose(fused, plain, x, weight, bias)


def matmul_where_positive(
    x: jax.Array, weight: jax.Array, h: jax.Array, *, sums: bool = False
) -> Any:
    """y = x·W where h > 0, else 0: a gradient through ReLU.

    Args:
        x, weight, h: `[M, K]`, `[K, N]`, `[M, N]`.
        sums: asks for the column sums too.

    Returns:
        y `[M, N]`; with `sums`, the pair of y and its column sums `[N]` in float32.
    """

    def plain(x, weight, h):
        y = jnp.where(h > 0, jnp.matmul(x, weight), 0)
        return (y, jnp.sum(y, axis=0, dtype=jnp.float32)) if sums else y

    def fused(x, weight, h):
        y, *partial = _hopper().matmul(x, weight, h, sums)
        return (y, jnp.sum(partial[0], axis=0)) if sums else y

    return _choose(fused, plain, x, weight, h)


def _choose(fused, plain, x, weight, extra):
    (m, k), n = x.shape, weight.shape[1]
    whole = not (m % TILE or k % DEPTH or n % (2 * TILE))
    if whole and x.dtype == jnp.bfloat16 and not varying_axes(x) and _on_hopper():
        # Such a machine may also run the program on its CPU.
        return lax.platform_dependent(x, weight, extra, cuda=fused, default=plain)
    return plain(x, weight, extra)


@functools.cache
def _on_hopper():
    if jax.__version_info__ < (0, 11):  # its `plgpu.load` takes other arguments
        return False
    device = jax.devices()[0]
    return device.platform == "gpu" and getattr(device, "compute_capability", "") == "9.0"


def _hopper():
    from glowjax.nets import hopper  # Pallas takes seconds to import

    return hopper
