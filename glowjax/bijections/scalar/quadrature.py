"""Integrals of smooth positive functions, by Gauss–Legendre's rule."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST


def integral_from_zero(
    f: Callable[[Float[Array, "*shape N"]], Float[Array, "*shape N"]],
    x: Float[Array, "*shape"],
    points: int,
) -> Float[Array, "*shape"]:
    """∫_0^x f(t) dt ≈ x·Σ_j w_j·f(x·t_j), with N points.

    Exact to rounding for polynomials of degree 2N - 1. All w_j are positive, so that for a positive
    f nothing cancels.

    Args:
        f: from `[..., N]` to the same shape.
        x: `[...]`.
        points: N.
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    nodes, weights = ((1 + nodes) / 2).astype(x.dtype), (weights / 2).astype(x.dtype)
    # A product, since XLA (jaxlib 0.10.2) on CPUs gave wrong sums of 3 points for 40,401 numbers.
    return x * jnp.matmul(f(x[..., None] * nodes), weights, precision=HIGHEST)
