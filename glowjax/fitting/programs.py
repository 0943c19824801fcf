"""What `fit` compiles for a density, remembered from fit to fit."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glowjax.checks import described
from glowjax.densities.density import Density
from glowjax.densities.objectives import forward_kl
from glowjax.densities.standardized import Standardized
from glowjax.fitting.rows import Batch

SAME = 0.1  # of the gradient: what rounding may change of a flow that normalises its input


class Given(NamedTuple):
    """What differs from fit to fit: the examples or None, the key, and the columns' units or None.

    Units are a location and a scale, see `Standardized`.
    """

    batch: Batch | None
    key: jax.Array
    units: tuple[jax.Array, jax.Array] | None


class Programs(NamedTuple):
    """What is compiled for a density, whatever the data, the seed and the number of steps."""

    density: Density
    init: Callable[..., Any]
    init_from_base: Callable[..., Any]
    same_start: Callable[..., jax.Array]  # do params begin as standardized ones do?
    log_prob: Callable[..., jax.Array]
    objective: Callable[..., Any]  # (given, params, index, step) -> (loss, metrics)
    begin: Callable[[Any], Any]  # params -> state
    advance: Callable[..., Any]  # (state, order, given) -> (state, metrics)
    init_many: Callable[..., Any]  # those of several fits of one data set, side by side
    same_start_many: Callable[..., jax.Array]
    begin_many: Callable[[Any], Any]
    advance_many: Callable[..., Any]
    log_prob_many: Callable[..., jax.Array]


def programs_of(density: Density, loss: Any, optimizer: Any, decay: float | None) -> Programs:
    """The programs of a density, a loss (None: the likelihood), an optimizer and a decay.

    Those of the last few arguments come from memory: a program is compiled once.
    """
    try:
        return _recent_programs(density, loss, optimizer, decay)
    except TypeError:  # a loss or an optimizer that cannot be hashed
        return _programs(density, loss, optimizer, decay)


def _programs(density: Density, loss, optimizer, decay) -> Programs:
    from glowjax.fitting.descent import descent  # optax is slow to import

    loss = loss or functools.partial(_likelihood, density)

    def objective(given, params, index, step):
        batch = jax.tree.map(lambda a: a[index], given.batch)
        key = jax.random.fold_in(given.key, step)
        value = loss(whole_params(given.units, params), batch, key, step)
        if jnp.shape(value) != ():
            raise ValueError(f"loss must give one number, got {described(value)}")
        return value, {"loss": value}

    def sgd(given):
        return descent(functools.partial(objective, given), optimizer, decay=decay)

    def advance(state, order, given):
        return jax.lax.scan(sgd(given).step, state, order)

    def begin(params):
        return sgd(None).init(_copies(params))

    axes: Any = {"key": 0, "units": 0}
    return Programs(
        density,
        jax.jit(density.init),
        jax.jit(density.init_from_base, static_argnums=1),
        jax.jit(functools.partial(_same_start, density)),
        jax.jit(density.log_prob),
        jax.jit(objective),
        jax.jit(begin),
        jax.jit(advance, donate_argnums=0),
        jax.jit(jax.vmap(density.init)),
        jax.jit(jax.vmap(functools.partial(_same_start, density))),
        jax.jit(jax.vmap(begin)),
        jax.jit(jax.vmap(advance, (0, 0, Given(batch=None, **axes))), donate_argnums=0),
        jax.jit(jax.vmap(density.log_prob)),
    )


_recent_programs = functools.lru_cache(maxsize=16)(_programs)


def _same_start(density: Density, params, x, standard, standard_x, context, key):
    """Whether the first gradient is the same for data as they are and standardized."""
    import optax  # slow to import

    def gradient(start):
        def log_p(params):
            return jnp.mean(density.log_prob(params, start[1], context, key))

        return jax.value_and_grad(log_p)(start[0])

    both = jax.tree.map(lambda *pair: jnp.stack(pair), (params, x), (standard, standard_x))
    log_p, gradients = jax.lax.map(gradient, both)  # compiles the flow once
    change = optax.tree.norm(jax.tree.map(lambda g: g[0] - g[1], gradients))
    size = optax.tree.norm(jax.tree.map(lambda g: g[1], gradients))
    supported = jnp.isfinite(log_p[1])  # else the flow has a support that standardizing leaves
    return ~supported | (change < SAME * (0.2 + size))


def _copies(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


copies = jax.jit(_copies)


def whole_params(units, params) -> Any:
    """The density's parameters, of those that are trained."""
    return params if units is None else Standardized(*units, params)


def _likelihood(density, params, batch, key, step):
    return forward_kl(density, params, batch.x, batch.context, key, weights=batch.weights)
