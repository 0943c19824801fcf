"""One step of training, whatever is trained: gradient, optimiser, running average."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from glowjax.fitting.optim import ema


class TrainState(NamedTuple):
    """All that a run needs to go on: the next step's number, weights, their average, optimiser."""

    step: jax.Array
    params: Any
    average: Any
    optimizer: Any

    def weights(self, which: str) -> Any:
        """The `"ema"` (running average) or the `"raw"` parameters."""
        if which == "raw" or self.average is None:
            return self.params
        return self.average


class Descent(NamedTuple):
    """init(params) -> state; step(state, batch) -> (state, metrics)."""

    init: Callable[[Any], TrainState]
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]


def descent(
    objective: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
    optimizer: optax.GradientTransformation,
    *,
    decay: float | None = None,
    axis_name: str | None = None,
) -> Descent:
    """Gradient descent on `objective(params, batch, step) -> (loss, metrics)`.

    Args:
        objective: of one batch; `step` is the number of steps done before.
        optimizer: optax's; one that looks at the loss (reduce_on_plateau, lbfgs) is given it.
        decay: of the running average of the parameters (`optim.ema`); None keeps none.
        axis_name: of the mapped axis over which gradients and metrics are averaged; None: none.

    Metrics gain `gradient_norm`.
    """

    optimizer = optax.with_extra_args_support(optimizer)

    def averaged(tree):
        return tree if axis_name is None else lax.pmean(tree, axis_name)

    def init(params):
        # A copy: state is donated, and no buffer can be donated twice.
        average = None if decay is None else jax.tree.map(jnp.copy, params)
        return TrainState(jnp.zeros((), jnp.int32), params, average, optimizer.init(params))

    def step(state, batch):
        def loss_of(params):
            return averaged(objective(params, batch, state.step)[0])

        with_gradient = jax.value_and_grad(objective, has_aux=True)
        (loss, metrics), gradients = averaged(with_gradient(state.params, batch, state.step))
        metrics = metrics | {"gradient_norm": optax.tree.norm(gradients)}
        updates, optimizer_state = optimizer.update(
            gradients,
            state.optimizer,
            state.params,
            value=loss,
            grad=gradients,
            value_fn=loss_of,
        )
        params: Any = optax.apply_updates(state.params, updates)
        average = state.average
        if decay is not None:
            average = ema(average, params, state.step, decay=decay)
        return TrainState(state.step + 1, params, average, optimizer_state), metrics

    return Descent(init, step)
