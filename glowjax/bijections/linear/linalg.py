"""Functions of matrices that cannot wait for each other for ever, under any `vmap`.

jaxlib 0.10.0 to 0.11.0 shares a large batch of matrices out among the CPU's pool of threads, and
the thread that did so waits for the others. Where as many such calls as there are threads run side
by side, as the levels of a Glow do on two cores, all wait for ever: docs/lapack-hang.md. So on CPUs
LAPACK gets one matrix after another; accelerators get the whole batch.
"""

import functools

import jax
import jax.numpy as jnp
import jax.scipy.linalg as scipy_linalg
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

from glowjax.arrays import HIGHEST


def _unshared(f):
    """`f` of matrices, without derivatives, whose batches under `vmap` are not shared out."""
    single, batch = custom_vmap(f), custom_vmap(functools.partial(_over_batch, f))

    @single.def_vmap
    def one_axis(size, mapped, *args):
        return _mapped(batch(*_spread(size, mapped, args)))

    @batch.def_vmap
    def one_more_axis(size, mapped, *args):
        args = [a.reshape(-1, *a.shape[2:]) for a in _spread(size, mapped, args)]
        out = batch(*args)
        return _mapped(jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), out))

    return single


def _over_batch(f, *args):
    """`vmap(f)`, on CPUs one matrix after another."""

    def in_turn(*args):
        return lax.map(lambda one: f(*one), args)

    return lax.platform_dependent(*args, cpu=in_turn, default=jax.vmap(f))


def _spread(size, mapped, args):
    """`args` with a leading axis of `size` each."""
    return [
        a if has_axis else jnp.broadcast_to(a, (size, *a.shape))
        for a, has_axis in zip(args, mapped, strict=True)
    ]


def _mapped(out):
    return out, jax.tree.map(lambda _: True, out)


@_unshared
def _inverse_and_log_abs_det(a):
    factors, _, permutation = lax.linalg.lu(a)
    rows = jnp.eye(len(a), dtype=a.dtype)[permutation]
    inverse = scipy_linalg.solve_triangular(factors, rows, lower=True, unit_diagonal=True)
    inverse = scipy_linalg.solve_triangular(factors, inverse)
    return inverse, jnp.sum(jnp.log(jnp.abs(jnp.diag(factors))))


@jax.custom_jvp
def inverse_and_log_abs_det(
    a: Float[Array, "n n"],
) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """A⁻¹ and ln|det A| of `a: [n, n]`; NaN or infinite where there is none."""
    return _inverse_and_log_abs_det(a)


@inverse_and_log_abs_det.defjvp
def _inverse_and_log_abs_det_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse, log_abs_det = inverse_and_log_abs_det(a)
    return (inverse, log_abs_det), (_inverse_slope(inverse, da), jnp.sum(inverse.T * da))


@_unshared
def _lu_inverse(lower, upper):
    identity = jnp.eye(len(lower), dtype=lower.dtype)
    inverse = scipy_linalg.solve_triangular(lower, identity, lower=True, unit_diagonal=True)
    return scipy_linalg.solve_triangular(upper, inverse)


@jax.custom_jvp
def lu_inverse(lower: Float[Array, "n n"], upper: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """(L·U)⁻¹ of triangular `[n, n]`, the diagonal of L being 1."""
    return _lu_inverse(lower, upper)


@lu_inverse.defjvp
def _lu_inverse_jvp(primals, tangents):
    (lower, upper), (dlower, dupper) = primals, tangents
    inverse = lu_inverse(lower, upper)
    return inverse, _inverse_slope(inverse, product(dlower, upper) + product(lower, dupper))


def _inverse_slope(inverse, da):
    """d(A⁻¹) = -A⁻¹·dA·A⁻¹."""
    return -product(product(inverse, da), inverse)


@_unshared
def _spectral_norm(a):
    return jnp.linalg.norm(a, ord=2)


@_unshared
def _leading(a):
    """The largest singular value, and its singular vectors."""
    left, values, right = jnp.linalg.svd(a, full_matrices=False)
    return values[0], left[:, 0], right[0]


@jax.custom_jvp
def spectral_norm(a: Float[Array, "m n"]) -> Float[Array, ""]:
    """‖A‖₂, the largest singular value of `a: [m, n]`. Of reverse mode, first derivatives only."""
    return _spectral_norm(a)


@spectral_norm.defjvp
def _spectral_norm_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    norm, left, right = _leading(a)
    return norm, jnp.sum(left[:, None] * right * da)


@_unshared
def orthogonal_factor(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Q of the QR decomposition of `a: [n, n]`, without derivatives."""
    return jnp.linalg.qr(a)[0]


@_unshared
def lu_factors(a: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """L and U of A = P·L·U, P a permutation, of `a: [n, n]`, without derivatives."""
    return scipy_linalg.lu(a)[1:]


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a·b in full precision."""
    return jnp.matmul(a, b, precision=HIGHEST)
