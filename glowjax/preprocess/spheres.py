"""Points of a sphere, as an angle and heights: its recursive projection (Rezende et al. 2020)."""

import jax
import jax.numpy as jnp

from glowjax.arrays import promote, sum_event
from glowjax.checks import require
from glowjax.expression import recorded
from glowjax.flow import Flow
from glowjax.preprocess.support import fixed, supported


def sphere_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = (angle of (x_1, x_2), x_3/s_3, …, x_n/s_n), where s_k = √(x_1² + … + x_k²).

    Args:
        x: `[B, n]` of norm 1 within half of the dtype's digits.

    Returns:
        `(z, log_det)`: z `[B, n-1]`, an angle in [-π, π] and heights in [-1, 1]; log_det `[B]` =
        -Σ ln s_k, k from 3 to n - 1, in nats, with respect to the area of the sphere; −inf where x
        is not on it.
    """
    x = promote(x)
    shaped = x.ndim == 2 and x.shape[1] > 1
    require(shaped, "x", f"shape {x.shape}", "of shape [B, n], of 2 numbers or more")
    near = jnp.abs(jnp.sum(jnp.square(x), axis=1) - 1) <= jnp.sqrt(jnp.finfo(x.dtype).eps)
    x_inside = jnp.where(near[:, None], x, jnp.zeros_like(x).at[:, 0].set(1))
    squares = jnp.cumsum(jnp.square(x_inside), axis=1)[:, 1:]  # s_2², s_3², …
    pole = squares == 0  # where angle and heights do not matter, and roots have no gradient
    radii = jnp.sqrt(jnp.where(pole, 1, squares))
    first = jnp.where(pole[:, 0], 1, x_inside[:, 0])
    angle = jnp.arctan2(x_inside[:, 1], first)
    heights = jnp.clip(x_inside[:, 2:] / radii[:, 1:], -1, 1)
    log_det = -sum_event(_log_radius(squares[:, 1:-1]))
    return jnp.concatenate([angle[:, None], heights], axis=1), supported(log_det, near[:, None], x)


def sphere_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x_k = h_k·Π √(1 - h_j²) over j > k, of heights h; with cosine and sine for h_1 and h_2.

    Returns:
        `(x, log_det)`: x `[B, n]`, of norm 1.
    """
    z = promote(z)
    require(z.ndim == 2, "z", f"shape {z.shape}", "of shape [B, n-1], an angle and heights")
    angle, heights = z[:, 0], jnp.clip(z[:, 1:], -1, 1)
    squares = jnp.maximum((1 - heights) * (1 + heights), jnp.finfo(z.dtype).tiny)
    one = jnp.ones_like(z[:, :1])
    within = jnp.concatenate([squares, one], axis=1)
    within = jax.lax.cumprod(within, axis=1, reverse=True)  # s_2², s_3², …, 1
    circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    x = jnp.concatenate(
        [circle * jnp.sqrt(within[:, :1]), heights * jnp.sqrt(within[:, 1:])], axis=1
    )
    return x, sum_event(_log_radius(within[:, 1:-1]))


def _log_radius(squares):
    return 0.5 * jnp.log(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny))


@recorded
def sphere() -> Flow:
    """Points x of norm 1 as an angle around the axis and heights along it, one number fewer.

    Arrays are `[B, n]` of x and `[B, n-1]` of z = (angle, heights), the angle in [-π, π], in
    radians, and the heights in [-1, 1]. Of the circle (n = 2) z is the angle; of the sphere (n = 3)
    it is longitude and height, which keep areas (Archimedes); beyond, each height is that in a
    sphere of one dimension fewer, seen from the next axis. The density is with respect to the area
    of the sphere, so that the uniform one of n = 3 is 1/(4π); x of another norm has the density 0.

        spaces = ("circle", "interval")
        flow = chain(preprocess.sphere(), circular_maf(spaces))
        model = density(flow, (3,))  # its base is circular_base(spaces)

    At the poles of n > 3 the log-determinant is infinite, and a large finite number stands for it.

    Source: Rezende et al. 2020, Normalizing flows on tori and spheres.
    """
    return fixed(sphere_forward, sphere_inverse)
