"""Tables: one surjection a column, or one for several columns side by side."""

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote, split_key
from glowjax.checks import check_array, check_integer, described, require
from glowjax.densities.surjection import Surjection
from glowjax.expression import recorded

Part = Surjection | tuple[Surjection | None, int] | None


class _Columns(NamedTuple):
    """Columns of v side by side, the surjection to them, and how many columns of w it takes."""

    surjection: Surjection | None
    width: int
    taken: int


@recorded
def columnwise(*parts: Part) -> Surjection:
    """v_k = project_k(w_k) for each column k of v `[B, D]`; a column with None is as it is.

        ln q(w|v) = Σ_k ln q_k(w_k|v_k)

        columnwise(None, argmax(3), rounding(10))  # a number, a category and a count
        columnwise((None, 2), (rounding(10), 4))   # two numbers and four counts

    It is for tables of numbers, categories and counts, with `generative_surjection`. v holds them
    all as floats. The columns of w are as many as the parts take, side by side: K for `argmax(K)`.
    Params are a tuple of those of the parts.

    Args:
        parts: for each column of v its surjection, or None; for n columns side by side a pair of
            one of these and n.

    Raises:
        ValueError: there are no parts, or one is not as above; w or v has another number of
            columns, or what a part refuses.

    Examples:
        >>> table = glowjax.surjections.columnwise(None, glowjax.surjections.argmax(3))
        >>> table.project(jnp.array([[0.5, -1.0, 2.0, 0.0]])).tolist()
        [[0.5, 1.0]]
    """
    require(parts, "parts", parts, "a surjection, or None, for each column, at least one")
    every = [_columns(f"parts[{i}]", part) for i, part in enumerate(parts)]

    def cut(name, array, widths):
        check_array(name, array)
        wanted = f"of shape [B, {sum(widths)}]"
        require(jnp.shape(array)[1:] == (sum(widths),), name, jnp.shape(array), wanted)
        return jnp.split(promote(array), np.cumsum(widths)[:-1], axis=1)

    def of_w(w):
        return list(zip(every, cut("w", w, [part.taken for part in every]), strict=True))

    def of_v(v):
        widths = [part.width for part in every]
        first = np.cumsum([0, *widths[:-1]])
        return list(zip(every, cut("v", v, widths), map(_named_column, first), strict=True))

    def init(key, w):
        keys = split_key(key, len(every))
        return tuple(
            {} if part.surjection is None else part.surjection.init(k, piece)
            for k, (part, piece) in zip(keys, of_w(w), strict=True)
        )

    def init_from_projected(key, v):
        keys = split_key(key, len(every))
        made = []
        for k, (part, piece, named) in zip(keys, of_v(v), strict=True):
            with named:
                one = part.surjection
                made.append({} if one is None else one.init_from_projected(k, piece))
        return tuple(made)

    def project(w):
        made = [
            piece if part.surjection is None else part.surjection.project(piece)
            for part, piece in of_w(w)
        ]
        return jnp.concatenate(made, axis=1)

    def draw(params, key, v):
        drawn, log_q = [], jnp.zeros(jnp.shape(v)[:1], promote(v).dtype)
        keys = split_key(key, len(every))
        for p, k, (part, piece, named) in zip(params, keys, of_v(v), strict=True):
            if part.surjection is not None:
                with named:
                    piece, more = part.surjection.draw(p, k, piece)
                log_q = log_q + more
            drawn.append(piece)
        return jnp.concatenate(drawn, axis=1), log_q

    def log_prob(params, w):
        log_q = jnp.zeros(jnp.shape(w)[:1], promote(w).dtype)
        for p, (part, piece) in zip(params, of_w(w), strict=True):
            if part.surjection is not None:
                log_q = log_q + part.surjection.log_prob(p, piece)
        return log_q

    pathwise = all(part.surjection is None or part.surjection.pathwise for part in every)
    return Surjection(init, init_from_projected, project, draw, log_prob, pathwise)


@contextlib.contextmanager
def _named_column(first: int):
    """Errors say in which column of v they are, the first of a part."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"column {first}: {error}") from error


def _columns(name: str, part: Part) -> _Columns:
    pair = isinstance(part, tuple) and not isinstance(part, Surjection)
    surjection, width = part if pair and len(part) == 2 else (part, 1)
    ok = surjection is None or isinstance(surjection, Surjection)
    require(ok, name, described(part), "a surjection, None, or a pair of one and how many columns")
    check_integer(f"number of columns of {name}", width, 1)
    if surjection is None:
        return _Columns(None, width, width)

    def drawn(key, v):
        return surjection.draw(surjection.init_from_projected(key, v), key, v)[0]

    v = jax.ShapeDtypeStruct((2, width), jnp.float32)
    return _Columns(surjection, width, jax.eval_shape(drawn, jax.random.key(0), v).shape[1])
