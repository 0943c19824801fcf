"""Periodic convolution: the image goes on at its other side (Hoogeboom et al. 2019)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST, AnyArray, per_example, promote
from glowjax.bijections.linear.factorizations import random_rotation
from glowjax.bijections.linear.linalg import inverse_and_log_abs_det
from glowjax.bijections.linear.neighbours import check_kernel, check_weight, convolve
from glowjax.checks import check_image_shape


def periodic_conv_forward(
    x: Float[AnyArray, "B H W C"], weight: Float[AnyArray, "K K C C"]
) -> tuple[Float[Array, "B H W C"], Float[Array, "B"]]:
    """z[b, h, w] = Σ_{i,j} x[b, h + i - r, w + j - r]·W[i, j], where places count modulo H and W.

    r = K // 2. The discrete Fourier transform turns it into one product of matrices at each
    frequency, ẑ[u, v] = x̂[u, v]·Ŵ[u, v], so that

        ln|det| = Σ_{u,v} ln|det Ŵ[u, v]|,   Ŵ[u, v] = Σ_{i,j} W[i, j]·e^{2πi·(u(i-r)/H + v(j-r)/W)}

    Of real images half of the frequencies tell all: H·(W // 2 + 1) determinants of C × C complex
    numbers, however many examples there are.

    Args:
        x: `[B, H, W, C]`. H and W may be below K.
        weight: W, `[K, K, C, C]`, K odd; Ŵ must be invertible at all frequencies.

    Returns:
        `(z, log_det)`: log_det `[B]` in nats; NaN or infinite where a Ŵ has no inverse.

    Raises:
        ValueError: x or weight are of another shape.

    Source: Hoogeboom et al. 2019, Emerging convolutions for generative normalizing flows, section
    3.3.
    """
    check_weight(x, weight)
    x, weight = promote(x), promote(weight)
    log_abs_det = _inverse_spectrum(weight, *x.shape[1:3]).log_abs_det
    return convolve(x, weight, beyond="wrap"), per_example(log_abs_det, x)


def periodic_conv_inverse(
    z: Float[AnyArray, "B H W C"], weight: Float[AnyArray, "K K C C"]
) -> tuple[Float[Array, "B H W C"], Float[Array, "B"]]:
    """x̂[u, v] = ẑ[u, v]·Ŵ[u, v]⁻¹ by fast Fourier transforms; as `periodic_conv_forward`."""
    check_weight(z, weight)
    z, shape = promote(z), z.shape[1:3]
    inverse, log_abs_det = _inverse_spectrum(promote(weight), *shape)
    spectrum = jnp.fft.rfft2(z, axes=(1, 2))
    spectrum = jnp.einsum("buvc,uvcd->buvd", spectrum, inverse, precision=HIGHEST)
    x = jnp.fft.irfft2(spectrum, s=shape, axes=(1, 2)).astype(z.dtype)
    return x, per_example(-log_abs_det, z)


class _Spectrum(NamedTuple):
    inverse: jax.Array  # Ŵ⁻¹, [H, W // 2 + 1, C, C]
    log_abs_det: jax.Array  # of the whole map


def _inverse_spectrum(weight, height, width):
    kernel, channels = weight.shape[0], weight.shape[-1]
    half = width // 2 + 1
    whole = jnp.einsum(
        "ui,vj,ijcd->uvcd",
        _waves(height, height, kernel, weight.dtype),
        _waves(half, width, kernel, weight.dtype),
        weight,
        precision=HIGHEST,
    )
    # A complex matrix as a real one of twice the size, whose |det| is the square of its own.
    real, imaginary = whole.real, whole.imag
    blocks = jnp.concatenate(
        [
            jnp.concatenate([real, imaginary], axis=-1),
            jnp.concatenate([-imaginary, real], axis=-1),
        ],
        axis=-2,
    )
    size = 2 * channels
    inverse, log_abs_det = jax.vmap(inverse_and_log_abs_det)(blocks.reshape(-1, size, size))
    inverse = inverse.reshape(height, half, size, size)[..., :channels, :]
    columns = np.arange(half)
    alone = (columns == 0) | (2 * columns == width)  # all others stand for their conjugates too
    counts = np.where(alone, 0.5, 1.0).astype(weight.dtype)
    return _Spectrum(
        lax.complex(inverse[..., :channels], inverse[..., channels:]),
        jnp.sum(log_abs_det.reshape(height, half) * counts),
    )


def _waves(frequencies, size, kernel, dtype):
    """e^{2πi·u·(i - r)/size}, `[frequencies, kernel]`."""
    turns = np.outer(np.arange(frequencies), np.arange(kernel) - kernel // 2) / size
    return np.exp(2j * np.pi * turns).astype(jnp.result_type(dtype, jnp.complex64))


class PeriodicConv(nn.Module):
    """z = W ⋆ x, periodic, of images `[B, H, W, C]`: `periodic_conv_forward` with learned weights.

    It is an `InvertibleConv1x1` that sees the pixels around each pixel as well. At first it is that
    1×1 convolution, a random rotation of the channels. Nothing can be prepared for `repeat`, since
    the matrices to invert depend on H and W. The inverse is as exact as those matrices are well
    conditioned: in float32 its error is about their largest condition number times 1e-7.

    Attributes:
        kernel: K, odd and at least 3.

    Raises:
        ValueError: `kernel` is not as above; x is of another rank, or not of as many channels as at
            initialisation.

    Source: Hoogeboom et al. 2019, Emerging convolutions for generative normalizing flows, section
    3.3.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.PeriodicConv()), jnp.ones((2, 5, 4, 3))
        >>> params = flow.init(jax.random.key(0), x)
        >>> z, log_det = flow.forward(params, x)
        >>> params["weight"].shape, z.shape, log_det.shape
        ((3, 3, 3, 3), (2, 5, 4, 3), (2,))
    """

    kernel: int = 3

    def forward(self, x) -> tuple[jax.Array, jax.Array]:
        return periodic_conv_forward(x, self._weight(x))

    def inverse(self, z) -> tuple[jax.Array, jax.Array]:
        return periodic_conv_inverse(z, self._weight(z))

    @nn.compact
    def _weight(self, x):
        check_kernel(self.kernel)
        check_image_shape("x", x)
        return self.param("weight", self._start, x.shape[-1], promote(x).dtype)

    @nn.nowrap
    def _start(self, key, channels, dtype):
        weight = jnp.zeros((self.kernel, self.kernel, channels, channels), dtype)
        middle = self.kernel // 2
        return weight.at[middle, middle].set(random_rotation(key, channels, dtype))
