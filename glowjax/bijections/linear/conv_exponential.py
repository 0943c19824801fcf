"""Convolution exponential: the matrix exponential of a convolution (Hoogeboom et al. 2020)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, per_example, positions, promote, vary_as
from glowjax.bijections.linear.neighbours import check_kernel, check_weight, convolve
from glowjax.checks import POSITIVE, check_image_shape, check_in


def conv_exponential_forward(
    x: Float[AnyArray, "B H W C"], weight: Float[AnyArray, "K K C C"], *, max_norm: float = 2.0
) -> tuple[Float[Array, "B H W C"], Float[Array, "B"]]:
    """z = exp(M)·x = Σ_{n≥0} Mⁿ·x / n!, where M is a convolution that keeps the size.

        (M·x)[b, h, w] = Σ_{i,j} x[b, h + i - r, w + j - r]·W[i, j],   0 beyond the edge, r = K // 2
        log_det = tr M = H·W·tr W[r, r]

    The diagonal of M has the centre of the kernel alone, at the edges as everywhere, so that the
    log-determinant is exact. The inverse is exp(-M).

    ‖W‖ = max_d Σ_{i,j,c} |W[i, j, c, d]| bounds what M does to the largest number of an image. If
    it is above `max_norm`, the whole kernel is scaled down to that. So N terms of the series leave
    out at most

        max_norm^(N+1) / (N + 1)! / (1 - max_norm / (N + 2)) · max|x|   in each number of z

    N is the least for which this is below the rounding error of the dtype, ε·max|x|: 14 terms in
    float32, and 23 in float64, with the default. In float32 a round trip is exact to about
    ε·e^(2·max_norm)·max|x|.

    Args:
        x: `[B, H, W, C]`.
        weight: W, `[K, K, C, C]`, K odd; any numbers.
        max_norm: of W, above 0.

    Returns:
        `(z, log_det)`: log_det `[B]` in nats.

    Raises:
        ValueError: an argument is not as above.

    Source: Hoogeboom et al. 2020, The convolution exponential and generalized Sylvester flows,
    section 3; there the spectral norm is bounded.
    """
    return _exponential(x, weight, 1, max_norm)


def conv_exponential_inverse(
    z: Float[AnyArray, "B H W C"], weight: Float[AnyArray, "K K C C"], *, max_norm: float = 2.0
) -> tuple[Float[Array, "B H W C"], Float[Array, "B"]]:
    """x = exp(-M)·z; returns `(x, log_det)` as `conv_exponential_forward`."""
    return _exponential(z, weight, -1, max_norm)


def series_terms(norm: float, dtype) -> int:
    """The least N for which Σ_{n>N} normⁿ/n! is proven to be below the ε of a dtype."""
    terms, power = 0, norm  # norm^(N+1) / (N+1)!
    # Each term left out is the one before times norm/(N + 2) at most: a geometric series.
    while terms + 2 <= norm or power / (1 - norm / (terms + 2)) > np.finfo(dtype).eps:
        terms += 1
        power *= norm / (terms + 1)
    return terms


def _exponential(x, weight, sign, max_norm):
    check_in(POSITIVE, max_norm=max_norm)
    check_weight(x, weight)
    dtype = jnp.result_type(promote(x), promote(weight))
    x, weight = jnp.asarray(x, dtype), jnp.asarray(weight, dtype)
    norm = jnp.max(jnp.sum(jnp.abs(weight), axis=(0, 1, 2)))
    weight = sign * weight * (max_norm / jnp.maximum(norm, max_norm))

    def add(total, n):  # x + M/n·(x + M/(n+1)·(x + …))
        return x + convolve(total, weight) / n, None

    steps = jnp.arange(series_terms(max_norm, x.dtype), 0, -1, dtype=x.dtype)
    y, _ = lax.scan(add, vary_as(x, weight), steps)
    middle = weight.shape[0] // 2
    return y, per_example(positions(x) * jnp.trace(weight[middle, middle]), x)


class ConvExponential(nn.Module):
    """z = exp(M)·x of images `[B, H, W, C]`, M a convolution: `conv_exponential_forward`, learned.

    At first it is the identity. It mixes the channels as well, but an `InvertibleConv1x1` before it
    lets it start from a random rotation, as in the paper's models. There is nothing to invert, and
    the inverse costs as much as forward.

    Attributes:
        kernel: K, odd and at least 3.
        max_norm: of the kernel: the map stretches and squeezes the largest number of an image by
            e^max_norm at most.

    Raises:
        ValueError: an attribute is not as above; x is of another rank, or not of as many channels
            as at initialisation.

    Source: Hoogeboom et al. 2020, The convolution exponential and generalized Sylvester flows,
    section 3.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.ConvExponential()), jnp.ones((2, 5, 4, 3))
        >>> params = flow.init(jax.random.key(0), x)
        >>> z, log_det = flow.forward(params, x)
        >>> params["weight"].shape, z.shape, log_det.tolist()
        ((3, 3, 3, 3), (2, 5, 4, 3), [0.0, 0.0])
    """

    kernel: int = 3
    max_norm: float = 2.0

    def forward(self, x) -> tuple[jax.Array, jax.Array]:
        return conv_exponential_forward(x, self._weight(x), max_norm=self.max_norm)

    def inverse(self, z) -> tuple[jax.Array, jax.Array]:
        return conv_exponential_inverse(z, self._weight(z), max_norm=self.max_norm)

    @nn.compact
    def _weight(self, x):
        check_kernel(self.kernel)
        check_image_shape("x", x)
        shape = (self.kernel, self.kernel, x.shape[-1], x.shape[-1])
        return self.param("weight", nn.initializers.zeros, shape, promote(x).dtype)
