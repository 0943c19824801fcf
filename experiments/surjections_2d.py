"""Surjections on two sets of the plane: noise columns that help, and symmetries that are known.

    python -m experiments.surjections_2d

Flows of affine couplings, with linear maps between them, model each set four ways. "Plain" is the
flow alone. "Augmented" gives it two more columns of noise, as VFlow does; its nets are narrower, so
that it has no more parameters. "Folded" lets it see |x| of eight Gaussians, which are symmetric
about both axes, and the checkerboard in order, x_1 < x_2, since it is symmetric about its diagonal.
The last are the affine couplings of zuko, plain. Flows of 2 couplings see the same 20,000 points
for 1,000 steps of 256: few, since deep ones need no help. Figures are the mean log-likelihood of
2,000 other points in nats, over three seeds; of the augmented flow it is a bound from below, here
with 100 draws a point, and in brackets with one. Install zuko by `pip install 'glowjax[bench]'`, or
it is left out.

Time: TODO
Expected: TODO
Source: Chen et al. 2020 (VFlow), section 4.1; Nielsen et al. 2020 (SurVAE flows), section 5.1.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import glowjax
from experiments import common
from experiments.monotone_2d import in_units
from experiments.monotone_peers import Budget, trained_by_zuko
from glowjax import plots, preprocess, surjections, toy
from glowjax.densities import targets

EXTENT = (-5.0, 5.0)
EXTRA = 2  # columns of noise
LogP = Callable[[Any], Any]  # [N, 2] -> [N], nats


class Sizes(NamedTuple):
    """What all models have alike."""

    couplings: int
    width: int
    training: int
    rate: float = 3e-3


def main(run: common.Run) -> common.Figures:
    n, points = run.size(20_000, 300), run.size(150, 20)
    sizes = Sizes(couplings=2, width=run.size(64, 8), training=run.size(1000, 3))
    x, _ = targets.grid(EXTENT, points)
    figures: common.Figures = {}
    panels, samples = {}, {}
    for name, data in SETS.items():
        keys = jax.random.split(jax.random.key(run.seed))
        train, test = (np.asarray(data.draw(key, n)) for key in keys)
        test = test[:2000]
        figures[f"{name}, truth"] = f"{np.mean(data.truth(test)):.3f}"
        panels[name], samples[name] = np.full((points, points), -np.inf), train[:5000]
        for kind, model in models(data, sizes).items():
            row = f"{name}, {kind}"
            figures[row], log_p = measured(model, train, test, sizes, run)
            panels[row] = log_p(x).reshape(points, points)
        if importlib.util.find_spec("zuko"):
            row = f"{name}, plain of zuko"
            figures[row] = common.mean(peers(train, test, sizes, run))
    plots.density_2d(
        run.folder / "surjections_2d.png",
        panels,
        extent=EXTENT,
        samples=samples,
        points=points,
        columns=4,
    )
    return figures


def uniform_on_squares(x: np.ndarray) -> np.ndarray:
    """The log-density of `toy.checkerboard`: eight squares of side 2."""
    return np.full(len(x), -np.log(32.0))


class Set(NamedTuple):
    """Data of the plane, their log-density, and the surjection that knows their symmetry."""

    draw: Callable[..., jax.Array]
    truth: LogP
    fold: glowjax.Surjection
    support: glowjax.Flow  # of what it makes


SETS = {
    "eight Gaussians": Set(
        toy.eight_gaussians,
        targets.circular_gaussians(8).log_prob,
        surjections.absolute_value(),
        preprocess.softplus(),
    ),
    "checkerboard": Set(
        toy.checkerboard,
        uniform_on_squares,
        surjections.sorting(),
        preprocess.ordered(),
    ),
}


def couplings(sizes: Sizes, width: int) -> glowjax.Flow:
    step = glowjax.chain(
        actnorm=glowjax.as_flow(glowjax.ActNorm()),
        mixing=glowjax.as_flow(glowjax.InvertibleConv1x1("lu")),
        coupling=glowjax.as_flow(
            glowjax.AffineCoupling(functools.partial(glowjax.MLP, width=width), scale="tanh")
        ),
    )
    return glowjax.repeat(step, sizes.couplings)


def models(data: Set, sizes: Sizes) -> dict[str, glowjax.Density]:
    plain = couplings(sizes, sizes.width)
    wide = glowjax.density(couplings(sizes, sizes.width - 2 * EXTRA), (2 + EXTRA,))
    folded = glowjax.density(glowjax.chain(data.support, plain), (2,))
    return {
        "plain": glowjax.density(plain, (2,)),
        "augmented": glowjax.generative_surjection(wide, surjections.slicing(EXTRA)),
        "folded": glowjax.inference_surjection(folded, data.fold),
    }


def measured(
    model: glowjax.Density, train: np.ndarray, test: np.ndarray, sizes: Sizes, run: common.Run
) -> tuple[str, LogP]:
    """Log-likelihoods of several seeds as text, and the log-density of the last."""
    optimizer = common.clipped(sizes.rate, sizes.training)
    draws = run.size(100, 3)
    many, one = log_density(model, draws), log_density(model, 1)
    scores, of_one, params = [], [], None
    for seed in seeds(run):
        params = glowjax.fit(
            model,
            train,
            validation=None,
            steps=sizes.training,
            optimizer=optimizer,
            seed=seed,
            show=False,
        ).params
        scores.append(np.mean(many(params, test)))
        of_one.append(np.mean(one(params, test)))
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    more = f" ({common.mean(of_one)})" if model.bound else ""
    text = f"{common.mean(scores)}{more}; {size:,} parameters"
    return text, lambda x: np.asarray(many(params, x))


def log_density(model: glowjax.Density, draws: int) -> Callable[..., jax.Array]:
    """ln p, or where the model has a bound, its estimate of so many draws, of params and x."""

    @jax.jit
    def of(params, x):
        if not model.bound:
            return model.log_prob(params, x)
        key = jax.random.key(0)
        return glowjax.importance_weighted_log_prob(model, params, x, key, draws)

    return of


def peers(train: np.ndarray, test: np.ndarray, sizes: Sizes, run: common.Run) -> list[float]:
    budget = Budget(
        layers=sizes.couplings,
        width=sizes.width,
        block_width=1,
        depth=2,
        steps=sizes.training,
        batch=256,
        rate=sizes.rate,
        block_rate=sizes.rate,
    )
    fit = trained_by_zuko("RealNVP", budget)
    return [float(in_units(fit, train, seed)(test).mean()) for seed in seeds(run)]


def seeds(run: common.Run) -> range:
    return range(run.seed, run.seed + run.size(3, 2))


if __name__ == "__main__":
    common.run(main)
