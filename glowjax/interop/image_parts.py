"""What converted flows of images are made of, beside the flows of glowjax itself.

Events are `[H, W, C]`, channels last; most of this takes vectors too.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import HIGHEST, one_hot, promote
from glowjax.bijections.split import unwhiten, whiten
from glowjax.checks import check_image_shape, check_labels, require
from glowjax.compose import multiscale
from glowjax.flow import as_flow
from glowjax.interop import parts
from glowjax.interop.parts import Dense, Net, Part
from glowjax.nets.activations import Activation, activation_function
from glowjax.nets.convnet import ConvNet

# ---------------------------------------------------------------------------------------- nets


class ConvLayers(nn.Module):
    """Convolutions padded with zeros, an activation in between: `[B, H, W, C] -> [..., features]`.

    Attributes:
        features: output channels.
        widths: of the hidden layers.
        sizes: of the square kernels, odd: one more than `widths`.
        activation: its name, or a function.

    Source: `ConvNet2d` of normflows 1.7.
    """

    features: int
    widths: tuple[int, ...]
    sizes: tuple[int, ...]
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x):
        check_image_shape("x", x)
        x, function = promote(x), activation_function(self.activation)
        for number, (width, size) in enumerate(zip(self.widths, self.sizes, strict=False), 1):
            x = function(_conv(width, size, x.dtype, f"conv{number}")(x))
        return _conv(self.features, self.sizes[-1], x.dtype, "out", nn.initializers.zeros)(x)


def _conv(features, size, dtype, name, init=nn.linear.default_kernel_init):
    return nn.Conv(
        features,
        (size, size),
        kernel_init=init,
        param_dtype=dtype,
        precision=HIGHEST,
        name=name,
    )


def convolutions(layers: Sequence[Dense], activation: Activation) -> Net:
    """A net of convolutions: a `ConvNet` where they are as in Glow, and else `ConvLayers`.

    Args:
        layers: of weights `[height, width, inputs, outputs]`, square and odd; the last one puts
            out the parameters of a coupling.
        activation: in between.
    """
    *hidden, out = layers
    widths = tuple(len(layer.bias) for layer in hidden)
    sizes = tuple(layer.weight.shape[0] for layer in layers)
    if sizes == (3, 1, 3) and widths[0] == widths[1] and activation == "relu":
        return _glow_net(*layers)
    params = {f"conv{number}": parts.kernel(layer) for number, layer in enumerate(hidden, 1)}
    make = functools.partial(ConvLayers, widths=widths, sizes=sizes, activation=activation)
    return Net(make, params | {"out": parts.kernel(out)})


def _glow_net(first: Dense, second: Dense, out: Dense) -> Net:
    params: dict[str, Any] = {"out": out._asdict() | {"log_scale": np.zeros_like(out.bias)}}
    for number, layer in enumerate((first, second), 1):
        params[f"conv{number}"] = {"weight": layer.weight}
        params[f"norm{number}"] = {"bias": layer.bias}
    return Net(functools.partial(ConvNet, width=len(first.bias), ring=False, norm=False), params)


# -------------------------------------------------------------------------------- checkerboards


class Checkerboard(nn.Module):
    """Pairs of columns become channels: `[B, H, W, C] -> [B, H, W // 2, 2·C]`; log_det = 0.

    Of each pair, the number whose c + y + x is odd goes to the first C channels, and the other one
    to the last C.

    Raises:
        ValueError: `x` is not `[B, H, W, C]` with an even W; `z` has an odd number of channels.

    Source: `Split` of normflows 1.7; Dinh et al. 2017, section 3.4, has no c in the sum.
    """

    def forward(self, x) -> tuple[jax.Array, jax.Array]:
        check_image_shape("x", x)
        b, h, w, c = x.shape
        require(w % 2 == 0, "x", w, "of an even width")
        left, right = jnp.moveaxis(promote(x).reshape(b, h, w // 2, 2, c), 3, 0)
        odd = _odd(h, c)
        z = jnp.concatenate([jnp.where(odd, left, right), jnp.where(odd, right, left)], axis=-1)
        return z, jnp.zeros(b, z.dtype)

    def inverse(self, z) -> tuple[jax.Array, jax.Array]:
        check_image_shape("z", z)
        b, h, w, c = z.shape
        require(c % 2 == 0, "z", c, "of an even number of channels")
        first, second = jnp.split(promote(z), 2, axis=-1)
        odd = _odd(h, c // 2)
        pairs = jnp.where(odd, first, second), jnp.where(odd, second, first)
        return jnp.stack(pairs, axis=3).reshape(b, h, 2 * w, c // 2), jnp.zeros(b, first.dtype)


def _odd(height, channels):
    """Where y + c is odd, `[H, 1, C]`."""
    return ((jnp.arange(height)[:, None] + jnp.arange(channels)) % 2 == 1)[:, None, :]


def checkerboard() -> Part:
    """A `Checkerboard`."""
    return Part(as_flow(Checkerboard()), {})


# ------------------------------------------------------------------------------------- Gaussians


class Whitening(nn.Module):
    """z = (x - mean)·exp(-log_std): N(mean, std²) becomes N(0, 1); log_det = -Σ log_std.

    Attributes:
        shape: of the parameters `mean` and `log_std`; it broadcasts to an event of x.
        num_classes: gives both an axis of classes in front, of which `context: [B]`, integer labels
            in 0 … num_classes - 1, takes one.

    Raises:
        ValueError: x is of another shape; labels are missing, of the wrong shape or dtype, or out
            of range. Of these the last cannot raise under `jit`: there such a label gives NaN.
    """

    shape: tuple[int, ...]
    num_classes: int | None = None

    @property
    def takes_context(self) -> bool:
        return self.num_classes is not None

    def forward(self, x, context=None) -> tuple[jax.Array, jax.Array]:
        return whiten(x, *self._gaussian("x", x, context))

    def inverse(self, z, context=None) -> tuple[jax.Array, jax.Array]:
        return unwhiten(z, *self._gaussian("z", z, context))

    @nn.compact
    def _gaussian(self, name, x, labels):
        sizes = zip(self.shape, x.shape[1:], strict=False)
        fits = len(self.shape) == x.ndim - 1 and all(n in (1, size) for n, size in sizes)
        require(fits, name, f"shape {x.shape}", f"of events to which {self.shape} broadcasts")
        dtype, classes = promote(x).dtype, (self.num_classes,) * self.takes_context
        shape = (*classes, *self.shape)
        both = [self.param(n, nn.initializers.zeros, shape, dtype) for n in ("mean", "log_std")]
        if self.num_classes is not None:
            check_labels(labels, self.num_classes, x.shape[0])
            one = one_hot(labels, self.num_classes, dtype)
            both = [jnp.tensordot(one, values, axes=1, precision=HIGHEST) for values in both]
        return [jnp.broadcast_to(values, x.shape) for values in both]


class WhiteningSplit(nn.Module):
    """`x: [B, ..., C] -> (latent, kept)`: a half of the channels leaves, whitened.

    Of an odd number of channels, the first half has one more than the second.

    Attributes:
        prior: whitens what leaves; None leaves it as it is.
        first: the first half leaves, and else the second.

    Raises:
        ValueError: `x` has less than 2 channels, or `z` is not a matching pair.

    Source: Dinh et al. 2017, section 3.6.
    """

    prior: Whitening | None = None
    first: bool = False
    gives_pair = True  # for `as_flow`: z is (latent, kept)

    @property
    def takes_context(self) -> bool:
        return self.prior is not None and self.prior.takes_context

    def forward(self, x, context=None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        x, half = promote(x), (x.shape[-1] + 1) // 2
        require(x.shape[-1] > 1, "x", f"shape {x.shape}", "of at least 2 channels to be split")
        halves = x[..., :half], x[..., half:]
        leaving, kept = halves if self.first else halves[::-1]
        if self.prior is None:
            return (leaving, kept), jnp.zeros(x.shape[0], x.dtype)
        latent, log_det = self.prior.forward(leaving, context)
        return (latent, kept), log_det

    def inverse(self, z, context=None) -> tuple[jax.Array, jax.Array]:
        latent, kept = map(promote, z)
        more = latent.shape[-1] - kept.shape[-1]
        fits = latent.shape[:-1] == kept.shape[:-1] and more in (0, 1 if self.first else -1)
        shapes = f"shapes {latent.shape} and {kept.shape}"
        require(fits, "z", shapes, "two halves (latent, kept)")
        log_det = jnp.zeros(kept.shape[0], kept.dtype)
        if self.prior is not None:
            latent, log_det = self.prior.inverse(latent, context)
        halves = [latent, kept] if self.first else [kept, latent]
        return jnp.concatenate(halves, axis=-1), log_det


class Gaussian(NamedTuple):
    """Normal distributions of the numbers of an event, or of a class of them each.

    Attributes:
        mean, log_std: of shapes that broadcast to an event, after an axis of classes if any.
    """

    mean: np.ndarray
    log_std: np.ndarray
    by_class: bool = False

    @property
    def standard(self) -> bool:
        """Whether it is N(0, I)."""
        return not (self.by_class or np.any(self.mean) or np.any(self.log_std))

    @property
    def module(self) -> Whitening:
        """What whitens it."""
        classes = len(self.mean) if self.by_class else None
        return Whitening(self.mean.shape[self.by_class :], classes)

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Of `module`."""
        return {"mean": self.mean, "log_std": self.log_std}


def whitening(gaussian: Gaussian) -> Part:
    """z = (x - mean)·exp(-log_std); of channels alone, an `ActNorm`."""
    if not gaussian.by_class and gaussian.mean.size == gaussian.mean.shape[-1]:
        mean, log_std = gaussian.mean.reshape(-1), gaussian.log_std.reshape(-1)
        return parts.normalization(-log_std, -mean * np.exp(-log_std))
    return Part(as_flow(gaussian.module), gaussian.params)


def whitening_split(gaussian: Gaussian, *, first: bool) -> Part:
    """The second half of the channels leaves, whitened; or the `first`."""
    if gaussian.standard:
        return Part(as_flow(WhiteningSplit(None, first)), {})
    split = WhiteningSplit(gaussian.module, first)
    return Part(as_flow(split), {"prior": gaussian.params})


def in_levels(levels: Sequence[Part], splits: Sequence[Part]) -> Part:
    """Levels from data to latents, and the splits after all but the last: a `multiscale` flow."""
    flow = multiscale([level.flow for level in levels], [split.flow for split in splits])
    params = {f"level{number}": level.params for number, level in enumerate(levels, 1)}
    params |= {f"split{number}": split.params for number, split in enumerate(splits, 1)}
    return Part(flow, params)
