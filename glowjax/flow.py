"""The contract of a flow, and how a Linen module becomes one."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from glowjax.arrays import floats_as, promote
from glowjax.checks import check_floats, check_key, described, is_array
from glowjax.context import as_at_init, refuse_context, takes_context
from glowjax.expression import expressed, recorded


def _unchanged(params: Any) -> Any:
    return params


@functools.partial(jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=[])
@dataclass(frozen=True)
class Prepared:
    """The parameters of a Linen module's flow after `Flow.prepare`, for its maps alone.

    Attributes:
        variables: what `module.apply` takes: the collection `prepared`, of what was computed, and
            `params`, of the parameters that are used as they are.
    """

    variables: Any


@dataclass(frozen=True)
class Init:
    """An `init` that can also give what the flow makes of its array: see `initialised`.

    Attributes:
        with_output: (key, array, context=None) -> (params, output of the map with these params).
    """

    with_output: Callable[..., tuple[Any, Any]]
    __name__: ClassVar[str] = "init"  # what `jax.jit` calls its program

    def __call__(self, key, array, context=None) -> Any:
        return self.with_output(key, array, context)[0]


@expressed
class Flow(NamedTuple):
    """A bijection between data `x` and latents `z` with its log-determinant, as pure functions.

        init(key, x, context=None)                 -> params
        forward(params, x, context=None, key=None) -> (z, log_det)
        inverse(params, z, context=None, key=None) -> (x, log_det)
        log_det(params, x, context=None, key=None) -> log_det of forward

    `x` and `z` are arrays `[B, ...]` or tuples of them; `log_det: [B]`, in nats, is log|det J| of
    the map just applied, so that `inverse`'s is minus `forward`'s at the matching point. `context`
    is what the flow is conditioned on, an array or a tree of arrays, if `takes_context`: else it
    must be None. `key` is used by estimated log-determinants and by dropout only. An `init` may be
    an `Init`, as those of `as_flow` and of flows of flows are.

    Optional: `init_inverse(key, z, context=None)` initialises from the latent side; `backward` is
    what `glowjax.reversible.backward` calls instead of its default; `prepare(params)` does what
    needs no data, such as inverting matrices: `repeat` calls it for all of its steps at once, and
    the maps take its result, with `Prepared` in it, in place of params. Of a loop or a whole model
    it is the identity. `fixed_units` says that the flow has a map in units of its own, such as one
    from a bounded support: `fit` then leaves the units of the data as they are. `spaces` names
    those of the columns of z, in which `density` takes a base; None: any base.
    """

    init: Callable[..., Any]
    forward: Callable[..., tuple[Any, jax.Array]]
    inverse: Callable[..., tuple[Any, jax.Array]]
    init_inverse: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None
    prepare: Callable[[Any], Any] = _unchanged
    takes_context: bool = True
    fixed_units: bool = False
    spaces: tuple[Any, ...] | None = None

    def log_det(self, params, x, context=None, key=None) -> jax.Array:
        """log|det ∂z/∂x| of `forward`, `[B]`, in nats."""
        return self.forward(params, x, context, key)[1]


@recorded
def as_flow(module: nn.Module) -> Flow:
    """Makes a `Flow` of a Linen module with methods `forward` and `inverse`.

    Both take `(array, context=None)` and return `(array, log_det)`; a module that takes no context
    leaves that parameter out, and one of which it depends on its options says so by a property
    `takes_context`. An attribute `fixed_units = True` is handed on to the flow. A module that
    estimates its log-determinant finds its key with `self.make_rng("log_det")`. One with a net that
    drops numbers in training does so where `self.has_rng("dropout")`; by one key, both directions
    drop the same. While the module is initialised, it must return what it will return with the
    parameters it makes. A third method, `prepare(params)`, may be there for `Flow.prepare`: under
    `nn.nowrap`, a pure function of the module's own parameters, to which `vmap` can be applied,
    that returns variables as `Prepared` holds them.

    Raises:
        ValueError: an input is not a batched float array, or does not fit the parameters; a context
            is given and not taken; `log_det` is not `[B]`; the module has variables other than
            parameters, or draws random numbers, as BatchNorm and Dropout do.

    Examples:
        >>> flow, x = glowjax.as_flow(glowjax.ActNorm()), jnp.arange(6.0).reshape(3, 2)
        >>> params = flow.init(jax.random.key(0), x)
        >>> z, log_det = flow.forward(params, x)
        >>> bool(jnp.allclose(z.mean(axis=0), 0, atol=1e-6)), log_det.shape
        (True, (3,))
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a Linen module, got {described(module)}")
    maps = _Maps(module, takes_context(module, "forward"))
    return Flow(
        init=Init(functools.partial(maps.init, "x", "forward")),
        forward=functools.partial(maps.apply, "x", "forward"),
        inverse=functools.partial(maps.apply, "z", "inverse"),
        init_inverse=Init(functools.partial(maps.init, "z", "inverse")),
        prepare=maps.prepare,
        takes_context=maps.takes,
        fixed_units=getattr(module, "fixed_units", False),
    )


