"""Invertible 1×1 convolution: learned mixing of channels (Kingma & Dhariwal 2018, section 3.2)."""

from typing import Any, Literal, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST, AnyArray, draw_flat, per_example, positions, promote
from glowjax.bijections.linalg import (
    inverse_and_log_abs_det,
    lu_factors,
    lu_inverse,
    orthogonal_factor,
)
from glowjax.checks import check_choice, require


class Matrix(NamedTuple):
    """A matrix `[C, C]`, its inverse, and ln|det|: all that mixing both ways needs."""

    weight: Float[Array, "C C"]
    inverse: Float[Array, "C C"]
    log_abs_det: Float[Array, ""]


def dense(weight: Float[AnyArray, "C C"]) -> Matrix:
    """The `Matrix` of a weight `[C, C]` itself."""
    weight = promote(weight)
    return Matrix(weight, *inverse_and_log_abs_det(weight))


def lu_product(packed: Float[AnyArray, "C C"]) -> Matrix:
    """The `Matrix` L·U, with L and U packed into one `[C, C]`, as LAPACK does.

    L is `packed` below the diagonal and 1 on it; U is `packed` above the diagonal, and its
    diagonal is the exponential of `packed`'s. So every entry is a free parameter.
    """
    packed = promote(packed)
    lower = jnp.tril(packed, -1) + jnp.eye(packed.shape[0], dtype=packed.dtype)
    upper = jnp.triu(packed, 1) + jnp.diag(jnp.exp(jnp.diag(packed)))
    return Matrix(
        weight=jnp.matmul(lower, upper, precision=HIGHEST),
        inverse=lu_inverse(lower, upper),
        log_abs_det=jnp.trace(packed),
    )


def mix(
    x: Float[AnyArray, "B *event C"], matrix: Matrix
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·W at every position (row vectors).

    Args:
        x: `[B, ..., C]`.
        matrix: `[C, C]`, invertible.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · ln|det W|, in nats.
    """
    chex.assert_shape(matrix.weight, (x.shape[-1], x.shape[-1]))
    z = _at_every_position(x, matrix.weight)
    return z, per_example(positions(x) * matrix.log_abs_det, x)


def unmix(
    z: Float[AnyArray, "B *event C"], matrix: Matrix
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·W⁻¹; returns `(x, log_det)` as `mix`."""
    chex.assert_shape(matrix.inverse, (z.shape[-1], z.shape[-1]))
    x = _at_every_position(z, matrix.inverse)
    return x, per_example(-positions(z) * matrix.log_abs_det, z)


def _at_every_position(x, weight):
    """x·W as a product of two matrices: the gradients of other products copy their operands."""
    z = jnp.matmul(promote(x).reshape(-1, x.shape[-1]), weight, precision=HIGHEST)
    return z.reshape(x.shape)


def conv1x1_forward(
    x: Float[AnyArray, "B *event C"], weight: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·W at every position.

    Args:
        x: `[B, ..., C]`.
        weight: W, `[C, C]`, invertible.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · ln|det W|, in nats.

    Source: Kingma & Dhariwal 2018, section 3.2.
    """
    return mix(x, dense(weight))


def conv1x1_inverse(
    z: Float[AnyArray, "B *event C"], weight: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·W⁻¹ at every position; returns `(x, log_det)` as `conv1x1_forward`."""
    return unmix(z, dense(weight))


def conv1x1_lu_forward(
    x: Float[AnyArray, "B *event C"], packed: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·L·U at every position, with a determinant that is a sum of C numbers.

    Args:
        x: `[B, ..., C]`.
        packed: `[C, C]`: L is `packed` below the diagonal and 1 on it. U is `packed` above the
            diagonal, and the exponential of `packed` on it.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · tr(packed), in nats.

    Source: Kingma & Dhariwal 2018, section 3.2.
    """
    return mix(x, lu_product(packed))


def conv1x1_lu_inverse(
    z: Float[AnyArray, "B *event C"], packed: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·(L·U)⁻¹ at every position; returns `(x, log_det)` as `conv1x1_lu_forward`."""
    return unmix(z, lu_product(packed))


def random_rotation(key: jax.Array, channels: int, dtype=jnp.float32) -> Float[Array, "C C"]:
    """An orthogonal `[C, C]`: the Q of the QR decomposition of a Gaussian matrix."""
    return orthogonal_factor(draw_flat(jax.random.normal, key, (channels, channels), dtype))


def random_rotation_lu(key: jax.Array, channels: int, dtype=jnp.float32) -> Float[Array, "C C"]:
    """A random rotation in the packed form of `conv1x1_lu_forward`.

    From Q = P·L·U: L·U is orthogonal too, and flipping rows makes the diagonal of U positive, so
    neither P nor signs are needed.
    """
    lower, upper = lu_factors(random_rotation(key, channels, dtype))
    signs = jnp.sign(jnp.diag(upper))
    lower, upper = signs[:, None] * lower * signs, signs[:, None] * upper
    return jnp.tril(lower, -1) + jnp.triu(upper, 1) + jnp.diag(jnp.log(jnp.diag(upper)))


class InvertibleConv1x1(nn.Module):
    """z = x·W at every position, W a learned matrix that starts as a random rotation.

    See `conv1x1_forward` and `conv1x1_lu_forward`.

    Attributes:
        parametrization: `"dense"`, the matrix itself (parameter `weight`), or `"lu"`, its packed
            LU form (parameter `lu`), whose log-determinant is a sum.

    Raises:
        ValueError: another parametrization; x is not of as many channels as at initialisation.

    Source: Kingma & Dhariwal 2018, section 3.2.
    """

    parametrization: Literal["dense", "lu"] = "dense"

    def forward(self, x) -> tuple[Array, Array]:
        return mix(x, self._matrix(x))

    def inverse(self, z) -> tuple[Array, Array]:
        return unmix(z, self._matrix(z))

    @nn.nowrap
    def prepare(self, params) -> dict[str, Any]:
        name, _, matrix = self._form()
        return {"prepared": {"matrix": matrix(params[name])}}

    @nn.compact
    def _matrix(self, x):
        name, draw, matrix = self._form()
        prepared = self.get_variable("prepared", "matrix")
        if prepared is not None:
            channels = prepared.weight.shape[-1]
            require(x.shape[-1] == channels, "x", x.shape, f"of {channels} channels, as params are")
            return prepared
        return matrix(self.param(name, draw, x.shape[-1], promote(x).dtype))

    @nn.nowrap
    def _form(self):
        check_choice("parametrization", self.parametrization, ("dense", "lu"))
        forms = {
            "dense": ("weight", random_rotation, dense),
            "lu": ("lu", random_rotation_lu, lu_product),
        }
        return forms[self.parametrization]
