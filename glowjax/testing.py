"""What must hold for every flow, as one function: proves a flow of one's own."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from glowjax.bijections.actnorm import trainable
from glowjax.flow import Flow

STEP = 1e-6  # of finite differences: few ReLUs switch within it, and rounding stays below 1e-4

CLAIMS = (
    "inverse(forward(x)) must be x",
    "forward's log_det must be log|det ∂z/∂x|",
    "inverse's log_det must be minus forward's",
    "an example must not depend on the others of its batch",
    "forward(inverse(z)) must be z, here of a z between two latents",
    "inverse's log_det must be minus forward's, here at a z between two latents",
)


def check_flow(
    flow: Flow,
    x: Any,
    context: Any = None,
    *,
    params: Any = None,
    free: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = None,
    key: Any = None,
    noise: float = 0.1,
    unjitted: bool = True,
    tolerance: float = 1e-9,
    tolerance_float32: float = 2e-5,
) -> None:
    """Proves that a flow is an invertible map with its log-determinant, or says what is wrong.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from glowjax import Flow, as_flow, ActNorm
        >>> from glowjax.testing import check_flow
        >>> x = jax.random.normal(jax.random.key(0), (4, 3))
        >>> check_flow(as_flow(ActNorm()), x)

        >>> def init(key, x, context=None):
        ...     return {"log_scale": jnp.zeros(3)}
        >>> def forward(params, x, context=None, key=None):
        ...     return x * jnp.exp(params["log_scale"]), jnp.full(len(x), params["log_scale"][0])
        >>> def inverse(params, z, context=None, key=None):
        ...     return z * jnp.exp(-params["log_scale"]), jnp.full(len(z), -params["log_scale"][0])
        >>> check_flow(Flow(init, forward, inverse), x)
        Traceback (most recent call last):
        AssertionError: forward's log_det must be log|det ∂z/∂x|: ...

    In float64

        inverse(forward(x)) = x, and forward(inverse(z)) = z, also at z between those of x
        log_det is one number an example: log|det ∂z/∂x|, and of inverse the same with minus
        an example does not depend on the others of its batch
        gradients are finite, those of finite differences, and none is 0 throughout
        jit, vmap over params and x, and neither, give the same

    and in float32 the round trip and the sign again. Parameters are moved first: where they start,
    many layers are the identity, which hides errors. It takes as many passes as an event has
    numbers, so that small events and nets are best; 3 to 8 examples will do.

    Args:
        flow: with an exact log-determinant.
        x: `[B, ...]`, examples where the flow is defined, or a tuple of such arrays.
        context: of each example, if the flow takes one.
        params: to check at, as they are; default: those of `flow.init` on x, moved by noise.
        free: where z has fewer numbers than x, since some of these follow from the others, as the
            last of parts that add up to 1: the function that takes the free numbers from x, and the
            one that makes x of them. Log-determinants are with respect to the free numbers.
        key: of initialisation and noise; default: `jax.random.key(0)`.
        noise: standard deviation of that. Less for deep flows, where it multiplies up.
        unjitted: computes log_det without jit too, which takes up to a third of the time.
        tolerance: in float64, relative above 1 and absolute below.
        tolerance_float32: the same, in float32; half of it a number of x for log-determinants.

    Raises:
        AssertionError: names what does not hold, the largest deviation, and where.
    """
    key = jax.random.key(0) if key is None else key
    if free is not None:
        take, make = free
        agree("the second of free must make x of what the first takes", make(take(x)), x, 1e-6)
        flow, x = _of_free_numbers(flow, take, make), take(x)
    with jax.enable_x64(True):
        args = cast((params, x, context), np.float64)
        measured = _in_float64(flow, *args, key, noise, tolerance)
        params = measured.params
        if unjitted:
            log_det = flow.log_det(params, *args[1:])
            agree("log_det must be the same without jit", log_det, measured.log_det, tolerance)
    with jax.enable_x64(False):
        _in_float32(flow, *cast((params, x, context), np.float32), tolerance_float32)


def moved(params: Any, noise: float, seed: Any = 0) -> Any:
    """`params` with normal noise on every number.

    NumPy draws it: XLA would compile such draws for seconds, once for each program that reads them.
    """
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + noise * rng.normal(size=p.shape).astype(p.dtype), params)


def flat(tree: Any) -> jax.Array:
    """A tree of batched arrays as one matrix `[B, D]`."""
    return jnp.concatenate([a.reshape(a.shape[0], -1) for a in jax.tree.leaves(tree)], axis=1)


def _of_free_numbers(flow: Flow, take: Callable, make: Callable) -> Flow:
    """A flow of x as one of the numbers that x is made of."""

    def init(key, numbers, context=None):
        return flow.init(key, make(numbers), context)

    def forward(params, numbers, context=None, key=None):
        return flow.forward(params, make(numbers), context, key)

    def inverse(params, z, context=None, key=None):
        x, log_det = flow.inverse(params, z, context, key)
        return take(x), log_det

    return Flow(init, forward, inverse)


class _Measured(NamedTuple):
    """What is compared in float64."""

    params: Any
    log_det: jax.Array
    gradients: tuple[Any, Any]  # of params and x
    steepest: jax.Array  # norm of the gradients
    slopes: tuple[jax.Array, jax.Array]  # along one direction, by gradients and by differences
    pairs: list[tuple[Any, Any]]  # of each of CLAIMS


def _in_float64(flow: Flow, params, x, context, key, noise, tolerance) -> _Measured:
    init_key, draws_key = jax.random.split(key)
    seed = np.asarray(jax.random.key_data(draws_key))
    measure = functools.partial(_measure, flow, init_key, noise, seed)
    measured = jax.jit(measure)(params, x, context)  # its parts take longer in all
    for claim, pair in zip(CLAIMS, measured.pairs, strict=True):
        agree(claim, *pair, tolerance)
    check_gradients(
        dict(zip(("params", "x"), measured.gradients, strict=True)),
        (trainable(measured.params), trainable(x)),
    )
    by_gradients, by_differences = measured.slopes
    assert abs(by_gradients - by_differences) <= 1e-4 * (1 + measured.steepest), (
        "gradients must be those of finite differences: in a direction drawn at random they give"
        f" {by_gradients:.6g}, and differences {by_differences:.6g}"
    )
    return measured


def _measure(flow: Flow, init_key, noise, seed, params, x, context) -> _Measured:
    if params is None:
        params = moved(flow.init(init_key, x, context), noise, seed)
    (z, log_det), pull = jax.vjp(lambda p, x: _forward(flow, p, x, context), params, x)
    jacobian = _jacobian(pull, z, log_det)
    gradients = pull(jax.grad(_loss)((z, log_det)))
    slope, restore = ravel_pytree(gradients)
    direction = _direction(seed, slope, gradients, params, x)
    step = restore(STEP * direction)

    others = jax.tree.map(_between, z)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (z, context), (others, context))
    back, inverse_log_det = _inverse(flow, params, *both, like=x)
    back, from_others = _halves(back)
    inverse_log_det, others_log_det = _halves(inverse_log_det)

    points = [
        (params, from_others),
        jax.tree.map(jnp.add, (params, x), step),
        jax.tree.map(jnp.subtract, (params, x), step),
    ]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *points)
    out = jax.vmap(lambda point: flow.forward(*point, context))(stacked)
    again, up, down = (jax.tree.map(lambda a, i=i: a[i], out) for i in range(3))
    pairs = [
        (back, x),
        (log_det, jnp.linalg.slogdet(jacobian)[1]),
        (inverse_log_det, -log_det),
        _firsts(((from_others, others_log_det), (x, -log_det))),
        (again[0], others),
        (others_log_det, -again[1]),
    ]
    slopes = jnp.vdot(slope, direction), (_loss(up) - _loss(down)) / (2 * STEP)
    return _Measured(params, log_det, gradients, jnp.linalg.norm(slope), slopes, pairs)


def _jacobian(pull, z, log_det):
    """∂z/∂x of each example, `[B, D, D]`."""

    def row(unit):
        cotangent = jax.linear_transpose(flat, z)(jnp.broadcast_to(unit, flat(z).shape))
        return flat(pull((*cotangent, jnp.zeros_like(log_det)))[1])

    return jax.vmap(row, out_axes=1)(jnp.eye(flat(z).shape[1]))


def _direction(seed, slope, gradients, params, x):
    """A random direction of norm 1 among what is trained, as one vector."""
    moving = jax.tree.map(jnp.full_like, gradients, (trainable(params), trainable(x)))
    draws = np.random.default_rng([*seed, 1]).normal(size=slope.shape)
    direction = draws.astype(slope.dtype) * ravel_pytree(moving)[0]
    return direction / jnp.linalg.norm(direction)


def check_gradients(gradients: dict[str, Any], is_trained: Any) -> None:
    """Raises `AssertionError` unless gradients are finite, and nothing that is trained has none."""
    for (path, gradient), trained in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(is_trained), strict=True
    ):
        name = "gradient" + jax.tree_util.keystr(path)
        assert np.all(np.isfinite(gradient)), f"gradients must be finite: {name} is not"
        assert np.any(gradient != 0) or not trained, (
            f"all of params and x must have an effect: {name} is 0"
        )


def _in_float32(flow: Flow, params, x, context, tolerance):
    @jax.jit
    def measure(params, x, context):
        z, log_det = _forward(flow, params, x, context)
        return log_det, *_inverse(flow, params, z, context, like=x)

    log_det, back, inverse_log_det = measure(params, x, context)
    agree("inverse(forward(x)) must be x, in float32", back, x, tolerance)
    numbers = flat(x).shape[1]
    agree(
        "inverse's log_det must be minus forward's, in float32",
        inverse_log_det,
        -log_det,
        0.5 * tolerance * numbers,
    )


def _between(a):
    """Each example halfway to the one before; the first as it is."""
    return jnp.concatenate([a[:1], (a[1:] + a[:-1]) / 2])


def _forward(flow: Flow, params, x, context):
    z, log_det = _two("forward", flow.forward(params, x, context))
    _check_log_det("forward", log_det, x)
    given, made = flat(x).shape, flat(z).shape
    assert made == given, (
        f"z must have as many numbers as x: [B, D] is {made} for {given} of x; if some numbers of x"
        " follow from others, give free="
    )
    return z, log_det


def _inverse(flow: Flow, params, z, context, like):
    x, log_det = _two("inverse", flow.inverse(params, z, context))
    _check_log_det("inverse", log_det, z)
    wanted, got = (jax.tree.map(lambda a: a.shape[1:], tree) for tree in (like, x))
    assert got == wanted, f"inverse must give events of the shape of x, {wanted}: it gives {got}"
    return x, log_det


def _two(name, result):
    pair = isinstance(result, tuple) and len(result) == 2
    assert pair, f"{name} must return (array, log_det): it returns {type(result).__name__}"
    return result


def _check_log_det(name, log_det, array):
    first = jax.tree.leaves(array)[0]
    wanted = (
        f"{name}'s log_det must be {first.dtype} of shape {first.shape[:1]}, one number for each"
    )
    got = f"{jnp.result_type(log_det)} of shape {jnp.shape(log_det)}"
    ok = jnp.shape(log_det) == first.shape[:1] and jnp.result_type(log_det) == first.dtype
    assert ok, f"{wanted} example: it is {got}"


def _loss(out):
    """A number that no part of z and log_det leaves as it is."""
    z, log_det = flat(out[0]), out[1]
    return jnp.sum(jnp.sin(z) * jnp.cos(jnp.arange(z.shape[1]))) + jnp.sum(jnp.cos(log_det))


def _firsts(tree):
    return jax.tree.map(lambda a: a[:1], tree)


def _halves(tree):
    middle = len(jax.tree.leaves(tree)[0]) // 2
    return tuple(jax.tree.map(lambda a, s=s: a[s], tree) for s in np.s_[:middle, middle:])


def cast(tree: Any, dtype: Any) -> Any:
    """`tree` with its floats in `dtype`, and whole numbers of the width that goes with it."""

    def cast(leaf):
        floats = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(np.asarray(leaf, dtype if floats else None))

    return jax.tree.map(cast, tree)


def agree(claim: str, got: Any, expected: Any, tolerance: float) -> None:
    """Raises `AssertionError` unless two trees of arrays are the same, but for rounding."""
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        apart, allowed = np.abs(a - b), tolerance * (1 + np.abs(b))
        bad = ~(apart <= allowed)  # NaN is
        if not np.any(bad):
            continue
        excess = np.where(np.isfinite(apart), apart / allowed, np.inf)
        worst = np.unravel_index(np.argmax(excess), excess.shape)
        example, *index = map(int, worst)
        where = f" at {tuple(index)}" if index else ""
        array = f", array {jax.tree_util.keystr(path)}" if path else ""
        raise AssertionError(
            f"{claim}: of example {example}{array}{where} it is {a[worst]:.9g}, and should be"
            f" {b[worst]:.9g}, within {allowed[worst]:.2g}. {np.sum(bad)} of {bad.size} numbers"
            " are off"
        )
