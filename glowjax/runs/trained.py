"""A trained model of images, as functions of its weights and of images of whole numbers."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from glowjax.checks import NON_NEGATIVE, check_in, check_labels, check_positive, is_known, require
from glowjax.compose import chain
from glowjax.data.images import resized
from glowjax.densities.density import Density, density
from glowjax.densities.quantization import (
    bin_centres,
    check_images,
    dequantize,
    from_uint8,
    quantize,
)
from glowjax.runs.config import Config
from glowjax.runs.models import dequantizer, label_dropout
from glowjax.runs.steps import Trainer


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """A density of images of whole numbers, with what is known of the data it was trained on.

        log_prob(params, images, key=None, labels=None)         -> [B], nats of each image
        bits_per_dim(params, images, key=None, labels=None)     -> [B]
        sample(params, key, n, temperature=1.0, labels=None)    -> images, n of them
        encode(params, images, labels=None)                     -> z
        decode(params, z, labels=None)                          -> images
        prepare(images)                                         -> images as the model takes them
        guided(weight)                                          -> a model of the same parameters

    Images are uint8 `[B, H, W, C]`, in 0 … levels - 1; `to_uint8(images, levels=model.levels)`
    makes 8-bit ones of them. `labels`, `[B]` integers, are for a conditional model alone. All
    but the last two are pure, and compiled once for each size of their arguments.

    Attributes:
        density: of the dequantized images, floats in (-½, ½): what goes into JAX code. If the model
            has learned its noise, log_prob takes whole images and a key: see `dequantized`.
        config: of the training run.
        image_shape: (H, W, C).
        levels: grey levels of the images.
        num_classes: of the data's labels; None without labels.
        class_names: in the order of the labels; None: classes are called by their numbers.

    Raises:
        ValueError: images of another dtype, shape or range; labels that are out of range, or
            missing, or not taken; guidance of a model that was not trained for it.
    """

    density: Density
    config: Config
    image_shape: tuple[int, int, int]
    levels: int
    num_classes: int | None
    class_names: tuple[str, ...] | None = None

    @property
    def conditional(self) -> bool:
        """Whether it wants labels."""
        return self.config.model.conditional

    @property
    def learned_noise(self) -> bool:
        """Whether the noise of dequantization is the model's own."""
        return dequantizer(self.config.model, self.levels) is not None

    @property
    def images(self) -> dict[str, Any]:
        """What is known of the images: image_shape, levels, num_classes."""
        return {name: getattr(self, name) for name in ("image_shape", "levels", "num_classes")}

    def log_prob(self, params, images, key=None, labels=None) -> jax.Array:
        """ln p(x) - D·ln levels of the dequantized images: a bound of ln P(image) from below.

        The noise of dequantization is drawn by `key`; default: `jax.random.key(0)`.
        """
        key = jax.random.key(0) if key is None else key
        images = self._checked(images)
        return _log_prob(self, params, images, key, self._labels(labels, images.shape[0]))

    def bits_per_dim(self, params, images, key=None, labels=None) -> jax.Array:
        """-log₂ P(image) / D, bounded from above, as papers give it."""
        log_prob = self.log_prob(params, images, key, labels)
        return -log_prob / (math.prod(self.image_shape) * math.log(2))

    def sample(self, params, key, n: int, temperature: float = 1.0, labels=None) -> jax.Array:
        """Images drawn from the model, the latents scaled by `temperature`."""
        check_positive(n=n)
        if is_known(temperature):
            check_in(NON_NEGATIVE, temperature=temperature)
        return _sample(self, params, key, n, temperature, self._labels(labels, n))

    def encode(self, params, images, labels=None) -> Any:
        """The latents of images, at the centres of their bins."""
        images = self._checked(images)
        return _encode(self, params, images, self._labels(labels, images.shape[0]))

    def decode(self, params, z, labels=None) -> jax.Array:
        """The images of latents, rounded down and clipped to the grey levels."""
        batch = jnp.shape(jax.tree.leaves(z)[0])[0]
        return _decode(self, params, z, self._labels(labels, batch))

    def prepare(self, images: Iterable[ArrayLike]) -> np.ndarray:
        """Images of any size, 8-bit `[H, W, C]` each, resized and cut as the run's data were.

        Where those had fewer grey levels, so do the images.
        """
        size = self.config.data.resize
        arrays = [np.asarray(image) for image in images]
        require(arrays, "images", "none", "one at least")
        for image in arrays:
            ok = image.dtype == np.uint8 and image.ndim == 3
            require(ok, "images", f"{image.dtype} of shape {image.shape}", "uint8 [H, W, C] each")
        arrays = arrays if size is None else [resized(image, size) for image in arrays]
        shapes = sorted({image.shape for image in arrays})
        require(len(shapes) == 1, "images", shapes, "of one shape, or the run's data.resize set")
        transform = self.config.data.transform
        transformed = transform(np.stack(arrays))
        if transform.bits is None:
            transformed = np.asarray(from_uint8(transformed, levels=self.levels))
        return self._checked(transformed)

    def guided(self, weight: float) -> "ImageModel":
        """The model whose samples are more typical of their labels, for a weight above 0.

        Its likelihood is another too. See the option `guidance` of `tarflow`.
        """
        model: Any = self.config.model
        wanted = "left out, or the model one that was trained with model.label_dropout above 0"
        require(label_dropout(model), "guidance", weight, wanted)
        flow = chain(**model.parts(self.num_classes, guidance=weight))
        return dataclasses.replace(self, density=density(flow, self.image_shape))

    def _checked(self, images):
        shape = jnp.shape(images)
        wanted = f"of shape [B, {', '.join(map(str, self.image_shape))}]"
        require(len(shape) == 4 and shape[1:] == self.image_shape, "images", shape, wanted)
        check_images(images, self.levels)
        return images if isinstance(images, np.ndarray) else jnp.asarray(images)

    def _labels(self, labels, batch):
        classes = self.num_classes if self.conditional else None
        if classes is None:
            require(labels is None, "labels", labels, "None: the model is not conditional")
            return None
        wanted = f"given, one an image in 0..{classes - 1}: the model is conditional"
        require(labels is not None, "labels", labels, wanted)
        check_labels(labels, classes, batch)
        return jnp.asarray(labels)


def image_model(
    trainer: Trainer,
    config: Config,
    images: dict[str, Any],
    class_names: Sequence[str] | None = None,
) -> ImageModel:
    """The model of a run, for those who have images of whole numbers."""
    names = None if class_names is None else tuple(class_names)
    return ImageModel(density=trainer.density, config=config, class_names=names, **images)


_compiled = functools.partial(jax.jit, static_argnums=0)


@_compiled
def _log_prob(model, params, images, key, labels):
    bins = math.prod(model.image_shape) * math.log(model.levels)
    if model.learned_noise:  # by one key an image, since exported programs know no batch
        fold = functools.partial(jax.random.fold_in, key)
        keys = jax.vmap(fold)(jnp.arange(images.shape[0]))
        return model.density.log_prob(params, images, labels, keys) - bins
    x = dequantize(key, images, levels=model.levels)
    return model.density.log_prob(params, x, labels) - bins


@functools.partial(jax.jit, static_argnums=(0, 3))
def _sample(model, params, key, n, temperature, labels):
    x = model.density.sample(params, key, n, temperature, labels)
    return quantize(x, levels=model.levels)


@_compiled
def _encode(model, params, images, labels):
    return model.density.encode(params, bin_centres(images, levels=model.levels), labels)


@_compiled
def _decode(model, params, z, labels):
    return quantize(model.density.decode(params, z, labels), levels=model.levels)
