"""Functions with loops of other libraries, inside of `jax.pmap` and `jax.shard_map` too."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from glowjax.arrays import vary_as, varying_axes


def on_any_devices(solve: Callable, *inputs: Any) -> Any:
    """`solve(*inputs)` with its gradient, inside of `jax.pmap` and `jax.shard_map` too.

    There JAX gives arrays types that tell on which devices they are and whether they differ, and
    the loops of diffrax, which start from constants, do not keep theirs. So it is traced without.
    """
    varying = [leaf for leaf in jax.tree.leaves(inputs) if varying_axes(leaf)]
    if varying:
        return _uncounted(_off_mesh(solve), varying[0])(*vary_as(inputs, varying[0]))
    return _off_mesh(solve)(*inputs)


def _off_mesh(solve: Callable) -> Callable:
    """`solve` without the mesh in its types."""

    def traced(function, *inputs):
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return function(*inputs)

    solved = jax.custom_vjp(functools.partial(traced, solve))
    solved.defvjp(functools.partial(traced, functools.partial(jax.vjp, solve)), traced)
    return solved


def _uncounted(solve: Callable, like: jax.Array) -> Callable:
    """`solve`, whose inputs vary as `like`, without a count of the axes over which arrays vary.

    Its gradient solves once more: what it would save cannot leave the inner `shard_map`.
    """

    def traced(function, *inputs):
        def plain(*inputs):  # a computed array, unlike an input, has no count
            return function(*jax.tree.map(lambda a: a[None][0], inputs))

        specs: Any = {"in_specs": jax.P(), "out_specs": jax.P(), "axis_names": set()}
        return vary_as(jax.shard_map(plain, **specs, check_vma=False)(*inputs), like)

    def save(*inputs):
        return solved(*inputs), inputs

    def pull(inputs, cotangents):
        return traced(lambda inputs, g: jax.vjp(solve, *inputs)[1](g), inputs, cotangents)

    solved = jax.custom_vjp(functools.partial(traced, solve))
    solved.defvjp(save, pull)
    return solved
