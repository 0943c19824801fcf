"""Sixteen planar layers fitted to two modes, by reverse KL and by α-divergence.

    python -m experiments.planar_two_modes

Time: 2 min on 2 CPU cores.
Expected: KL(q‖p) of 5 seeds: reverse KL as in the reference, 0.05-0.4 nats, median about 0.15;
α-divergence, median ≤ 0.1, best ≤ 0.05.
Source: Rezende & Mohamed 2015, sections 4.1 and 6.1; settings of normflows' planar example.

Batches of 40 make noisy gradients, and reverse KL hardly punishes a q that gives a mode too little
mass. Rényi's divergence of α = 1/2 punishes it more: with it go batches of 256, no weight decay,
and a learning rate five times as high that falls to 0. That is better on the whole, but not for
every seed.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import glowjax
from experiments import common
from glowjax import plots
from glowjax.densities import targets

MODEL = glowjax.density(
    glowjax.invert(glowjax.repeat(glowjax.as_flow(glowjax.Planar()), 16)), event_shape=(2,)
)
TARGET = targets.two_modes(2.0, 0.1)


class Recipe(NamedTuple):
    """How to train: objective(density, params, target, key, n), batch size, optimiser(steps)."""

    objective: Callable[..., jax.Array]
    batch: int
    optimizer: Callable[[int], optax.GradientTransformation]


def reference(steps: int) -> optax.GradientTransformation:
    """Adam at 1e-3 of the gradient with 1e-4 of the weights added, as torch's `weight_decay`."""
    return optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-3))


def falling(steps: int) -> optax.GradientTransformation:
    """Adam at 5e-3 for half of the steps, and falling to 0 as a cosine over the rest."""
    half = steps // 2
    parts = [optax.constant_schedule(5e-3), optax.cosine_decay_schedule(5e-3, steps - half)]
    return optax.adam(optax.join_schedules(parts, [half]))


RECIPES = {
    "reverse KL": Recipe(glowjax.reverse_kl, 40, reference),
    "α-divergence": Recipe(glowjax.alpha_divergence, 256, falling),
}


def annealed(recipe: Recipe, steps: int) -> Callable[..., jax.Array]:
    """The loss that `fit` takes: β, the target's inverse temperature, rises over half the steps."""

    def loss(params, batch, key, step):
        beta = jnp.minimum(1.0, 0.01 + step / (steps / 2))
        return recipe.objective(
            MODEL, params, lambda x: beta * TARGET.log_prob(x), key, recipe.batch
        )

    return loss


class Trained(NamedTuple):
    """A run: (step, params) at each evaluation, history, least s per 1,000 steps, KL(q‖p)."""

    stages: list
    history: list
    seconds: float
    kl: targets.GridKL


def train(recipe: Recipe, seed: int, steps: int, every: int, points: int) -> Trained:
    """Fits a seed."""
    stages, times = [], []

    def watch(step, params):
        times.append(time.perf_counter())
        stages.append((step, jax.tree.map(jnp.copy, params)))  # fit goes on in the same memory

    fitted = glowjax.fit(
        MODEL,
        loss=annealed(recipe, steps),
        steps=steps,
        optimizer=recipe.optimizer(steps),
        evaluate_every=every,
        seed=seed,
        watch=watch,
    )
    seconds = 1000 / every * float(np.min(np.diff(times)))
    kl = targets.grid_kl(log_q(fitted.params), TARGET, points)
    return Trained(stages, fitted.history, seconds, jax.tree.map(float, kl))


def log_q(params) -> Callable[..., jax.Array]:
    """x -> log q(x)."""
    return functools.partial(jax.jit(MODEL.log_prob), params)


def main(run: common.Run) -> common.Figures:
    """Both recipes, from the same seeds; pictures of all of them, and of one as it is trained."""
    steps, seeds = run.size(20_000, 200), range(run.seed, run.seed + run.size(5, 1))
    every, points = run.size(200, 50), run.size(400, 50)
    figures: common.Figures = {}
    rows = []
    for name, recipe in RECIPES.items():
        runs = [train(recipe, seed, steps, every, points) for seed in seeds]
        kls = [r.kl.kl for r in runs]
        slug = name.replace(" ", "_").replace("α", "alpha").lower()
        values = [row["loss"] for row in runs[0].history]
        plots.loss_curve(
            run.folder / f"loss_{slug}.png", values, every=every, ylabel="loss, nats",
            title=f"{name} to the annealed target, seed {run.seed}",
        )  # fmt: skip
        figures |= {
            f"{name}: KL(q‖p) of each seed, nats": ", ".join(f"{kl:.3f}" for kl in kls),
            f"{name}: median KL(q‖p), nats": float(np.median(kls)),
            f"{name}: most mass outside the grid": float(max(r.kl.outside for r in runs)),
            f"{name}: least s per 1,000 steps of {recipe.batch}": min(r.seconds for r in runs),
        }
        rows.append((name, runs))

    panels: dict[str, Any] = {}
    first = {"target": TARGET.log_prob, "at first": log_q(rows[0][1][0].stages[0][1])}
    for (title, density), (name, runs) in zip(first.items(), rows, strict=True):
        panels[title] = density
        for seed, r in zip(seeds, runs, strict=True):
            panels[f"{name}, seed {seed}: {r.kl.kl:.3f}"] = log_q(r.stages[-1][1])
    plots.density_2d(
        run.folder / "densities.png", panels, extent=TARGET.extent, points=points,
        columns=1 + len(seeds),
    )  # fmt: skip
    film(run, rows[-1][1][0].stages, points=run.size(120, 20))
    return figures


def film(run: common.Run, stages: list, points: int) -> None:
    """The target beside the density at each of the stages, as a GIF."""
    x, _ = targets.grid(TARGET.extent, points)
    log_prob = jax.jit(MODEL.log_prob)
    target = np.asarray(TARGET.log_prob(x)).reshape(points, points)
    frames = [
        plots.density_frame(
            {
                "target": target,
                f"{step:,} steps": np.asarray(log_prob(params, x)).reshape(points, points),
            },
            extent=TARGET.extent,
            dpi=70,
        )
        for step, params in stages
    ]
    plots.animation(run.folder / "training.gif", frames, fps=15, hold=2)


if __name__ == "__main__":
    common.run(main)
