"""`fit`: trains any density on arrays or towards a target, in one call."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import check_integer, check_positive, require
from glowjax.data import stream
from glowjax.density import Density
from glowjax.objectives import forward_kl
from glowjax.progress import progress

INITIALISED, EVALUATED = 1024, 4096  # examples at a time


class Fitted(NamedTuple):
    """What `fit` returns.

    Attributes:
        params: the best on validation; without validation, the last.
        history: rows of step, loss (mean since the row before) and, if there is any, validation.
        step: the step of `params`.
        seconds: of training, compilation and evaluation included.
    """

    params: Any
    history: list[dict[str, float]]
    step: int
    seconds: float


class Batch(NamedTuple):
    """What a loss sees of the data: examples `x: [b, ...]` and their context."""

    x: jax.Array
    context: Any = None


def fit(
    density: Density,
    data: Any = None,
    *,
    loss: Callable[..., jax.Array] | None = None,
    context: Any = None,
    validation: Any = 0.1,
    steps: int = 2000,
    batch_size: int = 256,
    optimizer: Any = None,
    decay: float | None = None,
    evaluate_every: int | None = None,
    patience: int | None = None,
    params: Any = None,
    seed: int = 0,
    watch: Callable[[int, Any], None] | None = None,
    show: bool = True,
) -> Fitted:
    """Trains a density by gradient descent, and returns its best parameters.

        fit(model, x)                                                    # maximum likelihood
        fit(model, loss=lambda p, batch, key, step:
            glowjax.reverse_kl(model, p, target, key, 256))              # towards a target

    The steps between two evaluations are one compiled loop. The same seed gives the same result.

    Args:
        density: what is trained.
        data: `[N, ...]`, floats but for a `dequantized` density; None where the loss needs none.
        loss: `(params, batch, key, step) -> scalar`, batch a `Batch` or None, key a fresh one, step
            the number of steps done; default: `forward_kl` on the batch.
        context: of each example, arrays `[N, ...]`.
        validation: the fraction of data to hold out, drawn by seed; or held-out data `[M, ...]`, or
            the pair of those and their context; None or 0: none. Its mean of -log_prob, in nats,
            chooses the best parameters.
        steps: how many, at most.
        batch_size: examples a step.
        optimizer: optax's; default: `optax.adam(1e-3)` after clipping gradients to norm 10.
        decay: of a running average of the parameters, which then is evaluated and returned.
        evaluate_every: steps between evaluations; default: a twentieth of all.
        patience: stops after as many evaluations without a better one; needs validation.
        params: to go on from; default: `density.init` on the first 1,024 examples, or
            `density.init_from_base` without data.
        seed: of initialisation, order, keys and held-out part.
        watch: called with (step, params) before the first step and at each evaluation.
        show: progress, with loss and speed.

    Raises:
        ValueError: an argument is not as above.
        FloatingPointError: the loss is not finite; it names the step.
    """
    import optax  # slow to import, as is what follows

    from glowjax.descent import descent

    check_positive(steps=steps, batch_size=batch_size)
    check_integer("seed", seed, 0, 2**32 - 1)
    every = max(1, steps // 20) if evaluate_every is None else evaluate_every
    check_positive(evaluate_every=every)
    train, held_out = _split(data, context, validation, seed)
    require(train or loss, "data", data, "given where no loss is")
    require(held_out or patience is None, "patience", patience, "None without validation")
    key = jax.random.key(seed)
    if params is None:
        params = _init(density, key, train, batch_size)
    if optimizer is None:
        optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-3))
    loss = loss or functools.partial(_likelihood, density)

    def objective(params, index, step):
        batch = train and jax.tree.map(lambda a: a[index], train)
        value = loss(params, batch, jax.random.fold_in(key, step), step)
        return value, {"loss": value}

    sgd = descent(objective, optimizer, decay=decay)
    advance = jax.jit(lambda state, order: jax.lax.scan(sgd.step, state, order), donate_argnums=0)
    measure = functools.partial(_mean_loss, jax.jit(density.log_prob), held_out, key)

    began = time.perf_counter()
    state = sgd.init(jax.tree.map(jnp.copy, params))  # donated, and the caller may need his
    history: list[dict[str, float]] = []
    best, best_step, lowest = params, 0, np.inf
    watch = watch or (lambda step, params: None)
    watch(0, params)
    with progress(steps) if show else contextlib.nullcontext(lambda step, text: None) as advanced:
        for start in range(0, steps, every):
            since, stop = time.perf_counter(), min(start + every, steps)
            order = _order(train, seed, start, stop, batch_size)
            state, metrics = advance(state, order)
            losses = _finite(np.asarray(metrics["loss"]), start)
            row = {"step": stop, "loss": float(np.mean(losses))}
            weights = state.weights("ema")
            if held_out:
                row["validation"] = measure(weights)
            history.append(row)
            speed = (stop - start) / (time.perf_counter() - since)
            values = ", ".join(f"{name} {row[name]:.4f}" for name in row if name != "step")
            advanced(stop, f"{values}, {speed:,.0f} steps/s")
            watch(stop, weights)
            value = row.get("validation", -stop)  # without validation the last is the best
            if value < lowest:
                best, best_step, lowest = jax.tree.map(jnp.copy, weights), stop, value
            elif patience is not None and stop - best_step >= patience * every:
                break
    return Fitted(best, history, best_step, time.perf_counter() - began)


def _likelihood(density, params, batch, key, step):
    return forward_kl(density, params, batch.x, batch.context, key)


def _split(data, context, validation, seed) -> tuple[Batch | None, Batch | None]:
    """The training and the held-out part."""
    if data is None:
        return None, None
    whole = _batch("data", data, context)
    if not isinstance(validation, float | int | None):
        pair = validation if isinstance(validation, tuple) else (validation, None)
        return whole, _batch("validation", *pair)
    fraction = validation or 0
    require(0 <= fraction < 1, "validation", validation, "arrays, or a fraction in [0, 1)")
    n = len(whole.x)
    count = round(fraction * n)
    order = stream(n, seed, 0, n)

    def take(part):
        return jax.tree.map(lambda a: a[part], whole)

    return take(order[count:]), take(order[:count]) if count else None


def _batch(name, x, context) -> Batch:
    require(jnp.ndim(x) > 1, name, jnp.shape(x), "batched, of shape [N, ...]")
    require(len(x) > 0, name, jnp.shape(x), "of at least one example")
    for leaf in jax.tree.leaves(context):
        require(len(leaf) == len(x), "context", jnp.shape(leaf), f"one row for each of {len(x)}")
    return jax.tree.map(jnp.asarray, Batch(x, context))


def _init(density, key, train, batch_size):
    if train is None:
        return jax.jit(density.init_from_base, static_argnums=1)(key, batch_size)
    return jax.jit(density.init)(key, *jax.tree.map(lambda a: a[:INITIALISED], train))


def _order(train, seed, start, stop, batch_size) -> np.ndarray:
    """Which examples each step sees: `[steps, batch_size]`, as the image experiments' order."""
    if train is None:
        return np.zeros((stop - start, 0), np.int32)
    order = stream(len(train.x), seed, start * batch_size, (stop - start) * batch_size)
    return order.reshape(stop - start, batch_size)


def _mean_loss(log_prob, held_out, key, params) -> float:
    """The mean of -log_prob over held-out data, some thousand examples at a time."""
    total = 0.0
    for start in range(0, len(held_out.x), EVALUATED):
        part = jax.tree.map(lambda a, i=start: a[i : i + EVALUATED], held_out)
        total -= float(jnp.sum(log_prob(params, *part, key)))
    return total / len(held_out.x)


def _finite(losses: np.ndarray, start: int) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise FloatingPointError(
            f"step {start + bad[0] + 1}: loss {losses[bad[0]]}; a lower learning rate, or clipping"
            " of gradients, may help"
        )
    return losses
