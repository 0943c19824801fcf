"""ActNorm: an affine map per channel, from data at first (Kingma & Dhariwal 2018, section 3.1)."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import (
    AnyArray,
    actnorm_statistics,
    channel_moments,
    per_example,
    positions,
    promote,
)


def actnorm_forward(
    x: Float[AnyArray, "B *event C"], log_scale: Float[AnyArray, "C"], bias: Float[AnyArray, "C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = (x + bias)·exp(log_scale).

    Args:
        x: `[B, ..., C]`.
        log_scale, bias: `[C]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · Σ log_scale, in nats.

    Examples:
        >>> x = jnp.zeros((1, 2, 2, 3))
        >>> z, log_det = glowjax.actnorm_forward(x, log_scale=jnp.ones(3), bias=jnp.zeros(3))
        >>> float(log_det[0])  # 2 · 2 positions of 3 channels
        12.0
    """
    chex.assert_shape([log_scale, bias], x.shape[-1:])
    z = (promote(x) + bias) * jnp.exp(log_scale)
    return z, per_example(positions(x) * jnp.sum(promote(log_scale)), x)


def actnorm_inverse(
    z: Float[AnyArray, "B *event C"], log_scale: Float[AnyArray, "C"], bias: Float[AnyArray, "C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·exp(-log_scale) - bias; returns `(x, log_det)` as `actnorm_forward`."""
    chex.assert_shape([log_scale, bias], z.shape[-1:])
    x = promote(z) * jnp.exp(-log_scale) - bias
    return x, per_example(-positions(z) * jnp.sum(promote(log_scale)), z)


def standardization(
    x: Float[AnyArray, "B *event C"],
) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
    """`actnorm_statistics` of `x: [B, ..., C]` in whatever units it is.

    A channel whose values differ by rounding alone counts as one without variance.
    """
    mean, deviation = channel_moments(x)
    rounding = 4 * jnp.finfo(mean.dtype).eps * jnp.abs(mean)
    varies = (deviation > rounding) & (deviation > jnp.finfo(mean.dtype).tiny)
    return jnp.where(varies, -jnp.log(jnp.where(varies, deviation, 1.0)), 0.0), -mean


class ActNorm(nn.Module):
    """z = (x + bias)·exp(log_scale) + shift per channel, initialised from the first batch.

    At first z has mean 0 and standard deviation 1, and shift is 0. What is learned, `log_scale` and
    `shift`, has no units: the same data in metres or in microns train to the same density. `bias`,
    in the units of x, stays minus the mean of the first batch: its gradient is zero, and weight
    decay must leave it out (`trainable`). Where the mean must go far in the units of x while the
    deviation falls, as in variational inference with a mean field, `GlowActNorm` learns faster.

    Source: Kingma & Dhariwal 2018, section 3.1, but for `shift`, which learns in the place of bias.
    """

    def forward(self, x) -> tuple[Array, Array]:
        log_scale, bias, shift = self._parameters(lambda: self._from_data(x))
        z, log_det = actnorm_forward(x, log_scale, bias)
        return z + shift, log_det

    def inverse(self, z) -> tuple[Array, Array]:
        log_scale, bias, shift = self._parameters(lambda: self._from_latents(z))
        return actnorm_inverse(promote(z) - shift, log_scale, bias)

    @nn.compact
    def _parameters(self, initial):
        log_scale = self.param("log_scale", lambda _: initial()[0])
        bias = self.param("bias", lambda _: initial()[1])
        shift = self.param("shift", lambda _: initial()[2])
        return log_scale, jax.lax.stop_gradient(bias), shift

    @nn.nowrap
    def _from_data(self, x):
        log_scale, bias = standardization(x)
        return log_scale, bias, jnp.zeros_like(bias)

    @nn.nowrap
    def _from_latents(self, z):
        """What makes x of mean 0 and deviation 1 of the first latents."""
        log_scale, minus_mean = standardization(z)
        return -log_scale, jnp.zeros_like(minus_mean), -minus_mean


def trainable(params: Any) -> Any:
    """Which parameters are trained, a tree of booleans: all but the `bias` of an `ActNorm`.

    It is what optax takes as a mask: `optax.adamw(1e-3, mask=glowjax.trainable)`.
    """

    def is_actnorm(tree):
        return isinstance(tree, dict) and tree.keys() == {"bias", "log_scale", "shift"}

    def mask(tree):
        return {name: name != "bias" for name in tree} if is_actnorm(tree) else True

    return jax.tree.map(mask, params, is_leaf=is_actnorm)


class GlowActNorm(nn.Module):
    """z = (x + bias)·exp(log_scale_factor·log_scale): `ActNorm` as in the released code of Glow.

    Its bias is in the units of x, which are fixed for images.

    Attributes:
        log_scale_factor: speeds learning of the scale up.
    """

    log_scale_factor: float = 3.0

    def forward(self, x) -> tuple[Array, Array]:
        return actnorm_forward(x, *self._parameters(lambda: actnorm_statistics(x)))

    def inverse(self, z) -> tuple[Array, Array]:
        def from_latents():  # x = (z - mean) / deviation, the other way round
            log_scale, minus_mean = actnorm_statistics(z)
            return -log_scale, -minus_mean * jnp.exp(log_scale)

        return actnorm_inverse(z, *self._parameters(from_latents))

    @nn.compact
    def _parameters(self, initial):
        log_scale = self.param("log_scale", lambda _: initial()[0] / self.log_scale_factor)
        bias = self.param("bias", lambda _: initial()[1])
        return self.log_scale_factor * log_scale, bias
