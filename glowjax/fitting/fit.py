"""`fit`: trains any density on arrays or towards a target, in one call."""

import contextlib
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.checks import check_positive, require
from glowjax.densities.density import Density
from glowjax.fitting.evaluation import Evaluation, Kept, failure
from glowjax.fitting.programs import Given, Programs, programs_of, whole_params
from glowjax.fitting.rows import order, split
from glowjax.fitting.start import first_params, randomness
from glowjax.progress import progress


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
        context: of each example, arrays `[N, ...]`. Without data a loss sees batches of contexts
            alone: `batch.x` is None.
        weights: of each example, `[N]`, not negative; their mean is made 1. Default: all alike.
        validation: the fraction of data to hold out, drawn by seed; or held-out data `[M, ...]`, or
            a tuple of those, their context (or None) and weights; None or 0: none. Its weighted
            mean of -log_prob, in nats, chooses the best parameters.
        steps: how many, at most.
        batch_size: examples a step.
        optimizer: optax's; default: Adam after clipping gradients to norm 10. Its learning rate
            rises to 0.003 over the first twentieth of the steps, and falls to 0 by a cosine.
        decay: of a running average of the parameters, which then is evaluated and returned; 0:
            none. Default: 0.99 with validation, where it keeps small data from overfitting, else 0.
        evaluate_every: steps between evaluations; default: a twentieth of all, or with validation
            those of one pass over the data, if they are fewer, but at least a hundredth of all.
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
    optimizer = checked_optimizer(optimizer, steps)
    seed, key = randomness(seed, key)
    train, held_out = split(data, context, weights, validation, seed)
    one_pass = math.ceil(len(train) / batch_size) if train and held_out else steps
    every = evaluation_interval(evaluate_every, steps, one_pass)
    check_needs(held_out, data, loss, patience)

    began = time.perf_counter()
    programs = programs_of(density, loss, optimizer, averaging(decay, held_out))
    first, units = first_params(programs, params, key, train, batch_size, standardize=loss is None)
    whole = functools.partial(whole_params, units)
    evaluate = Evaluation(density, programs.log_prob, key, whole(first), train)
    if held_out:
        evaluate.check(held_out)
    given = Given(train.batch if train else None, key, units)
    explain = functools.partial(
        failure, programs.objective, given, first, evaluate, train if loss is None else None
    )
    parts = _descend(programs, given, first, train, seed, steps, every, batch_size)

    kept = Kept(whole(first), None if patience is None else patience * every)
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


def check_needs(held_out: Any, data: Any, loss: Any, patience: Any) -> None:
    """Raises `ValueError` if there is nothing to train on, or nothing to be patient by."""
    require(data is not None or loss, "data", data, "given where no loss is")
    require(held_out or patience is None, "patience", patience, "None without validation")


def evaluation_interval(given: int | None, steps: int, one_pass: int) -> int:
    """Steps between evaluations: those of a pass, but a hundredth to a twentieth of all."""
    if given is not None:
        check_positive(evaluate_every=given)
        return given
    return max(1, steps // 100, min(one_pass, steps // 20))


def averaging(decay: float | None, held_out: Any) -> float | None:
    """The decay of the average, None for none."""
    if decay is None:
        return 0.99 if held_out else None
    return decay or None


def checked_optimizer(optimizer: Any, steps: int) -> Any:
    """The optimizer given, or the default one."""
    import optax  # slow to import

    if optimizer is None:
        return _default_optimizer(steps)
    wanted = "an optax optimizer, such as optax.adam(1e-3)"
    require(isinstance(optimizer, optax.GradientTransformation), "optimizer", optimizer, wanted)
    return optimizer


@functools.cache  # one object, by which programs are remembered
def _default_optimizer(steps):
    import optax

    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 20, steps)
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate))


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
