"""A flow of your own: copy this file, and put your equation in place of z = x·exp(log_scale).

`python flow_template.py` tests the flow. docs/own-flow.md explains each part.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

import glowjax

# 1. The mathematics: each direction returns its result and the log-determinant of what it did.


def scale_forward(x: jax.Array, log_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = x·exp(log_scale), element by element.

    Args:
        x: `[B, D]`.
        log_scale: `[D]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = Σ log_scale, in nats.
    """
    log_det = jnp.broadcast_to(jnp.sum(log_scale), x.shape[:1])
    return x * jnp.exp(log_scale), log_det


def scale_inverse(z: jax.Array, log_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x = z·exp(-log_scale); returns `(x, log_det)` as `scale_forward`."""
    return scale_forward(z, -log_scale)


# 2. The module: it owns the parameters, in the dtype of what it is given.


class Scale(nn.Module):
    """z = x·exp(log_scale), with one learned scale for each number of a vector `[B, D]`.

    Source: the paper and its section.
    """

    @nn.compact
    def forward(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return scale_forward(x, self._log_scale(x))

    @nn.compact
    def inverse(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return scale_inverse(z, self._log_scale(z))

    def _log_scale(self, like: jax.Array) -> jax.Array:
        return self.param("log_scale", nn.initializers.zeros, like.shape[-1:], like.dtype)


# 3. The proof, on a batch of what your flow takes.


if __name__ == "__main__":
    batch = jax.random.normal(jax.random.key(0), (5, 3))
    glowjax.testing.check_flow(glowjax.as_flow(Scale()), batch)
    print("The flow is right: round trips, log-determinants and gradients agree.")
