"""A flow many times over, as one compiled loop."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from glowjax import reversible
from glowjax.arrays import promote, split_key
from glowjax.checks import check_choice, check_floats, check_positive
from glowjax.compose import invert
from glowjax.expression import recorded
from glowjax.flow import Flow, Init, checked, initialised

Backprop = Literal["store", "recompute", "invert"]


@recorded
def repeat(flow: Flow, n: int, *, backprop: Backprop = "store", unroll: int | bool = 1) -> Flow:
    """Applies `flow` `n` times, each time with its own parameters, as one `lax.scan`.

    Compile time does not grow with `n`; `params` is `flow`'s with a leading axis of `n` on every
    leaf. `flow` must keep the shape of its input.

    Args:
        flow: the step.
        n: how many steps.
        backprop: `"store"` keeps activations for the gradient; `"recompute"` keeps each step's
            input (`jax.checkpoint`); `"invert"` keeps the last output only and rebuilds the rest
            through the inverse, so that activation memory does not grow with `n`.
        unroll: steps per iteration of the compiled loop (`True`: all): faster, compiles longer.

    Raises:
        ValueError: `n` or `backprop` is not as above.

    Examples:
        >>> flow = glowjax.repeat(glowjax.as_flow(glowjax.Planar()), 5)
        >>> flow.init(jax.random.key(0), jnp.ones((4, 3)))["u"].shape
        (5, 3)
    """
    check_positive(n=n, **({} if unroll is True else {"unroll": unroll}))
    check_choice("backprop", backprop, ("store", "recompute", "invert"))
    step = flow = checked("flow", flow)
    if backprop == "recompute":
        step = flow._replace(
            forward=jax.checkpoint(flow.forward), inverse=jax.checkpoint(flow.inverse)
        )
    up = _loop(step, n=n, unroll=unroll, reverse=False)
    down = _loop(invert(step), n=n, unroll=unroll, reverse=True)
    forward, inverse = up.forward, down.forward
    if backprop == "invert":
        forward, inverse = reversible.rebuilding(up), reversible.rebuilding(down)

    def prepare(params):
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(params)} or {(n,)}
        if lengths != {(n,)}:
            raise ValueError(f"params must be stacked for n={n} steps, got leading axes {lengths}")
        # Since `vmap` under `jit` may refuse arrays of NumPy (jax 0.12).
        return jax.vmap(flow.prepare, axis_size=n)(jax.tree.map(jnp.asarray, params))

    def init(key, x, context=None):
        check_floats("x", x)
        return _init_loop(flow, n, key, x, context, reverse=False)

    def init_inverse(key, z, context=None):
        check_floats("z", z)
        return _init_loop(invert(flow), n, key, z, context, reverse=True)

    def backward(params, z, cotangents, context=None, key=None):
        prepared, pull = jax.vjp(prepare, params)
        x, (gradients, *others) = reversible.backward(up, prepared, z, cotangents, context, key)
        return x, (*pull(gradients), *others)

    def apply(side, function, params, array, context=None, key=None):
        check_floats(side, array)
        return function(prepare(params), array, context, key)

    return Flow(
        Init(init),
        functools.partial(apply, "x", forward),
        functools.partial(apply, "z", inverse),
        Init(init_inverse),
        backward,
        takes_context=flow.takes_context,
        fixed_units=flow.fixed_units,
    )


def _loop(flow: Flow, *, n: int, unroll: int | bool, reverse: bool) -> Flow:
    """`flow` scanned over prepared, stacked parameters, from the last to the first if `reverse`."""

    def xs(params, key):
        return params, None if key is None else split_key(key, n)

    def scan(apply, params, x, context, key, reverse):
        def body(x, step):
            p, k = step
            return apply(p, x, context, k)

        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves((params, x)))  # the loop keeps it
        x = jax.tree.map(lambda a: jnp.asarray(a, dtype), x)
        steps = xs(params, key)
        x, log_dets = jax.lax.scan(body, x, steps, length=n, reverse=reverse, unroll=unroll)
        return x, jnp.sum(log_dets, axis=0)

    def forward(params, x, context=None, key=None):
        return scan(flow.forward, params, x, context, key, reverse)

    def inverse(params, z, context=None, key=None):
        return scan(flow.inverse, params, z, context, key, not reverse)

    def backward(params, z, cotangents, context=None, key=None):
        g_z, g_log_det = cotangents

        def body(carry, step):
            z, g_z, g_context = carry
            p, k = step
            x, (g_p, g_x, g) = reversible.backward(flow, p, z, (g_z, g_log_det), context, k)
            g_context = [a + b for a, b in zip(g_context, reversible.float_leaves(g), strict=True)]
            return (x, g_x, g_context), g_p

        start = (z, g_z, [jnp.zeros_like(leaf) for leaf in reversible.float_leaves(context)])
        (x, g_x, g_context), g_params = jax.lax.scan(
            body, start, xs(params, key), length=n, reverse=not reverse, unroll=unroll
        )
        return x, (g_params, g_x, reversible.with_float_leaves(context, g_context))

    return Flow(flow.init, forward, inverse, None, backward, takes_context=flow.takes_context)


def _init_loop(flow: Flow, n: int, key, x, context, reverse: bool) -> tuple[Any, Any]:
    """Initialises step after step, each on what those before it make of the batch."""

    def body(x, k):
        params, x = initialised(flow, k, x, context)
        return x, params

    x = jax.tree.map(promote, x)
    x, params = jax.lax.scan(body, x, split_key(key, n), reverse=reverse)
    return params, x
