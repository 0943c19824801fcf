"""Monotone maps of single numbers on a checkerboard, beside splines and other libraries.

    python -m experiments.monotone_2d

Three layers each: masked autoregressive ones, whose nets have 2 hidden layers of 64 and give the
parameters of the map, or block autoregressive ones (BNAF) of 2 hidden layers with 32 units a
number. All see the same 20,000 points for 500 steps of 256 examples; the learning rate falls from
3e-3, and of BNAF from 1e-2. None is chosen on validation. Figures are the mean log-likelihood of
20,000 other points in nats, over seeds of the initial parameters, and the seconds of the processor
for one training, the first of which compiles. The truth has ln(1/32) = -3.466 nats. The flows of
zuko and FlowJAX are those of the same papers, with the maps as these libraries have them by
default; install them by `pip install 'glowjax[bench]'`, or they are left out.

Time: 17 min on 2 busy CPU cores with zuko and FlowJAX: 6 min of one processor.
Expected: splines are ahead of all, by 0.05 to 0.2 nats; each map is ahead of the same one of
another library by 0.03 to 0.3 nats, but for Bernstein polynomials, which are level.
Source: Ramasinghe et al. 2022; Jaini et al. 2019; Huang et al. 2018; Wehenkel & Louppe 2019;
De Cao et al. 2019.
"""

import time

import jax
import numpy as np

import glowjax
from experiments import common
from experiments.peer_fits import Budget, Fit, LogP, peers
from glowjax import plots, toy
from glowjax.densities import targets

EXTENT = (-5.0, 5.0)
MAPS = {
    "splines": glowjax.rational_quadratic(),
    "Bernstein": glowjax.bernstein(),
    "sum of squares": glowjax.sum_of_squares(),
    "NAF": glowjax.deep_sigmoidal(),
    "UMNN": glowjax.unconstrained_monotonic(),
}


def main(run: common.Run) -> common.Figures:
    n, points = run.size(20_000, 300), run.size(300, 20)
    budget = Budget(
        layers=run.size(3, 1),
        width=run.size(64, 8),
        block_width=run.size(32, 4),
        depth=2,
        steps=run.size(500, 3),
        batch=256,
        rate=3e-3,
        block_rate=1e-2,
    )
    own = {name: trained(flow, rate, budget) for name, (flow, rate) in models(budget).items()}
    others = peers(budget)
    keys = jax.random.split(jax.random.key(run.seed))
    train, test = (np.asarray(toy.checkerboard(key, n)) for key in keys)
    x, _ = targets.grid(EXTENT, points)
    figures: common.Figures = {}
    panels = {}
    for name, fit in (own | others).items():
        figures[name], log_p = over_seeds(fit, train, test, run)
        panels[name] = log_p(np.asarray(x)).reshape(points, points)

    white = np.full((points, points), -np.inf)
    rows = {"data": white} | {name: panels[name] for name in own}
    if others:
        rows |= {"held-out data": white} | {name: panels[name] for name in others}
    plots.density_2d(
        run.folder / "monotone_2d.png",
        rows,
        extent=EXTENT,
        samples={"data": train[:5000], "held-out data": test[:5000]} if others else {"data": train},
        points=points,
        columns=1 + len(own),
    )
    return figures


def models(budget: Budget) -> dict[str, tuple[glowjax.Flow, float]]:
    """A flow of each map, and one of `BlockAutoregressive` layers, with their learning rates."""
    steps, width, depth = budget.layers, budget.width, budget.depth
    block = glowjax.BlockAutoregressive(budget.block_width, depth)
    layer = glowjax.chain(*map(glowjax.as_flow, (glowjax.ActNorm(), block, glowjax.Reverse())))
    flows = {
        name: (glowjax.maf(steps=steps, transform=each, width=width, depth=depth), budget.rate)
        for name, each in MAPS.items()
    }
    return flows | {"BNAF": (glowjax.repeat(layer, steps), budget.block_rate)}


def trained(flow: glowjax.Flow, rate: float, budget: Budget) -> Fit:
    """What trains a flow on data from a seed; all seeds are compiled once."""
    model, optimizer = glowjax.density(flow, (2,)), common.clipped(rate, budget.steps)
    log_prob = jax.jit(model.log_prob)

    def train(x: np.ndarray, seed: int) -> LogP:
        params = glowjax.fit(
            model,
            x,
            validation=None,
            steps=budget.steps,
            batch_size=budget.batch,
            optimizer=optimizer,
            seed=seed,
            show=False,
        ).params
        return lambda x: np.asarray(log_prob(params, x))

    return train


def over_seeds(fit: Fit, train: np.ndarray, test: np.ndarray, run: common.Run) -> tuple[str, LogP]:
    """Mean ln p of held-out points with its error and the processor's seconds, and the last fit."""
    scores, seconds = [], []
    for seed in range(run.seed, run.seed + run.size(3, 2)):
        began = time.process_time()
        log_p = in_units(fit, train, seed)
        seconds.append(time.process_time() - began)
        scores.append(log_p(test).mean())
    took = f"{seconds[0]:.0f} s, then {np.mean(seconds[1:]):.0f} s"
    return f"{common.mean(scores)} ({took})", log_p


def in_units(fit: Fit, x: np.ndarray, seed: int) -> LogP:
    """The log-density of a flow that is trained on x with each column at scale."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    log_p = fit((x - mean) / deviation, seed)

    def whole(x):
        parts = np.array_split((x - mean) / deviation, max(1, len(x) // 20_000))
        return np.concatenate([log_p(part) for part in parts]) - np.sum(np.log(deviation))

    return whole


if __name__ == "__main__":
    common.run(main)