@dataclass(frozen=True)
class _Maps:
    """The functions of a Linen module's flow; `side` is what they call their array, x or z."""

    module: nn.Module
    takes: bool  # a context

    @property
    def name(self) -> str:
        return type(self.module).__name__

    def init(self, side, method, key, array, context=None):
        check_key("key", key)
        args, keys = self._inputs(side, array, context), {"params": key, "log_det": key}
        with _drawing_nothing(self.name):
            result, variables = self.module.init_with_output(keys, *args, method=method)
        _check_parameters_only(self.name, variables)
        params = variables.get("params", {})
        check = functools.partial(self._apply, side, method)
        jax.eval_shape(check, params, array, context, {"log_det": key})  # without a dropout's key
        return params, _pair(f"{self.name}.{method}", result, array)[0]

    def apply(self, side, method, params, array, context=None, key=None):
        if key is None:
            return self._apply(side, method, params, array, context, None)
        check_key("key", key)
        return self._apply(side, method, params, array, context, {"log_det": key, "dropout": key})

    def _apply(self, side, method, params, array, context, rngs):
        args = self._inputs(side, array, context)
        variables = params.variables if isinstance(params, Prepared) else {"params": params}
        if not isinstance(variables.get("params", {}), Mapping):
            wanted = "a dict, as its init returns; what fit returns is for a density's functions"
            raise ValueError(f"params of {self.name} must be {wanted}, got {described(params)}")
        given = {side: array, "context": context} if self.takes else {side: array}
        with as_at_init(self.name, **given), _drawing_nothing(self.name):
            result = self.module.apply(variables, *args, method=method, rngs=rngs)
        return _pair(f"{self.name}.{method}", result, array)

    def prepare(self, params):
        if isinstance(params, Prepared):
            wanted = "as init returns them, got prepared ones"
            raise ValueError(f"params of {self.name} must be {wanted}")
        if not hasattr(self.module, "prepare"):
            return params
        try:
            return Prepared(self.module.prepare(params))
        except (
            KeyError,
            flax.errors.ScopeParamShapeError,
            flax.errors.ScopeParamNotFoundError,
        ) as error:
            raise ValueError(f"params do not fit {self.name}: {error}") from error

    def _inputs(self, side, array, context):
        """What the module's methods take, checked."""
        pair = side == "z" and getattr(self.module, "gives_pair", False)
        if jax.tree.structure(array) != jax.tree.structure((0, 0) if pair else 0):
            wanted = "a pair of arrays" if pair else "one array, as jnp.asarray makes"
            raise ValueError(f"{side} must be {wanted}, got {described(array)}")
        check_floats(side, array)
        if self.takes:
            return array, floats_as(context, array)
        refuse_context(context)
        return (array,)


@contextlib.contextmanager
def _drawing_nothing(name: str):
    """Says in our words that a module asked for a random key that it has not."""
    try:
        yield
    except flax.errors.InvalidRngError as error:
        if '"log_det"' in str(error):
            raise ValueError(f"key must be a JAX key, which {name} needs, got None") from error
        raise ValueError(
            f"module must be a pure function of params and inputs, got {name}, which draws random"
            f" numbers, as Dropout does (leave it out): {error}"
        ) from error


def _check_parameters_only(name: str, variables: Any) -> None:
    others = sorted(variables.keys() - {"params"})
    if others:
        raise ValueError(
            f"module must be a pure function of params and inputs, got {name}, which keeps"
            f" {', '.join(others)}, as BatchNorm does (ActNorm, LayerNorm and GroupNorm do not)"
        )


def _pair(name: str, result: Any, given: Any) -> tuple[Any, jax.Array]:
    """`result` if it is `(array or tuple, log_det)` for the batch of `given`, by shapes alone."""
    batch = jnp.shape(jax.tree.leaves(given)[0])[:1]

    def fits(leaf):
        return is_array(leaf) and jnp.shape(leaf)[:1] == batch

    ok = isinstance(result, tuple | list) and len(result) == 2
    if ok:
        arrays, log_det = jax.tree.leaves(result[0]), result[1]
        ok = arrays and all(map(fits, [*arrays, log_det])) and jnp.ndim(log_det) == 1
        ok = ok and promote(log_det).dtype == jnp.result_type(log_det)
    if not ok:
        raise ValueError(
            f"{name} must return (array, log_det) of one row and one float an example, log_det of"
            f" shape {batch}, got {described(result)}"
        )
    return result[0], result[1]


def checked(name: str, flow: Any) -> Flow:
    """`flow`, which may be anyone's, with what it returns checked; and it takes no idle context.

    Raises:
        ValueError: `flow` is none. Its maps do, unless what they return is `(array, [B])`.
    """
    if isinstance(flow, nn.Module):
        wanted = f"a Flow, as as_flow({type(flow).__name__}(...)) makes"
        raise ValueError(f"{name} must be {wanted}, got the Linen module itself")
    if not isinstance(flow, Flow):
        raise ValueError(f"{name} must be a Flow, got {described(flow)}")

    def refuse(context):
        if not flow.takes_context:
            refuse_context(context)

    def initialising(flow):
        def with_output(key, array, context=None):
            refuse(context)
            return initialised(flow, key, array, context)

        return Init(with_output)

    def applied(function, params, array, context=None, key=None):
        refuse(context)
        result = getattr(flow, function)(params, array, context, key)
        return _pair(f"{name}.{function}", result, array)

    safe = flow._replace(
        forward=functools.partial(applied, "forward"), inverse=functools.partial(applied, "inverse")
    )
    back = safe._replace(init=flow.init_inverse, forward=safe.inverse)
    return safe._replace(
        init=initialising(safe), init_inverse=flow.init_inverse and initialising(back)
    )


def initialised(flow: Flow, key, x, context=None) -> tuple[Any, Any]:
    """`(params, z)` of `flow` initialised on `x`: at once, if its `init` is an `Init`."""
    if isinstance(flow.init, Init):
        return flow.init.with_output(key, x, context)
    params = flow.init(key, x, context)
    return params, flow.forward(params, x, context, key)[0]
