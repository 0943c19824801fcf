"""Tables: one bijection a column, or one for several columns side by side."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, split_key
from glowjax.checks import check_array, check_floats, check_integer, described, require
from glowjax.compose import Parts, passing_by
from glowjax.expression import recorded
from glowjax.flow import Flow, as_flow, checked

Part = Flow | tuple[Flow | None, int] | None


class _Columns(NamedTuple):
    """Columns side by side, and the flow of all of them at once."""

    name: str
    flow: Flow
    width: int


class Unchanged(nn.Module):
    """The identity."""

    def forward(self, x) -> tuple[jax.Array, jax.Array]:
        return promote(x), jnp.zeros(x.shape[:1], promote(x).dtype)

    inverse = forward


@recorded
def columns(*parts: Part | Mapping[str, Part]) -> Flow:
    """z_k = f_k(x_k) for each column k of `[B, D]`, with a flow f_k each; log-dets add up.

        columns(exp(), sigmoid(0, 1), None)      # of three columns, the last as it is
        columns(exp(), (stick_breaking(), 3))    # of four, the last three by one flow
        columns({"income": exp(), "soil": (stick_breaking(), 3), "height": None})

    The columns of a part are those that follow the ones of the parts before it. Names say what they
    are, in errors and as keys of params, which else are a tuple: they do not put a table in order,
    so give it as `table[["income", "sand", "silt", "clay", "height"]]`. Flows may be learned ones.
    One that makes fewer numbers, as `stick_breaking` does, makes z `[B, D']` with D' < D.

    Args:
        parts: for each column its flow, of `[B, 1]`, or None; for n columns side by side a pair of
            a flow of `[B, n]`, or None, and n. Or one dict of such parts.

    A context goes to the flows that take one.

    Raises:
        ValueError: there are no parts, or one is not as above; x or z has another number of
            columns; a flow makes other than one array `[B, n']`.
    """
    every = _columns(parts)
    takes = any(part.flow.takes_context for part in every)
    if takes:
        every = [part._replace(flow=passing_by(part.flow)) for part in every]
    names = tuple(part.name for part in every) if isinstance(parts[0], Mapping) else ()
    table = _Table(every, Parts(names, len(every)))
    units = any(part.flow.fixed_units for part in every)
    return Flow(
        table.init,
        table.forward,
        table.inverse,
        table.init_inverse,
        prepare=table.prepare,
        takes_context=takes,
        fixed_units=units,
    )


class _Table(NamedTuple):
    """The functions of a flow of columns."""

    every: list[_Columns]
    parts: Parts

    def init(self, key, x, context=None):
        _check_matrix("x", x)
        widths = [part.width for part in self.every]
        return self._initialised("init", "x", widths, key, x, context)

    def init_inverse(self, key, z, context=None):
        _check_matrix("z", z)
        widths = [_latent_width(part, None, z, context) for part in self.every]
        return self._initialised("init_inverse", "z", widths, key, z, context)

    def forward(self, params, x, context=None, key=None):
        _check_matrix("x", x)
        widths = [part.width for part in self.every]
        return self._applied("forward", "x", widths, params, x, context, key)

    def inverse(self, params, z, context=None, key=None):
        _check_matrix("z", z)
        parts = zip(self.every, self.parts.unpack(params), strict=True)
        widths = [_latent_width(part, p, z, context) for part, p in parts]
        return self._applied("inverse", "z", widths, params, z, context, key)

    def prepare(self, params):
        parts = zip(self.every, self.parts.unpack(params), strict=True)
        return self.parts.pack(part.flow.prepare(p) for part, p in parts)

    def _initialised(self, function, side, widths, key, array, context):
        made = []
        pieces = self._cut(side, array, widths)
        keys = split_key(key, len(self.every))
        for part, piece, k in zip(self.every, pieces, keys, strict=True):
            init = getattr(part.flow, function)
            require(init, part.name, part.flow, f"a flow with {function}")
            made.append(init(k, piece, context))
        return self.parts.pack(made)

    def _applied(self, function, side, widths, params, array, context, key):
        outputs, log_dets = [], []
        pieces = self._cut(side, array, widths)
        keys = [None] * len(self.every) if key is None else split_key(key, len(self.every))
        every = zip(self.every, self.parts.unpack(params), pieces, keys, strict=True)
        for part, p, piece, k in every:
            output, log_det = getattr(part.flow, function)(p, piece, context, k)
            fits = jax.tree.structure(output) == jax.tree.structure(0) and output.ndim == 2
            require(fits, part.name, described(output), "a flow to one array [B, n']")
            outputs.append(output)
            log_dets.append(log_det)
        return jnp.concatenate(outputs, axis=1), sum(log_dets)

    def _cut(self, side, array, widths):
        """The columns of each part."""
        wanted = f"of shape [B, {sum(widths)}], as {_told(self.every, widths)}"
        require(jnp.shape(array)[1:] == (sum(widths),), side, f"shape {jnp.shape(array)}", wanted)
        return jnp.split(promote(array), np.cumsum(widths)[:-1], axis=1)


def _columns(parts) -> list[_Columns]:
    """The parts as they are given, or in a dict, checked."""
    named = parts[0] if len(parts) == 1 and isinstance(parts[0], Mapping) else None
    names = list(named) if named is not None else [f"parts[{i}]" for i in range(len(parts))]
    require(names, "parts", parts, "one flow, or None, for each column, at least one")
    every = []
    for name, part in zip(names, named.values() if named is not None else parts, strict=True):
        pair = isinstance(part, tuple) and not isinstance(part, Flow)
        fits = not pair or len(part) == 2
        require(fits, name, part, "a flow, None, or a pair of one of these and how many columns")
        flow, width = part if pair else (part, 1)
        check_integer(f"number of columns of {name}", width, 1)
        flow = as_flow(Unchanged()) if flow is None else flow
        every.append(_Columns(name, checked(name, flow), int(width)))
    return every


def _check_matrix(name: str, array: Any) -> None:
    check_array(name, array)
    check_floats(name, array)


def _latent_width(part: _Columns, params: Any, z: Any, context: Any) -> int:
    """How many columns of z a part makes; without params, of those that it would have."""
    flow, key = part.flow, jax.random.key(0)  # for log-determinants that are estimated
    x = jax.ShapeDtypeStruct((jnp.shape(z)[0], part.width), promote(jnp.zeros(0, z.dtype)).dtype)
    if params is None:
        params = jax.eval_shape(flow.init, key, x, context)
    return jax.eval_shape(flow.forward, params, x, context, key)[0].shape[-1]


def _told(every, widths) -> str:
    return ", ".join(
        part.name if width == 1 else f"{part.name} ({width})"
        for part, width in zip(every, widths, strict=True)
    )
