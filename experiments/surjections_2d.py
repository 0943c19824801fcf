"""Surjections on two sets of the plane: noise columns that help, and symmetries that are known.

    python -m experiments.surjections_2d

Flows of affine couplings, with linear maps between them, model each set four ways. "Plain" is the
flow alone. "Augmented" gives it two more columns of noise, as VFlow does; its nets are narrower, so
that it has no more parameters. "Folded" lets it see |x| of eight Gaussians, which are symmetric
about both axes, and the checkerboard in order, x_1 < x_2, since it is symmetric about its diagonal.
The last are the affine couplings of zuko, plain. Flows of 2 and of 8 couplings see the same 20,000
points for 1,000 steps of 256; the picture has those of 2. Figures are the mean log-likelihood of
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
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments import common
from experiments.monotone_2d import in_units
from experiments.monotone_peers import Budget, trained_by_zuko
from glowjax import plots, preprocess, surjections, toy
from glowjax.densities import targets

EXTENT = (-5.0, 5.0)
EXTRA = 2  # columns of noise
LogP = Callable[[np.ndarray], np.ndarray]  # [N, 2] -> [N], nats


class Sizes(NamedTuple):
    """What all models of one depth have alike."""

    couplings: int
    width: int
    training: int
    rate: float = 3e-3


def main(run: common.Run) -> common.Figures:
    n, points = run.size(20_000, 300), run.size(200, 20)
    depths = [
        Sizes(couplings, width=run.size(64, 8), training=run.size(1000, 3))
        for couplings in (2, 8)[: run.size(2, 1)]
    ]
    x, _ = targets.grid(EXTENT, points)
    figures: common.Figures = {}
    panels, samples = {}, {}
    for name, data in SETS.items():
        keys = jax.random.split(jax.random.key(run.seed))
        train, test = (np.asarray(data.draw(key, n)) for key in keys)
        test = test[:2000]
        figures[f"{name}, truth"] = f"{np.mean(data.truth(test)):.3f}"
        panels[name], samples[name] = np.full((points, points), -np.inf), train[:5000]
        for sizes in depths:
            for kind, model in models(data, sizes).items():
                row = f"{name}, {kind}"
                figures[f"{row}, {sizes.couplings} couplings"], log_p = measured(
                    model, train, test, sizes, run
                )
                if sizes is depths[0]:
                    panels[row] = log_p(np.asarray(x)).reshape(points, points)
            if importlib.util.find_spec("zuko"):
                row = f"{name}, plain of zuko, {sizes.couplings} couplings"
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
    every = {
        "plain": glowjax.density(plain, (2,)),
        "augmented": glowjax.generative_surjection(wide, surjections.slicing(EXTRA)),
    }
    if sizes.couplings == 2:
        folded = glowjax.density(glowjax.chain(data.support, plain), (2,))
        every["folded"] = glowjax.inference_surjection(folded, data.fold)
    return every


def measured(
    model: glowjax.Density, train: np.ndarray, test: np.ndarray, sizes: Sizes, run: common.Run
) -> tuple[str, LogP]:
    """Log-likelihoods of several seeds as text, and the log-density of the last."""
    optimizer = common.clipped(sizes.rate, sizes.training)
    draws = run.size(100, 3)
    scores, of_one, log_p = [], [], {}
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
        log_p = {n: log_density(model, params, n) for n in (1, draws)}
        scores.append(log_p[draws](test).mean())
        of_one.append(log_p[1](test).mean())
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    more = f" ({common.mean(of_one)})" if model.bound else ""
    return f"{common.mean(scores)}{more}; {size:,} parameters", log_p[draws]


def log_density(model: glowjax.Density, params: Any, draws: int) -> LogP:
    """ln p, or where the model has a bound, its estimate of so many draws."""

    @jax.jit
    def of(x):
        if not model.bound:
            return model.log_prob(params, x)
        key = jax.random.key(0)
        return glowjax.importance_weighted_log_prob(model, params, x, key, draws)

    return lambda x: np.asarray(of(jnp.asarray(x)))


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
