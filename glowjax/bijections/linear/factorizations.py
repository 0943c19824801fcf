"""Invertible matrices as products of factors, each packed so that all its numbers are free.

An orthogonal factor is the Cayley transform Q = (I - A)·(I + A)⁻¹ of a skew-symmetric A. It reaches
all rotations but those that turn something by exactly π, and I + A is always well conditioned.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from glowjax.arrays import AnyArray, draw_flat, promote
from glowjax.bijections.linear.conv_exponential import series_terms
from glowjax.bijections.linear.linalg import (
    inverse_and_log_abs_det,
    lu_factors,
    lu_inverse,
    orthogonal_factor,
    product,
)
from glowjax.bijections.linear.matrix import Matrix
from glowjax.checks import require

SQUARINGS = 4


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
    lower = jnp.tril(packed, -1) + _identity(packed)
    upper = _upper(packed)
    return Matrix(product(lower, upper), lu_inverse(lower, upper), jnp.trace(packed))


def qr_product(packed: Float[AnyArray, "C C"]) -> Matrix:
    """The `Matrix` Q·R, with Q and R packed into one `[C, C]`.

    Q is the Cayley transform of A - Aᵀ, where A is `packed` below the diagonal. R is `packed` above
    the diagonal, and the exponential of `packed` on it.
    """
    packed = promote(packed)
    rotation, upper = _cayley(packed), _upper(packed)
    inverse = product(lu_inverse(_identity(packed), upper), rotation.T)
    return Matrix(product(rotation, upper), inverse, jnp.trace(packed))


def svd_product(packed: Float[AnyArray, "C C"]) -> Matrix:
    """The `Matrix` U·diag(s)·V, with both rotations and s packed into one `[C, C]`.

    U and V are the Cayley transforms of A - Aᵀ, where A is `packed` below the diagonal for U, and
    its transpose above the diagonal for V; ln s is the diagonal.
    """
    packed = promote(packed)
    left, right, scale = _cayley(packed), _cayley(packed.T), jnp.exp(jnp.diag(packed))
    weight = product(left * scale, right)
    return Matrix(weight, product(right.T / scale, left.T), jnp.trace(packed))


def triangle(numbers: Float[AnyArray, "N"]) -> Matrix:
    """The upper triangular `Matrix` of C·(C + 1)/2 numbers, row by row; its diagonal is e^them."""
    packed = _square(promote(numbers), 0)
    upper = _upper(packed)
    return Matrix(upper, lu_inverse(_identity(packed), upper), jnp.trace(packed))


def rotation(numbers: Float[AnyArray, "N"]) -> Matrix:
    """The `Matrix` of a rotation by C·(C - 1)/2 numbers: the Cayley transform of A - Aᵀ.

    A holds the numbers below its diagonal, column by column.
    """
    turned = _cayley(_square(promote(numbers), 1).T)
    return Matrix(turned, turned.T, jnp.zeros((), turned.dtype))


def exponential(generator: Float[AnyArray, "C C"]) -> Matrix:
    """The `Matrix` e^M of any M `[C, C]`; its inverse is e^-M, and ln det = tr M.

    By Taylor's series of M / 2⁴, squared four times: exact up to rounding for norms up to 16.

    Source: Xiao & Liu 2020, section 3.1; Higham 2005, The scaling and squaring method (revisited).
    """
    generator = promote(generator)
    both = [_exp(sign * generator) for sign in (1, -1)]
    return Matrix(*both, jnp.trace(generator))


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


def random_rotation_qr(key: jax.Array, channels: int, dtype=jnp.float32) -> Float[Array, "C C"]:
    """A random rotation in the packed form of `qr_product`: R is the identity."""
    return jnp.tril(random_rotation_svd(key, channels, dtype), -1)


def random_rotation_svd(key: jax.Array, channels: int, dtype=jnp.float32) -> Float[Array, "C C"]:
    """A random rotation in the packed form of `svd_product`: all singular values are 1."""
    skew = _draw(key, (channels, channels), channels, dtype)
    return skew * (1 - jnp.eye(channels, dtype=dtype))


def random_generator(key: jax.Array, channels: int, dtype=jnp.float32) -> Float[Array, "C C"]:
    """M of a random rotation e^M: skew-symmetric, with eigenvalues within about ±2i."""
    numbers = _draw(key, (channels, channels), channels, dtype)
    return jnp.tril(numbers, -1) - jnp.tril(numbers, -1).T


def no_triangle(key: jax.Array, channels: int, dtype=jnp.float32) -> Float[Array, "N"]:
    """The identity in the form of `triangle`."""
    return jnp.zeros(channels * (channels + 1) // 2, dtype)


def some_rotation(key: jax.Array, channels: int, dtype=jnp.float32) -> Float[Array, "N"]:
    """A random rotation in the form of `rotation`.

    Raises:
        ValueError: there is one channel, which cannot be turned.
    """
    require(channels > 1, "x", f"{channels} channel", "of 2 channels or more, to be turned")
    return _draw(key, (channels * (channels - 1) // 2,), channels, dtype)


def _draw(key, shape, channels, dtype):
    """Numbers for a Cayley transform: the eigenvalues of A - Aᵀ then lie within about ±2i."""
    return draw_flat(jax.random.normal, key, shape, dtype) / math.sqrt(channels)


def _cayley(packed):
    """(I - S)·(I + S)⁻¹ = 2·(I + S)⁻¹ - I for S = A - Aᵀ, A being `packed` below the diagonal."""
    lower, identity = jnp.tril(packed, -1), _identity(packed)
    return 2 * inverse_and_log_abs_det(identity + lower - lower.T)[0] - identity


def _exp(generator):
    """e^M, by a fixed number of products: LAPACK has no part in it."""
    scaled, identity = generator / 2**SQUARINGS, _identity(generator)
    result = identity
    for k in range(series_terms(1.0, generator.dtype), 0, -1):
        result = identity + product(scaled, result) / k
    for _ in range(SQUARINGS):
        result = product(result, result)
    return result


def _upper(packed):
    """`packed` above the diagonal, and its exponential on it."""
    return jnp.triu(packed, 1) + jnp.diag(jnp.exp(jnp.diag(packed)))


def _square(numbers, above):
    """Numbers, row by row, as the triangle that begins `above` the diagonal; 0 elsewhere."""
    count = (math.isqrt(8 * len(numbers) + 1) - 1) // 2 + above
    places = np.triu_indices(count, above)
    return jnp.zeros((count, count), numbers.dtype).at[places].set(numbers)


def _identity(like):
    return jnp.eye(len(like), dtype=like.dtype)
