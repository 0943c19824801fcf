"""Fixed permutations of channels, as NICE and RealNVP mix them."""

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from glowjax.arrays import AnyArray, promote, taken
from glowjax.checks import check_integer, require


def permute_forward(
    x: Float[AnyArray, "B *event C"], permutation: Integer[np.ndarray, "C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """z[..., i] = x[..., permutation[i]].

    Args:
        x: `[B, ..., C]`.
        permutation: `[C]`, each of 0 … C-1 once.

    Returns:
        `(z, log_det)`: log_det `[B]` = 0.
    """
    chex.assert_shape(permutation, x.shape[-1:])
    z = taken(promote(x), permutation, axis=-1)
    return z, jnp.zeros(x.shape[:1], z.dtype)


def permute_inverse(
    z: Float[AnyArray, "B *event C"], permutation: Integer[np.ndarray, "C"]
) -> tuple[Float[Array, "B *event C"], Float[Array, "B"]]:
    """x with x[..., permutation[i]] = z[..., i]; returns `(x, log_det)` as `permute_forward`."""
    return permute_forward(z, np.argsort(permutation))


class Permute(nn.Module):
    """`permute_forward` by a given permutation. No parameters.

    Attributes:
        permutation: z[..., i] = x[..., permutation[i]]; each of 0 … C-1 once.

    Raises:
        ValueError: the permutation is not one of the channels of x.

    Examples:
        >>> flow = glowjax.as_flow(glowjax.Permute((2, 0, 1)))
        >>> flow.forward({}, jnp.array([[0.0, 1.0, 2.0]]))[0].tolist()
        [[2.0, 0.0, 1.0]]
    """

    permutation: tuple[int, ...]

    def forward(self, x) -> tuple[Array, Array]:
        return permute_forward(x, self._permutation(x))

    def inverse(self, z) -> tuple[Array, Array]:
        return permute_inverse(z, self._permutation(z))

    def _permutation(self, x):
        ok = sorted(self.permutation) == list(range(x.shape[-1]))
        require(ok, "permutation", self.permutation, f"each of 0..{x.shape[-1] - 1} once")
        return np.array(self.permutation)


class Reverse(nn.Module):
    """Reverses the order of the channels: z[..., i] = x[..., C - 1 - i]. No parameters."""

    def forward(self, x) -> tuple[Array, Array]:
        return permute_forward(x, _reversed(x))

    def inverse(self, z) -> tuple[Array, Array]:
        return permute_inverse(z, _reversed(z))


class Shuffle(nn.Module):
    """z[..., i] = x[..., permutation[i]], by a random permutation of the channels. No parameters.

    `seed` and the number of channels fix the permutation.
    Inside `repeat` it is the same at every step.

    Raises:
        ValueError: `seed` is not a whole number in 0..2³² - 1.
    """

    seed: int = 0

    def forward(self, x) -> tuple[Array, Array]:
        return permute_forward(x, self._permutation(x))

    def inverse(self, z) -> tuple[Array, Array]:
        return permute_inverse(z, self._permutation(z))

    def _permutation(self, x):
        check_integer("seed", self.seed, 0, 2**32 - 1)
        # RandomState: its stream is frozen, so weights trained today fit tomorrow's NumPy.
        return np.random.RandomState(self.seed).permutation(x.shape[-1])


class Riffle(nn.Module):
    """Interleaves the two halves of the channels, as a perfect shuffle of cards. No parameters.

        z[2i] = x[h + i],    z[2i + 1] = x[i],    h = C // 2

    An odd last channel goes between the last two: elsewhere it, or another one, would never move.
    Of two channels it swaps them. After at most ⌈log₂(C + 1)⌉ + 1 riffles every two channels were
    in different halves, and each was in both: so a few couplings of halves let every channel act on
    every other, as one reversal after the other does not, which keeps the two halves as they are.

    Source: Diaconis, Graham & Kantor 1983, section 1: the in-shuffle.

    Examples:
        >>> flow = glowjax.as_flow(glowjax.Riffle())
        >>> flow.forward({}, jnp.array([[0.0, 1.0, 2.0, 3.0, 4.0]]))[0].tolist()
        [[2.0, 0.0, 3.0, 4.0, 1.0]]
    """

    def forward(self, x) -> tuple[Array, Array]:
        x, half = promote(x), x.shape[-1] // 2
        pairs = jnp.stack([x[..., half : 2 * half], x[..., :half]], axis=-1)
        pairs = pairs.reshape(*x.shape[:-1], 2 * half)
        z = jnp.concatenate([pairs[..., :-1], x[..., 2 * half :], pairs[..., -1:]], axis=-1)
        return z, jnp.zeros(x.shape[:1], z.dtype)

    def inverse(self, z) -> tuple[Array, Array]:
        z, half = promote(z), z.shape[-1] // 2
        odd, end = max(2 * half - 1, 0), z.shape[-1] - min(half, 1)  # of one channel: 0 and 1
        pairs = jnp.concatenate([z[..., :odd], z[..., end:]], axis=-1)
        pairs = pairs.reshape(*z.shape[:-1], half, 2)
        x = jnp.concatenate([pairs[..., 1], pairs[..., 0], z[..., odd:end]], axis=-1)
        return x, jnp.zeros(z.shape[:1], x.dtype)


def _reversed(x):
    return np.arange(x.shape[-1])[::-1]
