"""Marginal Gaussianization: each number by itself becomes normal (Chen & Gopinath 2000)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from glowjax.arrays import promote, sum_event
from glowjax.bijections.scalar.elementwise import Map
from glowjax.bijections.scalar.mixture_cdf import Family, mixture_cdf
from glowjax.bijections.scalar.mixture_fit import fitted_mixture


class MarginalGaussianization(nn.Module):
    """z_i = Φ⁻¹(F_i(x_i)), with Φ the standard normal's CDF, and F_i a mixture's that is learned.

        log_det = Σ_i [ln p_i(x_i) - ln N(z_i; 0, 1)],   p_i = dF_i/dx_i, in nats

    A mixture for every number of an event `[B, ...]`. The first batch sets them, by
    `fitted_mixture`: then each z_i by itself is about N(0, 1), whatever x is. From the latent side,
    all start as the mixture that fits the first latents, so that x is distributed about as they
    are. The map is `mixture_cdf(to="normal")`, and its inverse as exact. What is learned has the
    units of x, which should be at scale, as after `ActNorm`.

    Attributes:
        components: of each mixture, of at least 2.
        family: of the components. Far beyond the data, z grows as the root of x for logistics, so
            that many layers in a row stay exact there; for Gaussians it grows as x, and each
            layer may multiply it, until log_det is a difference of numbers too large to keep.

    Raises:
        ValueError: an attribute is not as above.

    Sources: Chen & Gopinath 2000, Gaussianization; Meng et al. 2020, Gaussianization flows,
    section 3.1, the trainable kernel layer.

    Examples:
        >>> flow = glowjax.as_flow(glowjax.MarginalGaussianization(components=4))
        >>> x = jnp.exp(jax.random.normal(jax.random.key(0), (1000, 2)))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(1), x), x)
        >>> bool(jnp.all(jnp.abs(z.mean(0)) < 0.05)), bool(jnp.all(jnp.abs(z.std(0) - 1) < 0.05))
        (True, True)
    """

    components: int = 16
    family: Family = "logistic"

    def forward(self, x) -> tuple[Array, Array]:
        return self._apply(self._map().forward, x)

    def inverse(self, z) -> tuple[Array, Array]:
        return self._apply(self._map().inverse, z)

    @nn.nowrap
    def _map(self):
        return mixture_cdf(self.components, family=self.family, to="normal")

    @nn.compact
    def _apply(self, apply: Map, x):
        x = promote(x)
        raw = self.param("raw", lambda _: fitted_mixture(x, self.components, family=self.family))
        y, log_slope = apply(x, jnp.broadcast_to(raw, (*x.shape, raw.shape[-1])))
        return y, sum_event(log_slope)
