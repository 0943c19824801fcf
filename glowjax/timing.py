"""Times a flow: what a call costs in seconds and memory, and what the machine could do."""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.extend.core import ClosedJaxpr, Jaxpr

from glowjax.checks import check_floats, check_integer, check_positive, require
from glowjax.densities.bases import standard_normal
from glowjax.flow import Flow


class Timing(NamedTuple):
    """What one function costs; a repetition is as many calls as fill the asked-for seconds."""

    compile_seconds: float
    """To trace, lower and compile it, no persistent cache used. A GPU's first program is dearest:
    what it finds out about products, later ones in the process need not."""
    milliseconds: float
    """A call, median over the repetitions."""
    least: float
    """Milliseconds a call in the fastest repetition."""
    most: float
    """Milliseconds a call in the slowest repetition."""
    examples_per_second: float
    tflops: float
    """10¹² floating-point operations a second, in matrix products and convolutions."""
    temporary_bytes: int
    """Memory beside arguments and results; 0 where the backend does not say."""


def bench(
    flow: Flow,
    x: Any,
    context: Any = None,
    *,
    params: Any = None,
    key: jax.Array | None = None,
    repetitions: int = 3,
    seconds: float = 1.0,
) -> dict[str, Timing]:
    """Times a flow on one device: compiled, and called again and again.

    "forward" is the log-likelihood under a standard normal base, log N(z; 0, I) + log_det;
    "gradient" that of its mean in params; "inverse" starts from the latents of `x`.

    Args:
        flow: any flow.
        x: floats `[B, ...]`, or a tuple of them; B counts as the examples.
        context: what the flow is conditioned on.
        params: of the flow; default: initialised on `x`.
        key: of an estimated log-determinant, for flows that need one.
        repetitions: at least 3, for a median and a spread.
        seconds: what a repetition should last; short ones measure the start of the calls too.

    Returns:
        A `Timing` for "forward", "gradient" and "inverse". The operations of a gradient count as
        three times those of forward, whatever is recomputed.

    Raises:
        ValueError: an argument is not as above.
    """
    require(isinstance(flow, Flow), "flow", flow, "a glowjax.Flow")
    check_repetitions(repetitions, seconds)
    check_floats("x", x)
    require(jax.tree.leaves(x), "x", x, "an array or a tuple of arrays")
    x, context = jax.tree.map(jnp.asarray, (x, context))
    if params is None:
        params = jax.jit(flow.init)(jax.random.key(0), x, context)

    def log_likelihood(params, x, context, key):
        z, log_det = flow.forward(params, x, context, key)
        return standard_normal().log_prob(None, z) + log_det

    def gradient(*args):
        return jax.grad(lambda *a: jnp.mean(log_likelihood(*a)))(*args)

    def inverse(params, z, context, key):
        return flow.inverse(params, z, context, key)

    on_x = (params, x, context, key)
    forward_flops = matmul_flops(log_likelihood, *on_x)
    options: dict[str, Any] = {"examples": len(jax.tree.leaves(x)[0])}
    options |= {"repetitions": repetitions, "seconds": seconds}
    forward = measure(log_likelihood, on_x, flops=forward_flops, **options)
    z, _ = jax.jit(flow.forward)(*on_x)
    on_z = (params, z, context, key)
    return {
        "forward": forward,
        "gradient": measure(gradient, on_x, flops=3 * forward_flops, **options),
        "inverse": measure(inverse, on_z, flops=matmul_flops(inverse, *on_z), **options),
    }


def measure(
    function: Callable[..., Any],
    args: tuple,
    *,
    examples: int = 1,
    flops: float = 0,
    repetitions: int = 3,
    seconds: float = 1.0,
    latency: bool = False,
) -> Timing:
    """Compiles `function(*args)` afresh and times it; `flops` and `examples` are a call's.

    Raises:
        ValueError: fewer than 3 repetitions, or negative seconds.
    """
    check_repetitions(repetitions, seconds)
    compiled, compile_seconds = cold_compile(function, *args)
    analysis = compiled.memory_analysis()
    times = time_calls(compiled, args, repetitions=repetitions, seconds=seconds, latency=latency)
    return summary(
        times,
        examples=examples,
        flops=flops,
        compile_seconds=compile_seconds,
        temporary_bytes=analysis.temp_size_in_bytes if analysis else 0,
    )


def summary(
    times: list[float],
    *,
    examples: int,
    flops: float,
    compile_seconds: float,
    temporary_bytes: int = 0,
) -> Timing:
    """The `Timing` of repetitions that took `times`, in seconds a call."""
    median = float(np.median(times))
    return Timing(
        compile_seconds=compile_seconds,
        milliseconds=1e3 * median,
        least=1e3 * min(times),
        most=1e3 * max(times),
        examples_per_second=examples / median,
        tflops=flops / median / 1e12,
        temporary_bytes=temporary_bytes,
    )


