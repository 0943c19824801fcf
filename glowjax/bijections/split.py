"""Whitening by learned Gaussian priors: of the half a level sends out, and of the top latent."""

from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, one_hot, promote, sum_event
from glowjax.checks import check_image_shape, check_labels
from glowjax.context import refuse_context
from glowjax.nets.conv import conv_by_taps, ring_conv
from glowjax.nets.layers import ZeroConv, ZeroDense, scaled_bias


def whiten(
    h: Float[AnyArray, "B *event"],
    mean: Float[AnyArray, "B *event"],
    log_std: Float[AnyArray, "B *event"],
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """z = (h - mean)·exp(-log_std): turns N(mean, std²) into N(0, 1).

    Args:
        h, mean, log_std: `[B, ...]`, of one shape.

    Returns:
        `(z, log_det)`: log_det `[B]` = -Σ log_std, in nats.
    """
    chex.assert_equal_shape([h, mean, log_std])
    log_std = promote(log_std)
    return (promote(h) - mean) * jnp.exp(-log_std), -sum_event(log_std)


def unwhiten(
    z: Float[AnyArray, "B *event"],
    mean: Float[AnyArray, "B *event"],
    log_std: Float[AnyArray, "B *event"],
) -> tuple[Float[Array, "B *event"], Float[Array, "B"]]:
    """h = mean + z·exp(log_std); returns `(h, log_det)` as `whiten`."""
    chex.assert_equal_shape([z, mean, log_std])
    log_std = promote(log_std)
    return promote(mean) + promote(z) * jnp.exp(log_std), sum_event(log_std)


class Split(nn.Module):
    """`x: [B, H, W, C] -> (latent, kept)`: the second half, whitened given the first, leaves.

        kept, leaving = the first and the second half of the channels
        latent = (leaving - mean(kept))·exp(-log_std(kept))

    The kept half's zero convolution gives mean (even channels) and log_std (odd channels) of the
    half that leaves.

    Attributes:
        ring: adds the ring channel to that convolution.

    Raises:
        ValueError: `x` has less than 2 channels, or `z` is not a matching pair.

    Source: Dinh et al. 2017, section 3.6; its learned prior: the released code of Glow.
    """

    ring: bool = True
    gives_pair = True  # for `as_flow`: z is (latent, kept)

    def forward(self, x) -> tuple[tuple[Array, Array], Array]:
        check_image_shape("x", x)
        half = x.shape[-1] // 2
        if half == 0:
            raise ValueError(f"x must have at least 2 channels to be split, got shape {x.shape}")
        kept, leaving = promote(x)[..., :half], x[..., half:]
        latent, log_det = whiten(leaving, *self.prior(kept, leaving))
        return (latent, kept), log_det

    def inverse(self, z) -> tuple[Array, Array]:
        latent, kept = z
        check_image_shape("z", kept)
        if latent.shape[:-1] != kept.shape[:-1] or latent.shape[-1] - kept.shape[-1] not in (0, 1):
            raise ValueError(
                f"z must be two halves (latent, kept), got shapes {latent.shape} and {kept.shape}"
            )
        leaving, log_det = unwhiten(latent, *self.prior(kept, latent))
        return jnp.concatenate([promote(kept), leaving], axis=-1), log_det

    @nn.compact
    def prior(self, kept, leaving) -> tuple[Array, Array]:
        """Mean and log_std of the half that leaves, given the other; of `leaving`, its shape."""
        prior = ZeroConv(2 * leaving.shape[-1], ring=self.ring, name="prior")
        h = conv_by_taps(kept, prior(kept.shape[-1], kept.dtype))
        return h[..., 0::2], h[..., 1::2]


class TopPrior(nn.Module):
    """z = (h - mean)·exp(-log_std), of the top latent h `[B, H, W, C]`, given labels if asked.

    Without labels mean and log_std are learned constants; with the ring, they depend on position
    near the edges (the zero convolution of an image of zeros, as in the released Glow, which sees
    nothing but its ring). With labels, a linear map of the one-hot label is added.

    Attributes:
        num_classes: conditions on `context: [B]`, integer labels in 0 … num_classes - 1.
        ring: adds the ring channel.

    Raises:
        ValueError: labels are missing, of the wrong shape or dtype, out of range, or given but not
            expected. Out of range they cannot raise under `jit`: there they give NaN.

    Source: Kingma & Dhariwal 2018, released code.
    """

    num_classes: int | None = None
    ring: bool = True

    @property
    def takes_context(self) -> bool:
        return self.num_classes is not None

    def forward(self, x, context=None) -> tuple[Array, Array]:
        return whiten(x, *self.prior(x, context))

    def inverse(self, z, context=None) -> tuple[Array, Array]:
        return unwhiten(z, *self.prior(z, context))

    @nn.compact
    def prior(self, x, labels: Any = None) -> tuple[Array, Array]:
        """Mean and log_std of a latent of the shape of `x`."""
        self._check(x, labels)
        h = RingPrior(2 * x.shape[-1], ring=self.ring, name="ring")(x)
        if self.num_classes is not None:
            one = one_hot(labels, self.num_classes, promote(x).dtype)
            h = h + ZeroDense(2 * x.shape[-1], name="labels")(one)[:, None, None, :]
        h = jnp.broadcast_to(h, (*x.shape[:-1], 2 * x.shape[-1]))
        mean, log_std = jnp.split(h, 2, axis=-1)
        return mean, log_std

    def _check(self, x, labels):
        check_image_shape("x", x)
        if self.num_classes is None:
            refuse_context(labels)
            return
        check_labels(labels, self.num_classes, x.shape[0])


class RingPrior(nn.Module):
    """A zero convolution of zeros, `[1, H, W, features]`, with only the weights that matter."""

    features: int
    ring: bool = True

    @nn.compact
    def __call__(self, x):
        dtype = promote(x).dtype
        h = jnp.zeros((1, *x.shape[1:3], self.features), dtype)
        if self.ring:
            shape = (3, 3, 1, self.features)
            h = ring_conv(*x.shape[1:3], self.param("weight", nn.initializers.zeros, shape, dtype))
        return scaled_bias(self, h)
