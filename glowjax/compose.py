"""What makes flows of flows: in order, inverted, in levels, and with what context."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glowjax import reversible
from glowjax.arrays import split_key
from glowjax.checks import check_floats, check_positive, described, require
from glowjax.expression import recorded
from glowjax.flow import Flow, Init, checked, initialised


@recorded
def with_context(flow: Flow, embed: Callable[[Any], Any] | None) -> Flow:
    """`flow` that sees `embed(context)` in place of the context, or, if that is None, nothing.

        with_context(realnvp_mlp(), lambda labels: jax.nn.one_hot(labels, 10))
        with_context(as_flow(Planar()), None)  # takes any context, and does not depend on it

    Args:
        embed: a pure function of a context, row by row.

    Raises:
        ValueError: there is an `embed`, and the flow takes no context, or none is given.
    """
    flow = checked("flow", flow)
    if embed is not None:
        require(flow.takes_context, "embed", embed, "None for a flow that takes no context")

    def seen(array, context):
        if embed is None:
            return None
        n = jnp.shape(jax.tree.leaves(array)[0])[0]
        rows = [jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(context)]
        if set(rows) != {(n,)}:
            wanted = f"given, with one row for each of {n} examples"
            raise ValueError(f"context must be {wanted}, got {described(context)}")
        return embed(context)

    def init(flow, key, array, context=None):
        return initialised(flow, key, array, seen(array, context))

    def apply(function, params, array, context=None, key=None):
        return function(params, array, seen(array, context), key)

    def backward(params, z, cotangents, context=None, key=None):
        embedded, pull = jax.vjp(functools.partial(seen, z), context)
        x, (*gradients, g) = reversible.backward(flow, params, z, cotangents, embedded, key)
        return x, (*gradients, *pull(g))

    return Flow(
        init=Init(functools.partial(init, flow)),
        forward=functools.partial(apply, flow.forward),
        inverse=functools.partial(apply, flow.inverse),
        init_inverse=flow.init_inverse and Init(functools.partial(init, invert(flow))),
        backward=backward,
        prepare=flow.prepare,
        fixed_units=flow.fixed_units,
        spaces=flow.spaces,
    )


def passing_by(flow: Flow) -> Flow:
    """`flow` where contexts go to others: one that takes none is made to pass them by."""
    return flow if flow.takes_context else with_context(flow, None)


@recorded
def invert(flow: Flow) -> Flow:
    """The same bijection with data and latent sides swapped.

    Raises:
        ValueError: at `init`, if `flow` has no `init_inverse`.

    Examples:
        >>> squeeze = glowjax.as_flow(glowjax.Squeeze())
        >>> x, log_det = glowjax.invert(squeeze).forward({}, jnp.ones((1, 2, 2, 12)))
        >>> x.shape
        (1, 4, 4, 3)
    """
    flow = checked("flow", flow)

    def no_init(*_, **__):
        raise ValueError("flow has no init_inverse, so its inversion cannot be initialised")

    return Flow(
        init=flow.init_inverse or no_init,
        forward=flow.inverse,
        inverse=flow.forward,
        init_inverse=flow.init,
        prepare=flow.prepare,
        takes_context=flow.takes_context,
        fixed_units=flow.fixed_units,
    )


@recorded
def chain(*flows: Flow, **named: Flow) -> Flow:
    """Applies flows one after the other, z = b(a(x)) of `chain(a, b)`; log-dets add up.

        chain(a, b)               # params: (those of a, those of b)
        chain(norm=a, coupling=b) # params: {"norm": those of a, "coupling": those of b}

    A context goes to those that take one.

    Raises:
        ValueError: there are no flows, one is no flow, some have names and some have none, or
            `params` are not one for each.

    Examples:
        >>> flow = glowjax.chain(
        ...     norm=glowjax.as_flow(glowjax.ActNorm()), planar=glowjax.as_flow(glowjax.Planar())
        ... )
        >>> sorted(flow.init(jax.random.key(0), jnp.ones((4, 3))))
        ['norm', 'planar']
    """
    parts, flows = _members(flows, named)

    def steps(params, key):
        return list(zip(flows, parts.unpack(params), _keys(key, len(flows)), strict=True))

    def init(key, x, context=None):
        params, z = _init_in_order(flows, key, x, context)
        return parts.pack(params), z

    def init_inverse(key, z, context=None):
        backwards = [invert(flow) for flow in flows[::-1]]
        params, x = _init_in_order(backwards, key, z, context)
        return parts.pack(params[::-1]), x

    def forward(params, x, context=None, key=None):
        log_dets = []
        for flow, p, k in steps(params, key):
            x, log_det = flow.forward(p, x, context, k)
            log_dets.append(log_det)
        return x, sum(log_dets)

    def inverse(params, z, context=None, key=None):
        log_dets = []
        for flow, p, k in steps(params, key)[::-1]:
            z, log_det = flow.inverse(p, z, context, k)
            log_dets.append(log_det)
        return z, sum(log_dets)

    def backward(params, z, cotangents, context=None, key=None):
        g_z, g_log_det = cotangents
        g_params, g_contexts = [], []
        for flow, p, k in steps(params, key)[::-1]:
            z, (g_p, g_z, g_context) = reversible.backward(flow, p, z, (g_z, g_log_det), context, k)
            g_params.append(g_p)
            g_contexts.append(g_context)
        g_context = functools.reduce(reversible.add_gradients, g_contexts)
        return z, (parts.pack(g_params[::-1]), g_z, g_context)

    def prepare(params):
        return parts.pack(flow.prepare(p) for flow, p, _ in steps(params, None))

    return Flow(
        Init(init),
        forward,
        inverse,
        Init(init_inverse),
        backward,
        prepare,
        takes_context=any(flow.takes_context for flow in flows),
        fixed_units=any(flow.fixed_units for flow in flows),
        spaces=flows[-1].spaces,
    )


def _members(flows: tuple, named: dict[str, Any]) -> tuple["Parts", tuple[Flow, ...]]:
    """The flows of a chain, checked; where one takes a context, the others pass it by."""
    if bool(flows) == bool(named):
        given = f"{len(flows)} without and {len(named)} with a name" if flows else "none"
        raise ValueError(f"flows must all have names or none, and be one at least, got {given}")
    if flows and not isinstance(flows[0], Flow) and isinstance(flows[0], tuple | list):
        raise ValueError(f"flows must come one by one, chain(*flows), got {described(flows[0])}")
    parts = Parts(tuple(named), len(flows))
    names = parts.names or [f"flows[{i}]" for i in range(len(flows))]
    flows = tuple(map(checked, names, flows or named.values()))
    if any(flow.takes_context for flow in flows):
        flows = tuple(map(passing_by, flows))
    return parts, flows


class Parts(NamedTuple):
    """How flows of several keep the parameters of theirs: by name in a dict, or else in a tuple."""

    names: tuple[str, ...]
    count: int  # of flows without a name

    def pack(self, parts) -> Any:
        return dict(zip(self.names, parts, strict=True)) if self.names else tuple(parts)

    def unpack(self, params) -> list:
        if self.names:
            fits, kind = isinstance(params, Mapping) and set(params) == set(self.names), "a dict"
            given = list(params) if isinstance(params, Mapping) else type(params).__name__
        else:
            fits, kind = isinstance(params, tuple | list) and len(params) == self.count, "a tuple"
            given = len(params) if isinstance(params, tuple | list) else type(params).__name__
        if not fits:
            wanted = f"{kind} of {', '.join(self.names) or self.count}, one a flow"
            raise ValueError(f"params must be {wanted}, got {given}")
        return [params[name] for name in self.names] if self.names else list(params)


def _init_in_order(flows, key, x, context) -> tuple[list, Any]:
    """Initialises each flow on what those before it make of `x`: their params, and the last's z."""
    params = []
    for flow, k in zip(flows, split_key(key, len(flows)), strict=True):
        p, x = initialised(flow, k, x, context)
        params.append(p)
    return params, x


