"""A transformer that reads an image token after token: TarFlow's conditioner. No flow logic."""

import math
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from glowjax.arrays import promote, vary_as
from glowjax.checks import NON_NEGATIVE, check_choice, check_in, check_positive, require
from glowjax.nets.in_turn import Number
from glowjax.nets.layers import Initializer, small_uniform
from glowjax.nets.transformer import Transformer


class CausalViT(Transformer):
    """A transformer of images `[B, H, W, C] -> [B, H, W, C, features]`, causal in its tokens.

    A token is a position with its C numbers. With t_1 … t_T the tokens in raster order, or in the
    reversed one, and t_0 = 0,

        h_k = dense(t_{k-1}) + position_k
        `blocks` times
            h ← h + dense(attention(dense(LayerNorm(h)))), in which k sees 1 … k
            h ← h + dense(GELU(dense(LayerNorm(h))))
        result_k = dense(h_k).

    So the outputs of a number depend on the tokens before its own, and on nothing else.

    Attributes:
        features: outputs per number.
        width, blocks, heads, dtype: as for `ViT`.
        order: of the tokens, `"natural"` or `"reversed"`.
        segment: S, how many tokens `in_turn` finds at the same time: a divisor of H·W, or None for
            all.
        tolerance: by how much, at least 0, a number may still change when its iterations end.
        guidance: w below, of all tokens; or a pair, of the first and the last token, and between
            them along a line. The parameters are the same for every w.

    `in_turn` keeps the keys and values of the tokens that it knows. With S = 1 all its steps cost
    about one evaluation of the net. A longer segment starts as zeros, and all its tokens are
    computed again and again, until no number changes by more than the tolerance: Gauss-Seidel
    iterations over the segments, and Jacobi iterations in each. The n-th makes a segment's first n
    tokens exact, so that there are S at most, and with a tolerance of 0 the inverse is exact. Else
    what is bounded is the last change, and not the error.

    With guidance a token's result moves away from what it would be without a context:

        result_k = result_k(context) + w_k·(result_k(context) - result_k(0)).

    It still depends on the tokens before k alone, so that a flow with guidance is exact. It costs a
    batch twice as large, and makes sense for a net that has seen zeros as its context in training,
    by `drop_context`. With w = -1 no context is seen at all.

    `context` and errors are as for `ViT`, and for a segment that is no divisor, a guidance that is
    not as above, and a guidance without a context.

    Sources: Zhai et al. 2024 (TarFlow); Song et al. 2021 (Jacobi and Gauss-Seidel iterations for
    such inverses), and Liu & Qin 2025 (both for TarFlow); Ho & Salimans 2022 (guidance by what a
    net says with and without its context).

    Examples:
        >>> net, x = glowjax.CausalViT(features=2, width=8), jnp.ones((2, 4, 4, 3))
        >>> net.init_with_output(jax.random.key(0), x)[0].shape
        (2, 4, 4, 3, 2)
    """

    weights: ClassVar[Initializer] = staticmethod(small_uniform)
    last_norm: ClassVar[bool] = False
    order: Literal["natural", "reversed"] = "natural"
    segment: int | None = 1
    tolerance: float = 0.0
    guidance: float | tuple[float, float] = 0.0

    @nn.nowrap
    def ordering(self, event_shape: tuple[int, ...]) -> np.ndarray:
        """`[H·W·C]`, indices of a flattened image, token after token."""
        wanted = "of shape [B, H, W, C], its events of (H, W, C)"
        require(len(event_shape) == 3, "x", event_shape, wanted)
        indices = np.arange(np.prod(event_shape)).reshape(1, -1, event_shape[-1])
        return self._ordered(indices).ravel()

    def __call__(self, x, context=None):
        self._check(x, context)
        batch, height, width, channels = x.shape
        tokens = self._ordered(jnp.reshape(x, (batch, height * width, channels)))
        before = jnp.pad(tokens, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        features = channels * self.features
        out, _ = self.guided(before, (height, width), features, context, place=0)
        return self._ordered(out).reshape(*x.shape, self.features)

    def guided(
        self, tokens, size, features, context, place: jax.Array | int, past=None
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        """`of_tokens`, guided; where there is guidance the batch of `past` is twice as large."""
        if not self._guides:
            return self.of_tokens(tokens, size, features, context, place, past)
        tokens = jnp.concatenate([tokens, tokens])
        context = jnp.concatenate([context, jnp.zeros_like(context)])
        out, past = self.of_tokens(tokens, size, features, context, place, past)
        seen, unseen = jnp.split(out, 2)
        first, last = np.broadcast_to(self.guidance, 2)
        weights = jnp.linspace(first, last, math.prod(size), dtype=out.dtype)
        weights = lax.dynamic_slice_in_dim(weights, place, out.shape[1])
        return seen + weights[:, None] * (seen - unseen), past

    @nn.nowrap
    def _check(self, x, context):
        super()._check(x, context)
        check_choice("order", self.order, ("natural", "reversed"))
        check_in(NON_NEGATIVE, tolerance=self.tolerance)
        if self.segment is not None:
            check_positive(segment=self.segment)
            tokens = x.shape[1] * x.shape[2]
            require(tokens % self.segment == 0, "segment", self.segment, f"a divisor of {tokens}")
        weights = np.asarray(self.guidance)
        fits = weights.shape in ((), (2,)) and weights.dtype.kind in "fi"
        finite = fits and np.all(np.isfinite(weights))
        require(finite, "guidance", self.guidance, "a finite number or a pair of them")
        given = context is not None or not self._guides
        require(given, "context", context, f"given for guidance={self.guidance}")

    @nn.nowrap
    def in_turn(self, params: Any, number: Number, zeros: jax.Array, context=None) -> jax.Array:
        """x `[B, H, W, C]` of x_i = number(net(x)_i, i), segment after segment.

        Args:
            params: of the net.
            number: from outputs `[B, features]` and i, of the flattened image, to `[B]`.
            zeros: `[B, H, W, C]`, in the dtype of x.
            context: as for the net.
        """
        batch, height, width, channels = zeros.shape
        segment = self.segment or height * width
        places = np.arange(0, height * width, segment)
        indices = self.ordering(zeros.shape[1:]).reshape(len(places), -1)
        every = jax.vmap(number, in_axes=(1, 0), out_axes=1)

        def solve(known, where):
            last, past = known
            place, index = where

            def again(state):
                x, past, _, n = state
                raw, past = self.apply(
                    {"params": params},
                    jnp.concatenate([last, x[:, :-1]], axis=1),
                    (height, width),
                    channels * self.features,
                    context,
                    place,
                    past,
                    method="guided",
                )
                new = every(raw.reshape(batch, -1, self.features), index).reshape(x.shape)
                return new, past, jnp.max(jnp.abs(new - x)), n + 1

            def changes(state):
                *_, change, n = state
                # A change that is NaN is none of the other examples' business: they go on.
                return ~(change <= self.tolerance) & (n < segment)

            x = vary_as(jnp.zeros((batch, segment, channels), zeros.dtype), zeros)
            start = x, past, vary_as(jnp.full((), jnp.inf, zeros.dtype), zeros), 0
            x, past, *_ = lax.while_loop(changes, again, start)
            return (x[:, -1:], past), x

        rows = 2 * batch if self._guides else batch
        kept = (self.blocks, rows, height * width, self.heads, self.width // self.heads)
        kept = jnp.zeros(kept, self.dtype or promote(zeros).dtype)
        start = zeros[:, :1, 0], vary_as((kept, kept), zeros)
        _, tokens = lax.scan(solve, start, (places, indices))
        tokens = jnp.moveaxis(tokens, 0, 1).reshape(batch, height * width, channels)
        return self._ordered(tokens).reshape(zeros.shape)

    @property
    def _guides(self) -> bool:
        return bool(np.any(self.guidance))

    @nn.nowrap
    def _ordered(self, tokens):
        return tokens if self.order == "natural" else tokens[:, ::-1]
