"""Invertible 1×1 convolution: learned mixing of channels (Kingma & Dhariwal 2018, section 3.2)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray
from glowjax.bijections.linear import factorizations
from glowjax.bijections.linear.factorizations import (
    dense,
    exponential,
    lu_product,
    qr_product,
    rotation,
    svd_product,
    triangle,
)
from glowjax.bijections.linear.matrix import Draw, Matrix, Mixing, mix, unmix
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


Parametrization = Literal["dense", "lu", "qr", "svd", "triangular", "rotation", "exponential"]


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
    "exponential": Form("generator", factorizations.random_generator, exponential),
}


class InvertibleConv1x1(Mixing):
    """z = x·W with a learned matrix W: of the channels of images, or of whole vectors `[B, C]`.

    log_det `[B]` = positions · ln|det W|, in nats. The inverse and ln|det W| are computed once,
    however many examples and positions there are. W starts as a random rotation, except for
    `"triangular"`, which starts as the identity.

        "dense"       W            weight: [C, C]         any invertible matrix
        "lu"          L·U          lu: [C, C]             triangles, 1 on the diagonal of L
        "qr"          Q·R          qr: [C, C]             a rotation and a triangle
        "svd"         U·diag(s)·V  svd: [C, C]            rotations and singular values
        "triangular"  R            triangle: [C·(C+1)/2]  z_i depends on x_1 … x_i alone
        "rotation"    Q            rotation: [C·(C-1)/2]  log_det = 0
        "exponential" e^M          generator: [C, C]      log_det = positions · tr M

    All but the first have a log_det that is a sum: their parameters hold the logarithms of the
    diagonals of U and R, and of s. A rotation is the Cayley transform (I - S)·(I + S)⁻¹ of a
    skew-symmetric S.

    Attributes:
        parametrization: which row of this table, the name of its parameter beside it.

    Raises:
        ValueError: `parametrization` is another one; x is not of as many channels as at
            initialisation; a rotation of one channel.

    Sources: Kingma & Dhariwal 2018, section 3.2. Hoogeboom et al. 2019, Emerging convolutions for
    generative normalizing flows (QR). Zhang et al. 2018, Stabilizing gradients for deep neural
    networks via efficient SVD parameterization. Both make their rotations of Householder
    reflections. Golinski et al. 2019, Improving normalizing flows via better orthogonal
    parameterizations (Cayley). Xiao & Liu 2020, Generative flows with matrix exponential.

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
