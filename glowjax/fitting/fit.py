"""`fit`: trains any density on arrays or towards a target, in one call."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.checks import check_integer, check_positive, require
from glowjax.densities.density import Density
from glowjax.densities.standardized import Standardized
from glowjax.fitting.programs import Given, Programs, copies, programs_of, whole_params
from glowjax.fitting.rows import Batch, Examples, order, split
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


def fit(
    density: Density,
    data: Any = None,
    *,
    loss: Callable[..., jax.Array] | None = None,
    context: Any = None,
    weights: Any = None,
    validation: Any = 0.1,
    steps: int = 2000,
    batch_size: int = 256,
    optimizer: Any = None,
    decay: float | None = None,
    evaluate_every: int | None = None,
    patience: int | None = None,
    params: Any = None,
    seed: int | None = None,
    key: jax.Array | None = None,
    watch: Callable[[int, Any], None] | None = None,
    show: bool = True,
) -> Fitted:
    """Trains a density by gradient descent, and returns its best parameters.

        fit(model, x)                                                    # maximum likelihood
        fit(model, loss=lambda p, batch, key, step:
            glowjax.reverse_kl(model, p, target, key, 256))              # towards a target

    The steps between two evaluations are one compiled loop. The same seed gives the same result.
    Fits of one density object, by the same loss and optimizer objects and of data of one shape,
    compile once: so keep the objects if you fit many times.

    The units of the data do not matter. Where the flow does not start with an `ActNorm`, maximum
    likelihood of vectors `[N, D]` is trained on standardized columns, and `params` come back as
    `Standardized`, which the density's functions take as they take its own. A flow of `fixed_units`
    gets the data as they are.

    Args:
        density: what is trained.
        data: `[N, ...]`, floats but for a `dequantized` density, or a table of pandas, polars or
            arrow, all of numbers; None where the loss needs none.
        loss: `(params, batch, key, step) -> scalar`, batch a `Batch` or None, key a fresh one, step
            the number of steps done; default: `forward_kl` on the batch, with its weights.
        context: of each example, arrays `[N, ...]`.
        weights: of each example, `[N]`, not negative; their mean is made 1. Default: all alike.
        validation: the fraction of data to hold out, drawn by seed; or held-out data `[M, ...]`, or
            a tuple of those, their context (or None) and weights; None or 0: none. Its weighted
            mean of -log_prob, in nats, chooses the best parameters.
        steps: how many, at most.
        batch_size: examples a step.
        optimizer: optax's; default: `optax.adam(1e-3)` after clipping gradients to norm 10.
        decay: of a running average of the parameters, which then is evaluated and returned.
        evaluate_every: steps between evaluations; default: a twentieth of all.
        patience: stops after as many evaluations without a better one; needs validation.
        params: to go on from; default: `density.init` on the first 1,024 examples, or
            `density.init_from_base` without data.
        seed: of initialisation, order, keys and held-out part; default: 0.
        key: a JAX key in the place of a seed.
        watch: called with (step, params) before the first step and at each evaluation.
        show: progress, with loss and speed.

    Raises:
        ValueError: an argument is not as above; data, context or weights are not finite; an example
            has no density before training, because its label or support is wrong.
        FloatingPointError: training went wrong: the loss is not finite at a step, which it names,
            or no evaluation was finite.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.Planar()), event_shape=(2,))
        >>> x = jax.random.normal(jax.random.key(0), (100, 2))
        >>> fitted = glowjax.fit(model, x, steps=4, evaluate_every=2, show=False)
        >>> [row["step"] for row in fitted.history]
        [2, 4]
    """
    check_positive(steps=steps, batch_size=batch_size)
    every = max(1, steps // 20) if evaluate_every is None else evaluate_every
    check_positive(evaluate_every=every)
    optimizer = _optimizer(optimizer)
    seed, key = _randomness(seed, key)
    train, held_out = split(data, context, weights, validation, seed)
    require(train or loss, "data", data, "given where no loss is")
    require(held_out or patience is None, "patience", patience, "None without validation")

    began = time.perf_counter()
    programs = programs_of(density, loss, optimizer, decay)
    start, units = _start(programs, params, key, train, batch_size, standardize=loss is None)
    whole = functools.partial(whole_params, units)
    evaluate = _Evaluation(density, programs.log_prob, key, whole(start))
    if held_out:
        evaluate.check(held_out)
    given = Given(train.batch if train else None, key, units)
    explain = functools.partial(
        _failure, programs.objective, given, start, evaluate, train if loss is None else None
    )
    parts = _descend(programs, given, start, train, seed, steps, every, batch_size)

    kept = _Kept(whole(start), None if patience is None else patience * every)
    watch = watch or (lambda step, params: None)
    watch(0, kept.params)
    with progress(steps) if show else contextlib.nullcontext(lambda step, text: None) as advanced:
        for step, order, losses, average, seconds in parts:
            if not np.all(np.isfinite(losses)):
                raise explain(step - len(losses), order, losses)
            row = {"step": step, "loss": float(np.mean(losses))}
            trained = whole(average)
            if held_out:
                row["validation"] = evaluate.mean(trained, held_out)
            values = ", ".join(f"{name} {row[name]:.4f}" for name in row if name != "step")
            advanced(step, f"{values}, {len(losses) / seconds:,.0f} steps/s")
            watch(step, trained)
            if not kept.add(row, trained):
                break
    kept.check()
    return Fitted(kept.params, kept.history, kept.step, time.perf_counter() - began)


class _Kept:
    """The best parameters so far, and the history of evaluations.

    Attributes:
        patience: the steps after which training without better parameters ends; None: never.
    """

    def __init__(self, params: Any, patience: int | None):
        self.params, self.step, self.patience = params, 0, patience
        self.history: list[dict[str, float]] = []
        self._lowest = np.inf

    def add(self, row: dict[str, float], params: Any) -> bool:
        """Takes a row of history and its parameters; whether training should go on."""
        self.history.append(row)
        step = int(row["step"])
        value = row.get("validation", -step)  # without validation the last is the best
        if value < self._lowest:
            self.params, self.step, self._lowest = copies(params), step, value
            return True
        return self.patience is None or step - self.step < self.patience

    def check(self) -> None:
        """Raises `FloatingPointError` if no evaluation was finite."""
        if not self.step:
            raise FloatingPointError(
                f"validation was finite at none of the {len(self.history)} evaluations, the last of"
                f" which gave {self.history[-1]['validation']}: {_GENTLER}"
            )


_GENTLER = "a lower learning rate, or clipping of gradients, may help"


def _optimizer(optimizer):
    import optax  # slow to import

    if optimizer is None:
        return _default_optimizer()
    wanted = "an optax optimizer, such as optax.adam(1e-3)"
    require(isinstance(optimizer, optax.GradientTransformation), "optimizer", optimizer, wanted)
    return optimizer


@functools.cache  # one object, by which programs are remembered
def _default_optimizer():
    import optax

    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-3))


def _randomness(seed, key) -> tuple[int, jax.Array]:
    """A seed for NumPy's side and a key for JAX's, from either."""
    if key is None:
        seed = 0 if seed is None else seed
        check_integer("seed", seed, 0, 2**32 - 1)
        return seed, jax.random.key(seed)
    require(seed is None, "seed", seed, "None where key is given")
    wanted = "a JAX key, such as jax.random.key(0)"
    require(isinstance(key, jax.Array) and key.ndim <= 1, "key", key, wanted)
    return int(jax.random.bits(key, (), jnp.uint32)), key


def _start(programs: Programs, params, key, train, batch_size, *, standardize):
    """What is trained at first, and the units that it is in, None for those of the data."""
    if isinstance(params, Standardized):
        return params.params, (params.location, params.scale)
    if params is not None:
        return params, None
    if train is None:
        return programs.init_from_base(key, batch_size), None
    return _initialised(programs, key, train.batch, standardize)


def _initialised(programs: Programs, key, batch, standardize):
    """`_start` from data: in standardized units, unless the flow makes them itself.

    It does if its first gradient is the same either way.
    """
    first = _first(batch)
    params = programs.init(key, first.x, first.context)
    standardize = standardize and not programs.density.fixed_units
    if not (standardize and first.x.ndim == 2 and jnp.issubdtype(first.x.dtype, jnp.floating)):
        return params, None
    units = _units(batch)
    x = (first.x - units[0]) / units[1]
    standard = programs.init(key, x, first.context)
    if programs.same_start(params, first.x, standard, x, first.context, key):
        return params, None
    return standard, units


def _first(batch: Batch) -> Batch:
    """The examples that parameters are initialised on: drawn evenly by weight, if they have any."""
    n = min(len(batch.x), INITIALISED)
    if batch.weights is None:
        return jax.tree.map(lambda a: a[:n], batch)
    share = np.cumsum(batch.weights, dtype=float)
    index = np.searchsorted(share, (np.arange(n) + 0.5) / n * share[-1])
    return jax.tree.map(lambda a: a[index], batch)


def _units(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the columns, 1 for those that are constant."""
    x = np.asarray(batch.x, float)
    mean = np.average(x, axis=0, weights=batch.weights)
    deviation = np.sqrt(np.average(np.square(x - mean), axis=0, weights=batch.weights))
    varies = deviation > 4 * jnp.finfo(batch.x.dtype).eps * np.abs(mean)
    scale = np.where(varies, deviation, 1.0)
    return jnp.asarray(mean, batch.x.dtype), jnp.asarray(scale, batch.x.dtype)


