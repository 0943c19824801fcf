"""ActNorm: an affine map per channel, from data at first (Kingma & Dhariwal 2018, section 3.1)."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import per_example, positions, promote

TINY = 1e-6  # added to the standard deviation, as in the released Glow


def actnorm_forward(x: jax.Array, log_scale: jax.Array, bias: jax.Array):
    """z = (x + bias)·exp(log_scale).

    Args:
        x: `[B, ..., C]`.
        log_scale, bias: `[C]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · Σ log_scale, in nats.
    """
    chex.assert_shape([log_scale, bias], x.shape[-1:])
    z = (promote(x) + bias) * jnp.exp(log_scale)
    return z, per_example(positions(x) * jnp.sum(promote(log_scale)), x)


def actnorm_inverse(z: jax.Array, log_scale: jax.Array, bias: jax.Array):
    """x = z·exp(-log_scale) - bias; returns `(x, log_det)` as `actnorm_forward`."""
    chex.assert_shape([log_scale, bias], z.shape[-1:])
    x = promote(z) * jnp.exp(-log_scale) - bias
    return x, per_example(-positions(z) * jnp.sum(promote(log_scale)), z)


def actnorm_statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(log_scale, bias)`, `[C]` each, which give `x: [B, ..., C]` mean 0 and standard deviation 1.

    A channel without variance gets scale 1, so that it becomes 0 and never NaN or huge.
    """
    x = promote(x)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    deviation = jnp.sqrt(jnp.mean(jnp.square(x - mean), axes))
    varies = deviation > TINY * (1 + jnp.abs(mean))
    return jnp.where(varies, -jnp.log(deviation + TINY), 0.0), -mean


class ActNorm(nn.Module):
    """`actnorm_forward` with parameters initialised from the first batch.

    Attributes:
        log_scale_factor: the scale is exp(log_scale_factor · log_scale); 3 in the released Glow,
            where it speeds learning of the scale up.
    """

    log_scale_factor: float = 1.0

    def forward(self, x):
        def statistics():
            return actnorm_statistics(x)

        return actnorm_forward(x, *self._scale_and_bias(statistics))

    def inverse(self, z):
        def statistics():  # x = (z - mean) / deviation, the other way round
            log_scale, minus_mean = actnorm_statistics(z)
            return -log_scale, -minus_mean * jnp.exp(log_scale)

        return actnorm_inverse(z, *self._scale_and_bias(statistics))

    @nn.compact
    def _scale_and_bias(self, statistics):
        log_scale = self.param("log_scale", lambda _: statistics()[0] / self.log_scale_factor)
        bias = self.param("bias", lambda _: statistics()[1])
        return self.log_scale_factor * log_scale, bias
