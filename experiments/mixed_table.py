"""A table of two numbers and two categories, whose true density is known.

    python -m experiments.mixed_table

The first category has five values with points on a circle, in an order of its own, so that codes
that are neighbours are not near; the second has four, which depend on the first and set the width
of the points. Five models see the same 20,000 rows, for 1,000 steps of 256. "Argmax" is
`surjections.mixed_density`. "Uniform noise" rounds numbers to codes. Both flows are of all columns
at once, so that they can answer any question of the table, and have bounds, here with 100 draws a
row. "By category" is a flow of the numbers given the categories, times the frequencies of the 20
pairs; it is exact, and possible since 20 are few. The last two are the spline flow of zuko, given
the categories, and without them, as if columns of numbers and categories had nothing to do with
each other. Figures are means over 3,000 other rows in nats, less the truth, over three seeds.
Install zuko by `pip install 'glowjax[bench]'`, or it is left out.

Time: 8 min on 2 busy CPU cores with zuko.
Expected: with so few pairs, the flow by category is best: within 0.02 nats of the truth, and level
with zuko's. Of those of all columns, uniform noise is 0.16 below the truth and argmax 0.29, also
though codes have no order. Without the categories 1.8 nats are lost.
Source: Hoogeboom et al. 2021, section 3; Uria et al. 2013 (uniform noise).
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import glowjax
from experiments import common
from glowjax import plots, surjections

FIRST, SECOND = 5, 4
ORDER = np.array([0, 2, 4, 1, 3])  # where the points of a value are, on the circle
LogP = Callable[[np.ndarray], np.ndarray]  # [N, 4] -> [N], nats
WIDTHS = np.array([0.1, 0.2, 0.35, 0.5])  # of the distance from the centre, by the second category
SPREADS = np.array([0.1, 0.3, 0.2, 0.1])  # of the angle
SHARES = np.array([0.3, 0.1, 0.2, 0.1, 0.3])
GIVEN = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.2, 0.6]])[
    [0, 1, 2, 0, 1]
]
RADIUS = 3.0


def table(seed: int, n: int) -> np.ndarray:
    """`[n, 4]`: two numbers, the first category and the second."""
    rng = np.random.default_rng(seed)
    first = rng.choice(FIRST, size=n, p=SHARES)
    second = np.argmax(rng.random((n, 1)) < np.cumsum(GIVEN, axis=1)[first], axis=1)
    angle = ORDER[first] * 2 * np.pi / FIRST + SPREADS[second] * rng.normal(size=n)
    radius = RADIUS + WIDTHS[second] * rng.normal(size=n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), first, second], axis=1)


def truth(rows: np.ndarray) -> np.ndarray:
    """ln p of numbers and categories. It leaves out radii below 0, of probability 1e-9."""
    first, second = rows[:, 2].astype(int), rows[:, 3].astype(int)
    radius = np.hypot(rows[:, 0], rows[:, 1])
    angle = np.arctan2(rows[:, 1], rows[:, 0]) - ORDER[first] * 2 * np.pi / FIRST
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    squares = ((radius - RADIUS) / WIDTHS[second]) ** 2 + (angle / SPREADS[second]) ** 2
    log_scale = np.log(2 * np.pi * WIDTHS[second] * SPREADS[second] * radius)
    return np.log(SHARES[first] * GIVEN[first, second]) - squares / 2 - log_scale


def main(run: common.Run) -> common.Figures:
    train, test = table(run.seed, run.size(20_000, 300)), table(run.seed + 1, run.size(3000, 200))
    true = truth(test).mean()
    figures: common.Figures = {"truth": f"{true:.3f}"}
    panels = {"data": train[:2000]}
    seeds = range(run.seed, run.seed + run.size(3, 2))
    for name, model in models(run).items():
        fit, log_p = fitting(model, train, run), log_density(model, train, run)
        params = [fit(seed) for seed in seeds]
        figures[f"{name}, less the truth"] = common.mean(
            [log_p(p, test).mean() - true for p in params]
        )
        panels[name] = sampled(model, params[-1], train)
    if importlib.util.find_spec("zuko"):
        for name, given in (("by category, zuko", True), ("apart, zuko", False)):
            fits = (by_zuko(train, seed, run, given=given)(test) for seed in seeds)
            figures[f"{name}, less the truth"] = common.mean([f.mean() - true for f in fits])
    plots.scatter_2d(
        run.folder / "mixed_table.png",
        {name: rows[:, :2] for name, rows in panels.items()},
        groups={name: rows[:, 2].astype(int) for name, rows in panels.items()},
        extent=(-5.0, 5.0),
    )
    return figures


def flow(run: common.Run) -> glowjax.Flow:
    return glowjax.neural_spline_flow(steps=4, width=run.size(64, 8))


def models(run: common.Run) -> dict[str, glowjax.Density]:
    """Those of numbers and categories, and last the one of numbers given the categories."""
    codes = (surjections.rounding(FIRST), surjections.rounding(SECOND))
    table_of_codes = surjections.columnwise((None, 2), *codes)
    return {
        "argmax": surjections.mixed_density(flow(run), (None, None, FIRST, SECOND)),
        "uniform noise": glowjax.generative_surjection(
            glowjax.density(flow(run), (4,)), table_of_codes
        ),
        "by category": glowjax.density(flow(run), (2,)),
    }


def fitting(model: glowjax.Density, train: np.ndarray, run: common.Run) -> Callable[[int], Any]:
    """What trains a model from a seed; an exact one is of the numbers, given the categories."""
    x, context = (train, None) if model.bound else (train[:, :2], one_hot(train))
    steps = run.size(1000, 3)
    optimizer = common.clipped(3e-3, steps)

    def fit(seed):
        return glowjax.fit(
            model,
            x,
            context=context,
            validation=None,
            steps=steps,
            optimizer=optimizer,
            seed=seed,
            show=False,
        ).params

    return fit


def log_density(
    model: glowjax.Density, train: np.ndarray, run: common.Run
) -> Callable[[Any, np.ndarray], np.ndarray]:
    """ln p of params and rows; of an exact model with the frequencies of the categories."""
    if model.bound:
        key, draws = jax.random.key(0), run.size(100, 3)
        weighted = glowjax.importance_weighted_log_prob
        bound = jax.jit(lambda params, x: weighted(model, params, x, key, draws))
        return lambda params, rows: np.asarray(bound(params, rows))
    exact = jax.jit(model.log_prob)
    return lambda params, rows: (
        np.asarray(exact(params, rows[:, :2], one_hot(rows))) + frequencies(train, rows)
    )


def sampled(model: glowjax.Density, params: Any, train: np.ndarray, n: int = 2000) -> np.ndarray:
    """`[n, 4]`, of an exact model with categories drawn from the data."""
    key = jax.random.key(0)
    if model.bound:
        return np.asarray(jax.jit(lambda params: model.sample(params, key, n))(params))
    rows = train[np.random.default_rng(0).integers(len(train), size=n)]
    draw = jax.jit(lambda params, context: model.sample(params, key, n, context=context))
    return np.concatenate([draw(params, one_hot(rows)), rows[:, 2:]], axis=1)


def one_hot(rows: np.ndarray) -> np.ndarray:
    """The categories of rows, `[N, 9]`."""
    columns = zip(rows[:, 2:].T, (FIRST, SECOND), strict=True)
    return np.concatenate([np.eye(k, dtype=np.float32)[c.astype(int)] for c, k in columns], axis=1)


def frequencies(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """ln of the share of each row's pair of categories, with one row added to each pair."""
    pairs, wanted = (r[:, 2].astype(int) * SECOND + r[:, 3].astype(int) for r in (train, rows))
    counts = np.bincount(pairs, minlength=FIRST * SECOND) + 1
    return np.log(counts / counts.sum())[wanted]


def by_zuko(train: np.ndarray, seed: int, run: common.Run, *, given: bool) -> LogP:
    """zuko's `NSF` of the numbers, given the categories or not, times their frequencies."""
    import torch
    from zuko.flows import NSF

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    width, steps = run.size(64, 8), run.size(1000, 3)
    model = NSF(
        features=2,
        context=FIRST + SECOND if given else 0,
        transforms=3,
        hidden_features=[width] * 2,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scale = train[:, :2].std(axis=0)

    def log_prob(rows):
        context = torch.as_tensor(one_hot(rows)) if given else None
        numbers = torch.as_tensor((rows[:, :2] / scale).astype(np.float32))
        return model(context).log_prob(numbers)

    rng = np.random.default_rng(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        (-log_prob(train[rng.integers(len(train), size=256)]).mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()

    def log_p(rows):
        with torch.no_grad():
            numbers = log_prob(rows).numpy() - np.log(scale).sum()
        return numbers + frequencies(train, rows)

    return log_p


if __name__ == "__main__":
    common.run(main)