def time_calls(
    call: Callable[..., Any],
    args: tuple,
    *,
    repetitions: int = 3,
    seconds: float = 1.0,
    carry: bool = False,
    latency: bool = False,
) -> list[float]:
    """Seconds a call of `call(*args)` in each repetition, after a warm-up.

    Args:
        call: compiled already, or by its first call, which is not counted.
        args: of every call.
        repetitions, seconds: how many, and how long each should last; always at least one call.
        carry: the first of the results is the next call's first argument, as a donated state is.
        latency: waits for each call's result before the next call.
    """

    def run(calls):
        nonlocal args
        results = None
        start = time.perf_counter()
        for _ in range(calls):
            results = call(*args)
            if carry:
                args = (results[0], *args[1:])
            if latency:
                jax.block_until_ready(results)
        jax.block_until_ready(results)
        return time.perf_counter() - start

    run(1)
    calls = max(1, math.ceil(seconds / run(1)))
    return [run(calls) / calls for _ in range(repetitions)]


def check_repetitions(repetitions: Any, seconds: Any) -> None:
    """Raises `ValueError` for fewer than 3 repetitions or negative seconds."""
    check_integer("repetitions", repetitions, 3)
    ok = isinstance(seconds, int | float) and 0 <= seconds < math.inf
    require(ok, "seconds", seconds, "a number of at least 0")


def cold_compile(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """`function` compiled for `args`, and the seconds to trace, lower and compile it."""
    with no_persistent_cache():
        start = time.perf_counter()
        # A new function: jit remembers what it traced before.
        compiled = jax.jit(lambda *a: function(*a)).lower(*args).compile()
        return compiled, time.perf_counter() - start


@contextlib.contextmanager
def no_persistent_cache() -> Generator[None]:
    """Compiles everything inside, whatever the persistent compilation cache holds."""
    enabled = jax.config.values["jax_enable_compilation_cache"]

    def switch(on):
        jax.config.update("jax_enable_compilation_cache", on)
        compilation_cache.reset_cache()  # JAX asks once only whether to use it

    switch(False)
    try:
        yield
    finally:
        switch(enabled)


def matmul_flops(function: Callable[..., Any], *args: Any) -> int:
    """Floating-point operations in the matrix products and convolutions of `function(*args)`.

    2·M·N·K a product, counted on the jaxpr: XLA's own analysis does not see into the libraries
    that GPUs call. Bodies of scans count as often as they run, of `cond` the dearest branch, of
    `while` once, what is mapped over devices once.

    Args:
        function: is traced, not run.
        args: arrays, or `jax.ShapeDtypeStruct` in their place.
    """
    return _flops(jax.make_jaxpr(function)(*args).jaxpr)


def _flops(jaxpr: Jaxpr) -> int:
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        depth = math.prod(shape[axis] for axis in contracted)
        return 2 * depth * math.prod(equation.outvars[0].aval.shape)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(kernel) // features * math.prod(equation.outvars[0].aval.shape)
    if name == "cond":  # the choice between a kernel, which counts as 0, and XLA, too
        return max(_flops(branch.jaxpr) for branch in params["branches"])
    if name == "pallas_call" and params.get("cost_estimate") is not None:
        return params["cost_estimate"].flops
    return _times(name, params) * sum(map(_flops, _jaxprs(params.values())))


def _times(name: str, params: dict[str, Any]) -> int:
    """How often an equation runs the jaxprs within it."""
    if name == "scan":
        return params["length"]
    if name == "pallas_call":
        return math.prod(params["grid_mapping"].grid)
    return 1


def _jaxprs(values: Any) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _jaxprs(value)


def matmul_peak(size: int | None = None, *, repetitions: int = 5, seconds: float = 0.1) -> float:
    """Floating-point operations a second of a size×size bfloat16 product, the best repetition.

    On random data: zeros let a GPU clock higher. Short, so that heat does not tell either.

    Args:
        size: default: 8192, 512 on CPU.
        repetitions, seconds: see `bench`.

    Raises:
        ValueError: an argument is out of range.
    """
    size = _by_backend(512, 8192) if size is None else size
    check_positive(size=size)
    keys = jax.random.split(jax.random.key(0))
    args = tuple(jax.random.normal(key, (size, size), jnp.bfloat16) for key in keys)
    flops = matmul_flops(jnp.matmul, *args)
    timing = measure(jnp.matmul, args, repetitions=repetitions, seconds=seconds)
    return flops / timing.least * 1e3


def copy_bandwidth(size: int | None = None, *, repetitions: int = 5, seconds: float = 0.1) -> float:
    """Bytes a second, read and written, of an elementwise pass over memory, the best repetition.

    Args:
        size: bytes of the array; default: 2 GiB, 256 MiB on CPU, more than any cache holds.
        repetitions, seconds: see `bench`.

    Raises:
        ValueError: an argument is out of range.
    """
    size = _by_backend(2**28, 2**31) if size is None else size
    check_integer("size", size, 4)
    args = (jax.random.normal(jax.random.key(0), (size // 4,), jnp.float32),)
    timing = measure(jnp.negative, args, repetitions=repetitions, seconds=seconds)
    return 2 * args[0].nbytes / timing.least * 1e3


def _by_backend(cpu: int, accelerator: int) -> int:
    return cpu if jax.default_backend() == "cpu" else accelerator