def _descend(programs: Programs, given, params, train, seed, steps, every, batch_size):
    """Trains; yields the step, examples and losses since the last time, weights and seconds."""
    state = programs.begin(params)
    given = jax.tree.map(jnp.asarray, given)
    for start in range(0, steps, every):
        began, stop = time.perf_counter(), min(start + every, steps)
        chosen = order(train, seed, start, stop, batch_size)
        state, metrics = programs.advance(state, chosen, given)
        losses = np.asarray(metrics["loss"])
        yield stop, chosen, losses, state.weights("ema"), time.perf_counter() - began


class _Evaluation:
    """Log-probabilities of examples, some thousand at a time."""

    def __init__(self, density: Density, log_prob: Any, key: jax.Array, untrained: Any):
        self._density, self._log_prob = density, log_prob
        self._key, self._untrained = key, untrained

    def log_prob(self, params: Any, examples: Examples) -> np.ndarray:
        parts = [
            examples.take(slice(start, start + EVALUATED)).batch
            for start in range(0, len(examples), EVALUATED)
        ]
        return np.concatenate([self._log_prob(params, p.x, p.context, self._key) for p in parts])

    def mean(self, params: Any, examples: Examples) -> float:
        """The weighted mean of -log_prob, in nats."""
        log_p = self.log_prob(params, examples).astype(float)
        return -float(np.average(log_p, weights=examples.batch.weights))

    def check(self, examples: Examples) -> None:
        """Raises `ValueError` that names the first example without a density before training."""
        log_p = self.log_prob(self._untrained, examples)
        bad = np.flatnonzero(~np.isfinite(log_p))
        if not len(bad):
            return
        first = examples.take(bad[:1])
        row, x = f"row {first.rows[0]} of {examples.name}", first.batch
        try:  # outside jit, where flows and bases say what they do not take
            self._density.log_prob(self._untrained, x.x, x.context, self._key)
        except ValueError as error:
            raise ValueError(f"{row}: {error}") from error
        raise ValueError(
            f"{examples.name} must have a density, got log p = {log_p[bad[0]]} for row"
            f" {first.rows[0]} before any training, and for {len(bad)} of {len(log_p)} rows in all:"
            " is it inside the support of the flow and the base, and its context in range?"
        )


def _failure(objective, given, untrained, evaluation, train, before, order, losses) -> Exception:
    """What to raise for the first of `losses` that is not finite, after `before` steps."""
    at = int(np.flatnonzero(~np.isfinite(losses))[0])
    if train is not None:
        evaluation.check(train.take(order[at]))  # raises, if the data are to blame
    step = f"step {before + at + 1}: loss {losses[at]}"
    same = objective(given, untrained, order[at], jnp.asarray(before + at))[0]
    if np.isfinite(same):
        return FloatingPointError(
            f"{step}, and {same:.4g} on the same batch before training: {_GENTLER}"
        )
    return FloatingPointError(
        f"{step}, and so before training: the loss itself, or the target in it, is not finite on"
        " this batch or these samples; no learning rate can help"
    )
