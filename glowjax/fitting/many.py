"""`fit_many`: fits of several seeds side by side, in one compiled loop."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.checks import check_integer, check_positive, require
from glowjax.densities.density import Density
from glowjax.fitting.evaluation import EVALUATED, Evaluation, failure, never_finite
from glowjax.fitting.fit import (
    Fitted,
    averaging,
    check_needs,
    checked_optimizer,
    evaluation_interval,
)
from glowjax.fitting.programs import Given, Programs, programs_of, whole_params
from glowjax.fitting.rows import Examples, divided, order, whole_of
from glowjax.fitting.start import chosen, first_params_of_many, stacked
from glowjax.progress import progress


def fit_many(
    density: Density,
    data: Any = None,
    *,
    seeds: Sequence[int],
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
    show: bool = True,
) -> list[Fitted]:
    """`fit` from each of several seeds, all at once: an ensemble for little more than one fit.

        fits = fit_many(model, x, seeds=range(8))
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[each.params for each in fits])
        log_p = jax.vmap(model.log_prob, (0, None))(params, x)  # [8, B]

    Each seed has its own initial parameters, order, held-out part and best step, as `fit` has them
    for that seed, and gives the same result but for rounding. A seed without better parameters for
    `patience` evaluations is done: its result no longer changes. Training ends when all are done.

    Args:
        density, data, loss, context, weights, validation, steps, batch_size, optimizer, decay,
            evaluate_every, patience, show: see `fit`. All seeds have one data set.
        seeds: one at least, all different.

    Returns:
        What `fit` returns, of each seed; seconds are those of all together.

    Raises:
        ValueError: seeds are not as above; else as `fit`.
        FloatingPointError: as `fit`, with the seed.

    Examples:
        >>> model = glowjax.density(glowjax.as_flow(glowjax.Planar()), event_shape=(2,))
        >>> x = jax.random.normal(jax.random.key(0), (100, 2))
        >>> fits = glowjax.fit_many(model, x, seeds=range(3), steps=4, show=False)
        >>> len(fits), fits[0].params.params["u"].shape  # beside the data's units
        (3, (2,))
    """
    check_positive(steps=steps, batch_size=batch_size)
    seeds = _checked_seeds(seeds)
    whole = whole_of(data, context, weights)
    parts = [divided(whole, validation, seed) for seed in seeds]
    train, held_out = parts[0]
    one_pass = math.ceil(len(train) / batch_size) if train and held_out else steps
    every = evaluation_interval(evaluate_every, steps, one_pass)
    check_needs(held_out, data, loss, patience)

    began = time.perf_counter()
    programs = programs_of(
        density, loss, checked_optimizer(optimizer, steps), averaging(decay, held_out)
    )
    fits = _Fits(programs, whole, parts, seeds, batch_size, is_likelihood=loss is None)
    kept = _Kept(fits.whole(fits.first), len(seeds), patience and patience * every)
    with progress(steps) if show else contextlib.nullcontext(lambda step, text: None) as advanced:
        for step, losses, average, seconds in fits.descend(kept, steps, every):
            rows = {"loss": losses.mean(axis=1)}
            trained = fits.whole(average)
            if held_out:
                rows["validation"] = fits.validate(trained)
            means = [f"{name} {np.mean(rows[name][kept.training]):.4f}" for name in rows]
            speed = f"{losses.shape[1] / seconds:,.0f} steps/s"
            advanced(step, ", ".join([*means, f"{sum(kept.training)} seeds", speed]))
            if not kept.add(step, rows, trained):
                break
    return kept.results(seeds, time.perf_counter() - began)


def _checked_seeds(seeds) -> list[int]:
    seeds = list(seeds)
    for seed in seeds:
        check_integer("seeds", seed, 0, 2**32 - 1)
    require(seeds and len(set(seeds)) == len(seeds), "seeds", seeds, "one at least, all different")
    return [int(seed) for seed in seeds]


class _Fits:
    """The fits of all seeds: what is trained has a leading axis of as many as there are seeds."""

    def __init__(
        self,
        programs: Programs,
        whole: Examples | None,
        parts: list[tuple[Examples | None, Examples | None]],
        seeds: list[int],
        batch_size: int,
        *,
        is_likelihood: bool,
    ):
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        self.first, units = first_params_of_many(
            programs, keys, [train for train, _ in parts], batch_size, standardize=is_likelihood
        )
        self._programs, self._whole, self._parts, self._seeds = programs, whole, parts, seeds
        self._batch_size, self._is_likelihood = batch_size, is_likelihood
        self._given = Given(whole.batch if whole else None, keys, units)
        self._held_out: Any = None
        held_out = [part for _, part in parts if part]
        if held_out:
            for member, part in enumerate(held_out):
                self._evaluation(member).check(part)
            self._held_out = stacked([part.batch for part in held_out])

    def whole(self, params) -> Any:
        """The density's parameters, of those that are trained."""
        return whole_params(self._given.units, params)

    def descend(self, kept: "_Kept", steps: int, every: int):
        """Trains; yields the step, losses `[seeds, steps]`, the parameters and seconds."""
        state = self._programs.begin_many(self.first)
        for start in range(0, steps, every):
            began, stop = time.perf_counter(), min(start + every, steps)
            chosen = np.stack([self._order(member, start, stop) for member in range(len(kept))])
            state, metrics = self._programs.advance_many(state, chosen, self._given)
            losses = np.asarray(metrics["loss"])
            bad = np.flatnonzero(kept.training & ~np.isfinite(losses).all(axis=1))
            if len(bad):
                raise self._failure(bad[0], start, stop, losses[bad[0]])
            yield stop, losses, state.weights("ema"), time.perf_counter() - began

    def validate(self, params) -> np.ndarray:
        """Of each seed, the weighted mean of -log_prob of its held-out examples, in nats."""
        held_out, size = self._held_out, max(1, EVALUATED // len(self._seeds))
        count = held_out.x.shape[1]
        pieces = [
            jax.tree.map(lambda a: a[:, start : start + size], held_out)  # noqa: B023
            for start in range(0, count, size)
        ]
        log_p = [
            self._programs.log_prob_many(params, p.x, p.context, self._given.key) for p in pieces
        ]
        log_p = np.concatenate(log_p, axis=1).astype(float)
        return -np.average(log_p, axis=1, weights=held_out.weights)

    def _order(self, member: int, start: int, stop: int) -> np.ndarray:
        """The rows of the whole data that each step of a seed sees."""
        train = self._parts[member][0]
        chosen = order(train, self._seeds[member], start, stop, self._batch_size)
        return train.rows[chosen].astype(np.int32) if train else chosen

    def _evaluation(self, member: int) -> Evaluation:
        params = _member(self.whole(self.first), member)
        programs, key = self._programs, self._given.key[member]
        train, _ = self._parts[member]
        return Evaluation(programs.density, programs.log_prob, key, params, train)

    def _failure(self, member: int, start: int, stop: int, losses) -> Exception:
        key, units = _member(self._given[1:], member)
        error = failure(
            self._programs.objective,
            Given(self._given.batch, key, units),
            _member(self.first, member),
            self._evaluation(member),
            self._whole if self._is_likelihood else None,
            start,
            self._order(member, start, stop),
            losses,
        )
        return type(error)(f"seed {self._seeds[member]}: {error}")


class _Kept:
    """The best parameters of each seed so far, and its history of evaluations.

    Attributes:
        training: which seeds are not done.
    """

    def __init__(self, params: Any, count: int, patience: int | None):
        self.training = np.full(count, True)
        self._params, self._patience = params, patience
        self._lowest, self._step = np.full(count, np.inf), np.zeros(count, int)
        self._histories: list[list[dict[str, float]]] = [[] for _ in range(count)]

    def __len__(self) -> int:
        return len(self.training)

    def add(self, step: int, rows: dict[str, np.ndarray], params: Any) -> bool:
        """Takes an evaluation of all seeds; whether one of them should go on."""
        for member in np.flatnonzero(self.training):
            row = {name: float(values[member]) for name, values in rows.items()}
            self._histories[member].append({"step": step} | row)
        values = rows.get("validation", np.full(len(self), -float(step)))
        better = self.training & (values < self._lowest)
        self._params = chosen(better, params, self._params)
        self._lowest, self._step = (
            np.where(better, values, self._lowest),
            np.where(better, step, self._step),
        )
        if self._patience is not None:
            self.training &= step - self._step < self._patience
        return bool(self.training.any())

    def results(self, seeds: list[int], seconds: float) -> list[Fitted]:
        """What `fit_many` returns. Raises `FloatingPointError` if a seed has nothing to return."""
        for member in np.flatnonzero(self._step == 0):
            raise FloatingPointError(
                f"seed {seeds[member]}: {never_finite(self._histories[member])}"
            )
        params = _unstacked(self._params, len(self))
        fits = zip(params, self._histories, self._step, strict=True)
        return [Fitted(p, history, int(step), seconds) for p, history, step in fits]


@functools.partial(jax.jit, static_argnums=1)
def _unstacked(tree: Any, count: int) -> list:
    return [jax.tree.map(lambda leaf: leaf[i], tree) for i in range(count)]  # noqa: B023


def _member(tree: Any, member: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[member], tree)
