"""Nets whose hidden arithmetic is bfloat16, beside themselves in float32."""

import jax
import jax.numpy as jnp

from glowjax.testing import moved


def check_net_in_bfloat16(net):
    """A net of images, a class with its small sizes, keeps parameters and output in float32."""
    x = jax.random.normal(jax.random.key(0), (4, 4, 4, 2))
    low, full = (net(4, width=16, dtype=d) for d in (jnp.bfloat16, None))

    @jax.jit
    def outputs(x):
        params = moved(low.init(jax.random.key(1), x), 0.3)
        return params, low.apply(params, x), full.apply(params, x)

    params, a, b = outputs(x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert a.dtype == b.dtype == jnp.float32
    error = jnp.linalg.norm(a - b) / jnp.linalg.norm(b)
    assert 1e-4 < error < 0.05, error
