"""Invertible 1×1 convolution: learned mixing of channels (Kingma & Dhariwal 2018, section 3.2)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray
from glowjax.bijections import factorizations
from glowjax.bijections.factorizations import (
    dense,
    lu_product,
    qr_product,
    rotation,
    svd_product,
    triangle,
)
from glowjax.bijections.matrix import Draw, Matrix, Mixing, mix, unmix
from glowjax.checks import check_choice


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


def conv1x1_qr_forward(
    x: Float[AnyArray, "B *event C"], packed: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·Q·R at every position, Q a rotation and R upper triangular.

    Args:
        x: `[B, ..., C]`.
        packed: `[C, C]`: Q = (I - S)·(I + S)⁻¹, the Cayley transform of S = A - Aᵀ, where A is
            `packed` below the diagonal. R is `packed` above the diagonal, and the exponential of
            `packed` on it.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · tr(packed), in nats.

    Source: Hoogeboom et al. 2019, Emerging convolutions for generative normalizing flows, which
    makes Q of Householder reflections.
    """
    return mix(x, qr_product(packed))


def conv1x1_qr_inverse(
    z: Float[AnyArray, "B *event C"], packed: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·R⁻¹·Qᵀ at every position; returns `(x, log_det)` as `conv1x1_qr_forward`."""
    return unmix(z, qr_product(packed))


def conv1x1_svd_forward(
    x: Float[AnyArray, "B *event C"], packed: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·U·diag(s)·V at every position, U and V rotations: its singular values are s.

    Args:
        x: `[B, ..., C]`.
        packed: `[C, C]`: U is the Cayley transform, as of `conv1x1_qr_forward`, of `packed` below
            the diagonal; V is that of `packed` above the diagonal, transposed; ln s is on it.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · Σ ln s, in nats.

    Source: Zhang et al. 2018, Stabilizing gradients for deep neural networks via efficient SVD
    parameterization, which makes U and V of Householder reflections.
    """
    return mix(x, svd_product(packed))


def conv1x1_svd_inverse(
    z: Float[AnyArray, "B *event C"], packed: Float[AnyArray, "C C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·Vᵀ·diag(1/s)·Uᵀ at every position; returns `(x, log_det)` as `conv1x1_svd_forward`."""
    return unmix(z, svd_product(packed))


def conv1x1_triangular_forward(
    x: Float[AnyArray, "B *event C"], numbers: Float[AnyArray, "N"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·R at every position, R upper triangular: z_i depends on x_1 … x_i alone.

    Args:
        x: `[B, ..., C]`.
        numbers: `[C·(C + 1)/2]`, R row by row, with ln of what is on its diagonal.

    Returns:
        `(z, log_det)`: log_det `[B]` = positions · Σ ln R_ii, in nats.
    """
    return mix(x, triangle(numbers))


def conv1x1_triangular_inverse(
    z: Float[AnyArray, "B *event C"], numbers: Float[AnyArray, "N"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·R⁻¹ at every position; returns `(x, log_det)` as `conv1x1_triangular_forward`."""
    return unmix(z, triangle(numbers))


def conv1x1_rotation_forward(
    x: Float[AnyArray, "B *event C"], numbers: Float[AnyArray, "N"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z = x·Q at every position, Q = (I - S)·(I + S)⁻¹ the rotation of a skew-symmetric S.

    Args:
        x: `[B, ..., C]`.
        numbers: `[C·(C - 1)/2]`: S = A - Aᵀ, and A holds them below its diagonal, column by column.

    Returns:
        `(z, log_det)`: log_det `[B]` = 0.

    Source: Golinski et al. 2019, Improving normalizing flows via better orthogonal
    parameterizations.
    """
    return mix(x, rotation(numbers))


def conv1x1_rotation_inverse(
    z: Float[AnyArray, "B *event C"], numbers: Float[AnyArray, "N"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x = z·Qᵀ at every position; returns `(x, log_det)` as `conv1x1_rotation_forward`."""
    return unmix(z, rotation(numbers))


Parametrization = Literal["dense", "lu", "qr", "svd", "triangular", "rotation"]


class Form(NamedTuple):
    """A parametrization of matrices: the name of its parameter, how it starts, and its meaning."""

    name: str
    draw: Draw
    matrix: Callable[[jax.Array], Matrix]


FORMS = {
    "dense": Form("weight", factorizations.random_rotation, dense),
    "lu": Form("lu", factorizations.random_rotation_lu, lu_product),
    "qr": Form("qr", factorizations.random_rotation_qr, qr_product),
    "svd": Form("svd", factorizations.random_rotation_svd, svd_product),
    "triangular": Form("triangle", factorizations.no_triangle, triangle),
    "rotation": Form("rotation", factorizations.some_rotation, rotation),
}


class InvertibleConv1x1(Mixing):
    """z = x·W with a learned matrix W: of the channels of images, or of whole vectors `[B, C]`.

    W starts as a random rotation, but for the triangular one, which starts as the identity. The
    inverse and ln|det W| are computed once, however many examples and positions there are.

    Attributes:
        parametrization: what W is made of, and its parameter. `"dense"`: the matrix itself
            (parameter `weight`). All others have a log-determinant that is a sum. `"lu"`, `"qr"`
            and `"svd"` are as many free numbers, `[C, C]`, of the factors (parameters of the same
            names), see `conv1x1_lu_forward`, `conv1x1_qr_forward` and `conv1x1_svd_forward`.
            `"triangular"` (parameter `triangle`) and `"rotation"` are fewer matrices, see
            `conv1x1_triangular_forward` and `conv1x1_rotation_forward`.

    Raises:
        ValueError: another parametrization; x is not of as many channels as at initialisation; a
            rotation of one channel.

    Source: Kingma & Dhariwal 2018, section 3.2.

    Examples:
        >>> flow = glowjax.as_flow(glowjax.InvertibleConv1x1("svd"))
        >>> x = jnp.ones((4, 3))
        >>> params = flow.init(jax.random.key(0), x)
        >>> z, log_det = flow.forward(params, x)
        >>> params["svd"].shape, z.shape, log_det.tolist()
        ((3, 3), (4, 3), [0.0, 0.0, 0.0, 0.0])
    """

    parametrization: Parametrization = "dense"

    @nn.nowrap
    def draws(self) -> dict[str, Draw]:
        form = self._form()
        return {form.name: form.draw}

    @nn.nowrap
    def matrix(self, params: Any) -> Matrix:
        form = self._form()
        return form.matrix(params[form.name])

    @nn.nowrap
    def _form(self) -> Form:
        check_choice("parametrization", self.parametrization, FORMS)
        return FORMS[self.parametrization]
