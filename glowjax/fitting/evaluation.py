"""What `fit` evaluates as it goes, what it keeps, and what it says where training fails."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.densities.density import Density
from glowjax.fitting.programs import copies
from glowjax.fitting.rows import Examples

EVALUATED = 4096  # examples at a time
GENTLER = "a lower learning rate, or clipping of gradients, may help"


class Kept:
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
            raise FloatingPointError(never_finite(self.history))


def never_finite(history: list[dict[str, float]]) -> str:
    """Says so of the evaluations."""
    return (
        f"validation was finite at none of the {len(history)} evaluations, the last of which gave"
        f" {history[-1]['validation']}: {GENTLER}"
    )


class Evaluation:
    """Log-probabilities of examples, some thousand at a time."""

    def __init__(
        self,
        density: Density,
        log_prob: Any,
        key: jax.Array,
        untrained: Any,
        train: Examples | None,
    ):
        self._density, self._log_prob = density, log_prob
        self._key, self._untrained, self._train = key, untrained, train

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
        if self._train is not None and self._train.batch.x is not None:  # what untrained is made of
            self._refuse(self._train.take(slice(EVALUATED)))
        self._refuse(examples.take(bad[:EVALUATED]))
        raise ValueError(
            f"{examples.name} must have a density, got log p = {log_p[bad[0]]} for row"
            f" {examples.rows[bad[0]]} before any training, and for {len(bad)} of"
            f" {len(log_p)} rows in all: is it inside the support of the flow and the base, and its"
            " context in range?"
        )

    def _refuse(self, examples: Examples) -> None:
        """Raises what a flow or base says of the first of the examples that it does not take.

        It is said outside jit alone, and looked for by halves.
        """
        x, n = examples.batch, len(examples)
        try:
            self._density.log_prob(self._untrained, x.x, x.context, self._key)
        except ValueError as error:
            if n == 1:
                row = f"row {examples.rows[0]} of {examples.name}"
                raise ValueError(f"{row}: {error}") from error
            self._refuse(examples.take(slice(n // 2)))
            self._refuse(examples.take(slice(n // 2, None)))


def failure(objective, given, untrained, evaluation, train, before, order, losses) -> Exception:
    """What to raise for the first of `losses` that is not finite, after `before` steps."""
    at = int(np.flatnonzero(~np.isfinite(losses))[0])
    if train is not None:
        evaluation.check(train.take(order[at]))  # raises, if the data are to blame
    step = f"step {before + at + 1}: loss {losses[at]}"
    same = objective(given, untrained, order[at], jnp.asarray(before + at))[0]
    if np.isfinite(same):
        return FloatingPointError(
            f"{step}, and {same:.4g} on the same batch before training: {GENTLER}"
        )
    return FloatingPointError(
        f"{step}, and so before training: the loss itself, or the target in it, is not finite on"
        " this batch or these samples; no learning rate can help"
    )