def _keys(key, n: int):
    return [None] * n if key is None else list(split_key(key, n))


@recorded
def multiscale(levels: Sequence[Flow], splits: Sequence[Flow]) -> Flow:
    """Flows level by level; after all but the last, a split sends part of the array out as latent.

    Each of `splits` maps `h -> (latent, kept)`, and the next level goes on with what is kept. `z`
    is the tuple of one latent per level, the top one last; `params` is a dict of `level1`,
    `split1`, `level2`, ... Source: Dinh et al. 2017, section 3.6.

    Raises:
        ValueError: there is not one split less than levels, or `z` has not one latent per level.

    Examples:
        >>> squeeze, split = glowjax.as_flow(glowjax.Squeeze()), glowjax.as_flow(glowjax.Split())
        >>> flow = glowjax.multiscale([squeeze, squeeze], [split])
        >>> x = jnp.ones((2, 8, 8, 3))
        >>> z, log_det = flow.forward(flow.init(jax.random.key(0), x), x)
        >>> [latent.shape for latent in z]
        [(2, 4, 4, 6), (2, 2, 2, 24)]
    """
    if not levels or len(splits) != len(levels) - 1:
        raise ValueError(
            f"splits must hold one flow less than levels, got {len(splits)} for {len(levels)}"
        )
    levels = [checked(f"levels[{i}]", level) for i, level in enumerate(levels)]
    splits = [checked(f"splits[{i}]", split) for i, split in enumerate(splits)]
    stages = {"level1": on_last(levels[0])}
    for number, (split, level) in enumerate(zip(splits, levels[1:], strict=True), 1):
        stages |= {
            f"split{number}": on_last(split, outputs=2),
            f"level{number + 1}": on_last(level),
        }
    flow = chain(**stages)

    def init(key, x, context=None):
        return initialised(flow, key, (x,), context)

    def init_inverse(key, z, context=None):
        params, (x,) = initialised(invert(flow), key, z, context)
        return params, x

    def forward(params, x, context=None, key=None):
        return flow.forward(params, (x,), context, key)

    def inverse(params, z, context=None, key=None):
        if not isinstance(z, tuple | list) or len(z) != len(levels):
            shapes = jax.tree.map(jnp.shape, z)
            raise ValueError(f"z must be a tuple of {len(levels)} latents, got shape {shapes}")
        (x,), log_det = flow.inverse(params, tuple(z), context, key)
        return x, log_det

    return Flow(
        Init(init),
        forward,
        inverse,
        Init(init_inverse),
        takes_context=flow.takes_context,
        fixed_units=flow.fixed_units,
    )


