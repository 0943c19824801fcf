"""Batches of images on a coder's stack, by a model."""

import functools
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
from glowjax.codec.bins import coarsen, pop_uniform, push_uniform, refine
from glowjax.codec.coder import Coder
from glowjax.codec.fixed_point import FRACTION, fixed
from glowjax.codec.flows import integer_flow
from glowjax.codec.gaussians import STARTS, pop_normal, push_normal
from glowjax.codec.integer_flow import IntegerFlow
from glowjax.codec.lanes import WORD, Stack
from glowjax.densities.bases import standard_normal
from glowjax.densities.density import Density, density
from glowjax.expression import call_of

DIGITS = 32  # of a hexadecimal SHA-256 that a header keeps
PACKAGES = glowjax, jax, jaxlib, np, scipy
ROOM = 16  # words of a lane, at least, that are lent to the device


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
        self.room = ROOM
        with jax.enable_x64(True):
            self.flow = integer_flow(flow, _in_float64(params), self.shape)
            self.bins = jnp.asarray(fixed(np.arange(levels + 1) / levels - 0.5))
            # On the device of here, since `jax.default_device` says nothing in other threads.
            self.flow = jax.device_put(self.flow, self.bins.device)

    def affordable(self, coder: Coder) -> int:
        """How many images to push next: as many as there are bits for, so that the seed is small.

        An image needs about 16 bits a number at the peak, some lanes need more, and most of them
        are returned.
        """
        bits = WORD * int((coder.top - coder.low).sum())
        return int(np.clip(bits // (17 * math.prod(self.shape)), 1, self.batch))

    def push(
        self, images: np.ndarray, labels: Any, classes: int | None, coder: Coder
    ) -> np.ndarray:
        """Pushes up to a batch of images; see the class."""
        given = np.arange(self.batch) < len(images)
        raw = np.zeros(self.batch, bool)
        with jax.enable_x64(True):
            arrays = self._filled(images), None if labels is None else self._filled(labels)
            while True:
                push = functools.partial(self._push, *arrays, classes, given, raw)
                stack = self._with_room(coder, push)
                bad = np.asarray(stack.bad) & given & ~raw
                if not bad.any():
                    coder.take(stack)
                    coder.turn += 1
                    return np.flatnonzero(raw)
                raw = raw | bad

    def pop(
        self, count: int, raw: np.ndarray, classes: int | None, coder: Coder
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Pops what `push` pushed, of which `raw` are its result; see the class."""
        given, index = np.arange(self.batch) < count, np.arange(self.batch)
        found: list[Any] = []

        def popped(lent):
            *found[:], stack = self._pop(classes, given, np.isin(index, raw), lent)
            return stack

        coder.turn -= 1
        with jax.enable_x64(True):
            coder.take(self._with_room(coder, popped))
            images, labels = jax.tree.map(lambda array: np.asarray(array)[:count], found)
        return images.astype(np.uint8), labels

    def dequantized(self, images: np.ndarray, coder: Coder) -> np.ndarray:
        """Images in fixed point, each number at a place within its grey level, as `push` pops it.

        The coder stays as it is.
        """
        valid = np.arange(self.batch) < len(images)
        with jax.enable_x64(True):
            stack = self._lent(coder)._replace(valid=jnp.asarray(valid))
            return np.asarray(_refine(self._filled(images), self.bins, stack)[0])[: len(images)]

    def _lent(self, coder):
        rows = self.batch * math.prod(self.shape) // len(coder.lanes)
        return coder.stack(max(self.room, 2 * rows), self.batch)

    def _with_room(self, coder: Coder, work: Any) -> Stack:
        """What work makes of the coder's stack, of which so many words are lent as it needs."""
        while True:
            stack = work(self._lent(coder))
            if stack.fits():
                return stack
            self.room = len(stack.words)

    def _filled(self, array):
        """A batch of whole numbers, which zeros fill."""
        rows = np.zeros((self.batch, *np.shape(array)[1:]), np.int64)
        rows[: len(array)] = array
        return jnp.asarray(rows)

    def _push(self, images, labels, classes, given, raw, stack):
        stack = stack._replace(valid=jnp.asarray(given & ~raw))
        stack = _encode(self.flow, self.bins, images, labels, stack)
        if raw.any():
            stack = _push_uniform(images, self.levels, stack._replace(valid=jnp.asarray(raw)))
        if classes is not None:
            stack = _push_uniform(labels, classes, stack._replace(valid=jnp.asarray(given)))
        return stack

    def _pop(self, classes, given, raw, stack):
        labels, coded = None, 0
        if classes is not None:
            stack = stack._replace(valid=jnp.asarray(given))
            labels, stack = _pop_uniform((self.batch,), classes, stack)
        if raw.any():
            stack = stack._replace(valid=jnp.asarray(raw))
            coded, stack = _pop_uniform((self.batch, *self.shape), self.levels, stack)
        stack = stack._replace(valid=jnp.asarray(given & ~raw))
        images, stack = _decode(self.flow, self.bins, labels, stack)
        return jnp.where(raw.reshape(-1, 1, 1, 1), coded, images), labels, stack

    def identity(self) -> str:
        """SHA-256, of it 128 bits, of the model's expression, weights, and table of latents."""
        found = hashlib.sha256(repr((self.model, self.shape, self.levels, FRACTION)).encode())
        for path, leaf in jax.tree.flatten_with_path(self.params)[0]:
            array = np.asarray(leaf)
            found.update(repr((path, array.dtype, array.shape)).encode() + array.tobytes())
        found.update(STARTS.tobytes())
        return found.hexdigest()[:DIGITS]

    def repeats(self, classes: int | None, lanes: int, *, back: bool = False) -> str:
        """SHA-256, of it 128 bits, of what the model makes of a batch of fixed images.

        It compiles what `push` needs, and with `back`, as it pops them again, what `pop` needs.
        """
        size = self.batch * math.prod(self.shape)
        noise = np.frombuffer(hashlib.shake_128(b"images").digest(size), np.uint8)
        images = (noise.astype(np.int64) % self.levels).reshape(self.batch, *self.shape)
        labels = None if classes is None else np.arange(self.batch) % classes
        coder = Coder.seeded(lanes)
        raw = self.push(images, labels, classes, coder)
        found = hashlib.sha256(b"".join(a.tobytes() for a in (*coder.stored(), raw)))
        if back:
            self.pop(self.batch, raw, classes, coder)
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


@jax.jit
def _encode(flow: IntegerFlow, bins: jax.Array, images: jax.Array, labels: Any, stack: Stack):
    x, stack = refine(images, bins, stack)
    z, stack = flow.encode(x, stack, labels)
    for latent in jax.tree.leaves(z):
        stack = push_normal(latent, stack)
    return stack


@jax.jit
def _decode(flow: IntegerFlow, bins: jax.Array, labels: Any, stack: Stack):
    shapes, structure = jax.tree.flatten(flow.event, is_leaf=_is_shape)
    latents = []
    for shape in reversed(shapes):
        latent, stack = pop_normal((len(stack.valid), *shape), stack)
        latents.append(latent)
    x, stack = flow.decode(structure.unflatten(latents[::-1]), stack, labels)
    return coarsen(x, bins, stack)


_refine, _push_uniform = jax.jit(refine), jax.jit(push_uniform)
_pop_uniform = jax.jit(pop_uniform, static_argnums=0)
