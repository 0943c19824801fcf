"""Invertible 1×1 convolution: learned mixing of channels (Kingma & Dhariwal 2018, section 3.2)."""

from typing import Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.linalg import lu, solve_triangular

from glowjax.arrays import HIGHEST, check_choice, per_example, positions, promote


def conv1x1_forward(x: jax.Array, weight: jax.Array):
    """z = x·W at every position (row vectors).

    Args:
        x: `[B, ..., C]`.
        weight: `[C, C]`, invertible.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · ln|det W|, in nats.
    """
    chex.assert_shape(weight, (x.shape[-1], x.shape[-1]))
    weight = promote(weight)
    log_det = positions(x) * jnp.linalg.slogdet(weight)[1]
    return _mix(x, weight), per_example(log_det, x)


def conv1x1_inverse(z: jax.Array, weight: jax.Array):
    """x = z·W⁻¹; returns `(x, log_det)` as `conv1x1_forward`."""
    chex.assert_shape(weight, (z.shape[-1], z.shape[-1]))
    weight = promote(weight)
    log_det = -positions(z) * jnp.linalg.slogdet(weight)[1]
    return _mix(z, jnp.linalg.inv(weight)), per_example(log_det, z)


def conv1x1_lu_forward(x: jax.Array, packed: jax.Array):
    """z = x·L·U with L and U packed into one matrix, as LAPACK does.

    L is `packed` below the diagonal and 1 on it; U is `packed` above the diagonal, and its
    diagonal is the exponential of `packed`'s. So every entry is a free parameter.

    Args:
        x: `[B, ..., C]`.
        packed: `[C, C]`.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · trace(packed), in nats.
    """
    chex.assert_shape(packed, (x.shape[-1], x.shape[-1]))
    lower, upper = _unpack(promote(packed))
    weight = jnp.matmul(lower, upper, precision=HIGHEST)
    return _mix(x, weight), per_example(positions(x) * jnp.trace(promote(packed)), x)


def conv1x1_lu_inverse(z: jax.Array, packed: jax.Array):
    """x = z·U⁻¹·L⁻¹; returns `(x, log_det)` as `conv1x1_lu_forward`."""
    chex.assert_shape(packed, (z.shape[-1], z.shape[-1]))
    lower, upper = _unpack(promote(packed))
    identity = jnp.eye(lower.shape[0], dtype=lower.dtype)
    lower_inverse = solve_triangular(lower, identity, lower=True, unit_diagonal=True)
    weight_inverse = solve_triangular(upper, lower_inverse)
    return _mix(z, weight_inverse), per_example(-positions(z) * jnp.trace(promote(packed)), z)


def random_rotation(key: jax.Array, channels: int, dtype=jnp.float32) -> jax.Array:
    """An orthogonal `[C, C]`: the Q of the QR decomposition of a Gaussian matrix."""
    return jnp.linalg.qr(jax.random.normal(key, (channels, channels), dtype))[0]


def random_rotation_lu(key: jax.Array, channels: int, dtype=jnp.float32) -> jax.Array:
    """A random rotation in the packed form of `conv1x1_lu_forward`.

    From Q = P·L·U: L·U is orthogonal too, and flipping rows makes the diagonal of U positive, so
    neither P nor signs are needed.
    """
    _, lower, upper = lu(random_rotation(key, channels, dtype))
    signs = jnp.sign(jnp.diag(upper))
    lower, upper = signs[:, None] * lower * signs, signs[:, None] * upper
    return jnp.tril(lower, -1) + jnp.triu(upper, 1) + jnp.diag(jnp.log(jnp.diag(upper)))


class InvertibleConv1x1(nn.Module):
    """`conv1x1_forward` with a learned matrix that starts as a random rotation.

    Attributes:
        parametrization: `"dense"`, the matrix itself (parameter `weight`), or `"lu"`, its packed
            LU form (parameter `lu`), whose log-determinant is a sum.
    """

    parametrization: Literal["dense", "lu"] = "dense"

    def forward(self, x, context=None):
        apply = {"dense": conv1x1_forward, "lu": conv1x1_lu_forward}[self._checked()]
        return apply(x, self._matrix(x))

    def inverse(self, z, context=None):
        apply = {"dense": conv1x1_inverse, "lu": conv1x1_lu_inverse}[self._checked()]
        return apply(z, self._matrix(z))

    def _checked(self):
        check_choice("parametrization", self.parametrization, ("dense", "lu"))
        return self.parametrization

    @nn.compact
    def _matrix(self, x):
        name, draw = {"dense": ("weight", random_rotation), "lu": ("lu", random_rotation_lu)}[
            self.parametrization
        ]
        return self.param(name, draw, x.shape[-1], promote(x).dtype)


def _mix(x, weight):
    return jnp.matmul(promote(x), weight, precision=HIGHEST)


def _unpack(packed):
    lower = jnp.tril(packed, -1) + jnp.eye(packed.shape[0], dtype=packed.dtype)
    return lower, jnp.triu(packed, 1) + jnp.diag(jnp.exp(jnp.diag(packed)))