@recorded
def on_last(flow: Flow, *, outputs: int = 1) -> Flow:
    """Applies `flow` to the last array of a tuple: the part of a multiscale flow still on its way.

    Args:
        flow: from one array to `outputs` arrays (a tuple if more than one).
        outputs: how many arrays take the last one's place.

    Raises:
        ValueError: an argument is not as above; what the flow is called with is no tuple, has too
            few arrays, or arrays of several batches.
    """
    check_positive(outputs=outputs)
    flow = checked("flow", flow)

    def parted(name, arrays, n):
        if not isinstance(arrays, tuple | list) or len(arrays) < n:
            shapes = jax.tree.map(jnp.shape, arrays)
            raise ValueError(f"{name} must be a tuple of {n} or more arrays, got shape {shapes}")
        check_floats(name, tuple(arrays))
        if len({jnp.shape(array)[:1] for array in arrays}) > 1:
            shapes = [jnp.shape(array) for array in arrays]
            raise ValueError(f"{name} must be arrays of one batch, got shapes {shapes}")
        last = tuple(arrays[-n:])
        return tuple(arrays[:-n]), last[0] if n == 1 else last

    def joined(rest, out, n):
        return rest + ((out,) if n == 1 else tuple(out))

    def init(name, flow, n_in, n_out, key, arrays, context=None):
        rest, last = parted(name, arrays, n_in)
        params, out = initialised(flow, key, last, context)
        return params, joined(rest, out, n_out)

    def apply(name, f, n_in, n_out, params, arrays, *args, **kwargs):
        rest, last = parted(name, arrays, n_in)
        out, log_det = f(params, last, *args, **kwargs)
        return joined(rest, out, n_out), log_det

    return Flow(
        init=Init(functools.partial(init, "x", flow, 1, outputs)),
        forward=functools.partial(apply, "x", flow.forward, 1, outputs),
        inverse=functools.partial(apply, "z", flow.inverse, outputs, 1),
        init_inverse=Init(functools.partial(init, "z", invert(flow), outputs, 1)),
        prepare=flow.prepare,
        takes_context=flow.takes_context,
        fixed_units=flow.fixed_units,
    )
