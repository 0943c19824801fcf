"""Which latent goes with which example: the assignment of least cost within a batch."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST


def optimal_transport(
    x: Float[Array, "B *event"], z: Float[Array, "B *event"]
) -> Float[Array, "B *event"]:
    """The z in the order that makes Σ ‖x_i - z_i‖² least: the optimal transport of two batches.

    SciPy solves it on the host, exactly, in time of order B³; a batch that is not finite keeps its
    order. Gradients take the order as given.

    Source: Tong et al. 2024, section 3.4.
    """
    a, b = (jax.lax.stop_gradient(v.reshape(len(v), -1)) for v in (x, z))
    # ‖a‖² + ‖b‖² is the same for every order.
    cost = -jnp.matmul(a, b.T, precision=HIGHEST)
    order = jax.ShapeDtypeStruct((len(z),), jnp.int32)
    return z[jax.pure_callback(_assignment, order, cost, vmap_method="sequential")]


def _assignment(cost) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    cost = np.asarray(cost)
    if not np.isfinite(cost).all():  # the loss will be NaN, and `fit` will say so
        return np.arange(len(cost), dtype=np.int32)
    return linear_sum_assignment(cost)[1].astype(np.int32)
