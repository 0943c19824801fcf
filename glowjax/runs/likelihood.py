"""The likelihood of images of whole numbers, by a flow and the noise of dequantization."""

from typing import Any, NamedTuple

import jax

from glowjax.densities.density import Density, density
from glowjax.densities.dequantizers import Dequantizer, dequantized
from glowjax.densities.quantization import dequantize
from glowjax.flow import Flow

TRAIN_NOISE, EVALUATION_NOISE, DROPOUT, LABELS = range(4)  # independent streams of one seed


class Likelihood(NamedTuple):
    """A bound of ln P(v) + D·ln levels, in nats, with uniform noise or learned noise.

    Attributes:
        flow: of floats in (-½, ½).
        levels: grey levels of the images.
        dequantizer: the learned noise; its parameters and the flow's then are a pair of both, the
            flow's first. None: uniform noise, without parameters.
    """

    flow: Flow
    levels: int
    dequantizer: Dequantizer | None = None

    def density(self, shape: tuple[int, ...]) -> Density:
        """The density of images of this shape: of floats, or with learned noise of whole images."""
        model = density(self.flow, shape)
        return model if self.dequantizer is None else dequantized(model, self.dequantizer)

    def init(self, key: jax.Array, images: Any, keys: jax.Array, context: Any = None) -> Any:
        """Parameters, by a first batch; arguments as for `encode`."""
        learned = self.dequantizer is not None
        x = images if learned else dequantize(keys, images, levels=self.levels)
        return self.density(images.shape[1:]).init(key, x, context)

    def encode(
        self,
        params: Any,
        images: Any,
        keys: jax.Array,
        context: Any = None,
        dropout: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """The latents of dequantized images, and the bound of each, `[B]`.

        Args:
            params: as `init` makes them.
            images: v, `[B, H, W, C]` in 0 … levels - 1.
            keys: `[B]`, of the noise, see `noise_keys`.
            context: of the flow.
            dropout: the key of dropout, for a flow that has it.
        """
        log_q: Any = 0.0
        if self.dequantizer is None:
            x = dequantize(keys, images, levels=self.levels)
        else:
            params, noise = params
            x, log_q = self.dequantizer.sample(noise, keys, images)
        model = density(self.flow, images.shape[1:])
        z, log_prob = model.encode_and_log_prob(params, x, context, dropout)
        return z, log_prob - log_q


def noise_keys(seed: int, stream: int, step: Any, index: Any) -> jax.Array:
    """Keys of noise by (seed, stream, step, example), `[B]`: on all devices the same.

    Args:
        seed: of the run.
        stream: `TRAIN_NOISE`, `EVALUATION_NOISE` or `LABELS`.
        step: of training; in evaluation, which draw of several.
        index: `[B]`, each example's place in the global batch or in the split.
    """
    key = step_key(seed, stream, step)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def step_key(seed: int, stream: int, step: Any) -> jax.Array:
    """The key of a step of one of the streams."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)


def noisy(seed: int, stream: int, step: Any, index: Any, images: Any, levels: int) -> jax.Array:
    """Dequantizes images with uniform noise by `noise_keys`.

    Args:
        seed, stream, step, index: as for `noise_keys`.
        images, levels: as for `dequantize`.
    """
    return dequantize(noise_keys(seed, stream, step, index), images, levels=levels)
