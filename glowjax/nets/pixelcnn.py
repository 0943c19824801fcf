"""PixelCNN: a causal convolutional net of images, each of whose outputs sees the numbers before."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import HIGHEST, promote
from glowjax.checks import check_context, check_integer, check_positive, require
from glowjax.nets.layers import ZeroDense
from glowjax.nets.made import MaskedDense, mask, spread


class PixelCNN(nn.Module):
    """Conditioner of images, `[B, H, W, C] -> [B, H, W, C, features]`, causal in raster order.

    The outputs of a number see the rows above, the pixels to the left, and the channels before it
    of its own pixel. Two stacks of gated layers, tanh(a)·σ(b), added up: a vertical one, k×k
    convolutions cropped to the rows at and above the pixel, and a horizontal one, 1×k convolutions
    cropped to the pixels at and left of it, which reads the vertical one from the row above. So
    there is no blind spot within reach: r = depth·(k // 2) pixels to the left, and above 1 + r rows
    and r pixels to either side. Channels are masked in the horizontal stack, as in `MADE`. The last
    layer is a masked zero layer.

    Attributes:
        features: outputs per number.
        width: hidden channels of each stack, at least C.
        depth: layers.
        kernel: k, odd and at least 3.

    A float `context` of `[B, F]`, such as one-hot labels, is appended to every pixel's channels.

    Raises:
        ValueError: an attribute is not as above; x or context are of another rank or batch.

    Sources: van den Oord et al. 2016, Pixel Recurrent Neural Networks, section 3.4 (channels), and
    Conditional Image Generation with PixelCNN Decoders, section 2 (gates and stacks).
    """

    features: int
    width: int = 64
    depth: int = 4
    kernel: int = 3

    @nn.nowrap
    def ordering(self, event_shape: tuple[int, ...]) -> np.ndarray:
        """`[H·W·C]`: the numbers of a flattened image, as they come."""
        wanted = "of shape [B, H, W, C], its events of (H, W, C)"
        require(len(event_shape) == 3, "x", event_shape, wanted)
        return np.arange(np.prod(event_shape))

    @nn.compact
    def __call__(self, x, context=None):
        self._check(x, context)
        x = promote(x)
        channels = x.shape[-1]
        hidden = spread(self.width, channels)  # degrees: how many channels of its pixel one knows
        v, degrees = x, np.arange(1, channels + 1)
        if context is not None:
            features = jnp.shape(context)[-1]
            everywhere = jnp.broadcast_to(context[:, None, None], (*x.shape[:3], features))
            v = jnp.concatenate([x, everywhere], axis=-1)
            degrees = np.append(degrees, np.zeros(features, int))
        h = v
        for layer in range(1, self.depth + 1):
            new_v = self._vertical(layer, v)
            new_v = new_v if layer == 1 else v + new_v
            new_h = self._horizontal(layer, h, new_v, degrees, hidden)
            v, h, degrees = new_v, new_h if layer == 1 else h + new_h, hidden
        outputs = np.repeat(np.arange(channels), self.features)
        h = ZeroDense(len(outputs), name="out")(h, mask(hidden, outputs))
        return h.reshape(*x.shape, self.features)

    def _vertical(self, layer, v):
        """What the pixels see of their own row and those above."""
        r = self.kernel // 2
        conv = nn.Conv(
            2 * self.width,
            (r + 1, self.kernel),
            padding=((r, 0), (r, r)),
            param_dtype=v.dtype,
            precision=HIGHEST,
            name=f"vertical{layer}",
        )
        return _gate(conv(v))

    def _horizontal(self, layer, h, v, degrees, hidden):
        """What they see of the rows above, the pixels to the left, and lower degrees of theirs."""
        earlier = [_shift(v, down=1)] + [_shift(h, right=i) for i in range(1, self.kernel // 2 + 1)]
        seen = jnp.concatenate([*earlier, h], axis=-1)
        degrees = np.append(np.zeros(seen.shape[-1] - len(degrees), int), degrees)
        dense = MaskedDense(name=f"horizontal{layer}")
        return _gate(dense(seen, mask(degrees, np.tile(hidden, 2))))

    def _check(self, x, context):
        check_positive(features=self.features, depth=self.depth)
        self.ordering(x.shape[1:])
        check_integer("width", self.width, x.shape[-1])
        check_integer("kernel", self.kernel, 3)
        require(self.kernel % 2, "kernel", self.kernel, "odd")
        check_context(context, x)


def _gate(x: jax.Array) -> jax.Array:
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.tanh(a) * nn.sigmoid(b)


def _shift(x: jax.Array, *, down: int = 0, right: int = 0) -> jax.Array:
    """`x: [B, H, W, C]` moved down and to the right, zeros in its place."""
    padded = jnp.pad(x, ((0, 0), (down, 0), (right, 0), (0, 0)))
    return padded[:, : x.shape[1], : x.shape[2]]
