"""Flows of zuko, FlowJAX and normflows, trained as those of glowjax in experiments of the plane.

Their own defaults say how a layer is made, unless an experiment says otherwise; layers, nets,
steps, batches and rates are those of the experiment. A library that is not installed is left out.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import common

LogP = Callable[[np.ndarray], np.ndarray]  # [N, 2] -> [N], nats
Fit = Callable[[np.ndarray, int], LogP]  # of data of unit scale, from a seed


class Budget(NamedTuple):
    """What all flows have alike."""

    layers: int
    width: int  # of the nets' hidden layers
    depth: int
    steps: int
    batch: int
    rate: float
    block_width: int = 0  # of the hidden layers of BNAF, for each number
    block_rate: float = 0.0  # of BNAF, whose own weights are trained, and no net's that gives them

    def batches(self, x: np.ndarray, seed: int) -> Iterator[np.ndarray]:
        """Rows of x, drawn anew for each step."""
        rng = np.random.default_rng(seed)
        return (x[rng.integers(len(x), size=self.batch)] for _ in range(self.steps))


def peers(budget: Budget) -> dict[str, Fit]:
    """What trains the monotone maps of the libraries that are installed, by their names.

    zuko's UNAF is left out, since its steps take eight times as long as those of its NAF;
    `peers_2d` has it.
    """
    found: dict[str, Fit] = {}
    if importlib.util.find_spec("zuko"):
        names = {
            "splines, zuko": "NSF",
            "Bernstein, zuko": "BPF",
            "sum of squares, zuko": "SOSPF",
            "NAF, zuko": "NAF",
        }
        nets = {"hidden_features": [budget.width] * budget.depth}
        found = {shown: trained_by_zuko(name, budget, **nets) for shown, name in names.items()}
    if importlib.util.find_spec("flowjax"):
        found["BNAF, FlowJAX"] = trained_by_flowjax(
            "block_neural_autoregressive_flow",
            budget,
            budget.block_rate,
            nn_depth=budget.depth,
            nn_block_dim=budget.block_width,
        )
    return found


def gaussianizing_peers(
    budget: Budget, layers: int, components: int, rate: float
) -> dict[str, Fit]:
    """zuko's Gaussianization flow, by a rate of its own, and FlowJAX's autoregressive splines."""
    found: dict[str, Fit] = {}
    if importlib.util.find_spec("zuko"):
        given = budget._replace(layers=layers, rate=rate)
        found["Gaussianization, zuko"] = trained_by_zuko("GF", given, components=components)
    if importlib.util.find_spec("flowjax"):
        from flowjax.bijections import RationalQuadraticSpline

        found["splines, FlowJAX"] = trained_by_flowjax(
            "masked_autoregressive_flow",
            budget,
            budget.rate,
            transformer=RationalQuadraticSpline(knots=8, interval=5),
            nn_width=budget.width,
            nn_depth=budget.depth,
        )
    return found


def trained_by_zuko(name: str, budget: Budget, **options: Any) -> Fit:
    """`zuko.flows.NSF` and the like; without layers, `CNF`, which has none."""
    from zuko import flows

    layers = {"transforms": budget.layers} if budget.layers else {}

    def make():
        model: Any = getattr(flows, name)(features=2, **layers, **options)
        return model, lambda x: model().log_prob(x)

    return _trained_by_torch(make, budget)


def trained_by_normflows(layer: Callable[[], Any], budget: Budget) -> Fit:
    """Layers of normflows, each from a call of `layer`.

    After each step, five more iterations find the largest singular values of Lipschitz nets, as
    many as these nets have by default.
    """
    import normflows

    def make():
        base = normflows.distributions.DiagGaussian(2, trainable=False)
        layers = [layer() for _ in range(budget.layers)]
        model = normflows.NormalizingFlow(base, layers)
        return model, model.log_prob

    return _trained_by_torch(make, budget, lambda model: normflows.utils.update_lipschitz(model, 5))


def _trained_by_torch(
    make: Callable[[], tuple[Any, Callable]],
    budget: Budget,
    after_step: Callable[[Any], None] = lambda model: None,
) -> Fit:
    """By torch's Adam; `make` gives a model and its ln p."""
    import torch

    def train(x: np.ndarray, seed: int) -> LogP:
        torch.set_num_threads(1)  # such small arrays take longer on several
        torch.manual_seed(seed)
        model, log_prob = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=budget.rate)

        def fall(step):
            return (1 + math.cos(math.pi * step / budget.steps)) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, fall)
        for batch in budget.batches(x, seed):
            optimizer.zero_grad(set_to_none=True)
            (-log_prob(torch.as_tensor(batch)).mean()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            after_step(model)
        model.eval()

        def log_p(x):
            with torch.no_grad():
                return log_prob(torch.tensor(np.asarray(x, np.float32))).numpy()

        return log_p

    return train


def trained_by_flowjax(name: str, budget: Budget, rate: float, **options: Any) -> Fit:
    """`flowjax.flows.block_neural_autoregressive_flow` and the like, by optax.

    All seeds are compiled once.
    """
    import equinox
    import paramax
    from flowjax import distributions, flows

    optimizer = common.clipped(rate, budget.steps)

    def log_prob(params, static, x):
        return paramax.unwrap(equinox.combine(params, static)).log_prob(x)

    @equinox.filter_jit
    def step(params, static, state, batch):
        gradient = jax.grad(lambda params: -log_prob(params, static, batch).mean())(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    of_rows = equinox.filter_jit(log_prob)

    def train(x: np.ndarray, seed: int) -> LogP:
        made = getattr(flows, name)(
            jax.random.key(seed),
            base_dist=distributions.Normal(jnp.zeros(2)),
            flow_layers=budget.layers,
            **options,
        )
        params, static = equinox.partition(
            made,
            equinox.is_inexact_array,
            is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
        )
        state = optimizer.init(params)
        for batch in budget.batches(x, seed):
            params, state = step(params, static, state, batch)
        return lambda x: np.asarray(of_rows(params, static, x))

    return train
