"""Batches of images on a coder's stack, by a model."""

import hashlib
import inspect
import math
import platform
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import scipy

import glowjax
from glowjax.checks import check_positive, described, require
from glowjax.codec.bins import coarsen, refine
from glowjax.codec.coder import WORD, Coder
from glowjax.codec.fixed_point import FRACTION, OutOfRange, fixed
from glowjax.codec.flows import integer_flow
from glowjax.codec.gaussians import STARTS, pop_normal, push_normal
from glowjax.densities.bases import standard_normal
from glowjax.densities.density import Density, density
from glowjax.expression import call_of

DIGITS = 32  # of a hexadecimal SHA-256 that a header keeps
PACKAGES = glowjax, jax, jaxlib, np, scipy


class BatchCoder:
    """Pushes and pops batches of images, and what they are conditioned on.

        push(images, labels, classes, coder)        -> rows that were stored pixel by pixel
        pop(count, raw, classes, coder)             -> (images, labels)

    Args:
        model, params, levels, batch: as for `glowjax.codec.compress`.
        image_shape: (H, W, C).

    Raises:
        ValueError: the model is not a density of the standard normal, of such images; a part of it
            has no exact form in integers.
    """

    def __init__(
        self, model: Density, params: Any, image_shape: tuple[int, ...], levels: int, batch: int
    ):
        check_positive(batch=batch)
        require(isinstance(model, Density), "model", described(model), "a Density")
        flow = _flow_of(model, image_shape)
        self.model, self.params, self.conditional = model, params, flow.takes_context
        self.shape, self.levels, self.batch = tuple(image_shape), levels, batch
        self.flow = integer_flow(flow, _in_float64(params), self.shape, batch)
        self.bins = fixed(np.arange(levels + 1) / levels - 0.5)

    def affordable(self, coder: Coder) -> int:
        """How many images to push next: as many as there are bits for, so that the seed is small.

        An image needs about 16 bits a number at the peak, and returns most of them.
        """
        bits = WORD * coder.top
        return int(np.clip(bits // (16 * math.prod(self.shape)), 1, self.batch))

    def push(
        self, images: np.ndarray, labels: Any, classes: int | None, coder: Coder
    ) -> np.ndarray:
        """Pushes up to a batch of images; see the class."""
        raw = np.zeros(0, np.int64)
        kept = np.arange(len(images))
        while len(kept):
            coder.mark()
            try:
                self._push(images[kept], None if labels is None else labels[kept], coder)
                break
            except OutOfRange as error:
                coder.roll_back()
                raw = np.union1d(raw, kept[error.rows])
                kept = np.setdiff1d(kept, raw)
        _push_uniform(images[raw], self.levels, coder)
        if classes is not None:
            _push_uniform(labels, classes, coder)
        return raw

    def pop(
        self, count: int, raw: np.ndarray, classes: int | None, coder: Coder
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Pops what `push` pushed, of which `raw` are its result; see the class."""
        labels = None if classes is None else _pop_uniform((count,), classes, coder)
        images = np.empty((count, *self.shape), np.int64)
        images[raw] = _pop_uniform((len(raw), *self.shape), self.levels, coder)
        kept = np.setdiff1d(np.arange(count), raw)
        if len(kept):
            images[kept] = self._pop(len(kept), None if labels is None else labels[kept], coder)
        return images.astype(np.uint8), labels

    def dequantized(self, images: np.ndarray, coder: Coder) -> np.ndarray:
        """Images in fixed point, each number at a place within its grey level that is popped."""
        return refine(images.reshape(-1).astype(np.int64), self.bins, coder).reshape(images.shape)

    def _push(self, images, labels, coder):
        x = self.dequantized(images, coder)
        for latent in jax.tree.leaves(self.flow.encode(x, coder, labels)):
            push_normal(latent.reshape(-1), coder)

    def _pop(self, count, labels, coder):
        shapes, structure = jax.tree.flatten(self.flow.event, is_leaf=_is_shape)
        latents = [
            pop_normal(count * math.prod(shape), coder).reshape(count, *shape)
            for shape in reversed(shapes)
        ]
        x = self.flow.decode(structure.unflatten(latents[::-1]), coder, labels)
        return coarsen(x.reshape(-1), self.bins, coder).reshape(count, *self.shape)

    def identity(self) -> str:
        """SHA-256, of it 128 bits, of the model's expression, weights, and table of latents."""
        found = hashlib.sha256(repr((self.model, self.shape, self.levels, FRACTION)).encode())
        for path, leaf in jax.tree.flatten_with_path(self.params)[0]:
            array = np.asarray(leaf)
            found.update(repr((path, array.dtype, array.shape)).encode() + array.tobytes())
        found.update(STARTS.tobytes())
        return found.hexdigest()[:DIGITS]

    def repeats(self, classes: int | None) -> str:
        """SHA-256, of it 128 bits, of what the model makes of a batch of fixed images."""
        size = self.batch * math.prod(self.shape)
        noise = np.frombuffer(hashlib.shake_128(b"images").digest(size), np.uint8)
        images = (noise.astype(np.int64) % self.levels).reshape(self.batch, *self.shape)
        labels = None if classes is None else np.arange(self.batch) % classes
        coder = Coder.seeded(1024)
        raw = self.push(images, labels, classes, coder)
        lanes, words = coder.stored()
        found = hashlib.sha256(lanes.tobytes() + words.tobytes() + raw.tobytes())
        return found.hexdigest()[:DIGITS]


def made_with() -> dict[str, str]:
    """Versions and device, on which the last bits of the nets' outputs depend."""
    versions = {package.__name__: package.__version__ for package in PACKAGES}
    device = f"{jax.default_backend()}, {jax.devices()[0].device_kind}, {platform.machine()}"
    return versions | {"device": device}


def _flow_of(model: Density, image_shape: Any):
    """The flow of a density of images, on the standard normal."""
    call = call_of(model)
    if call is None or call[0] is not inspect.unwrap(density):
        raise ValueError(f"model must be a density(flow, event_shape), got {model!r}")
    flow, event, base = (call[1].arguments[name] for name in ("flow", "event_shape", "base"))
    normal = base is None or (call_of(base) or [None])[0] is inspect.unwrap(standard_normal)
    require(normal, "model", f"one on {base!r}", "a density on the standard normal")
    require(tuple(image_shape) == tuple(event), "images", image_shape, f"of the shape {event} each")
    return flow


def _in_float64(params: Any) -> Any:
    def cast(leaf):
        array = np.asarray(leaf)
        return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map(cast, params)


def _is_shape(event: Any) -> bool:
    return all(isinstance(size, int) for size in event)


def _push_uniform(symbols: np.ndarray, n: int, coder: Coder) -> None:
    symbols = symbols.reshape(-1).astype(np.int64)
    for row in coder.rows(len(symbols)):
        coder.push_uniform(symbols[row], n)


def _pop_uniform(shape: tuple[int, ...], n: int, coder: Coder) -> np.ndarray:
    symbols = np.empty(math.prod(shape), np.int64)
    for row in reversed(coder.rows(len(symbols))):
        symbols[row] = coder.pop_uniform(row.stop - row.start, n)
    return symbols.reshape(shape)
