"""Eight densities of the plane, known but for a constant, fitted by reverse KL with one setting.

    python -m experiments.energies_2d

Time: 15 min on one CPU core.
Expected: KL(q‖p) ≤ 0.021 nats for all; every learned density integrates to 1 within 1e-3.
Source: Rezende & Mohamed 2015, section 6.1 and table 1; the flow, Kingma et al. 2016 with the
splines of Durkan et al. 2019.

The target is annealed along the geometric path from N(0, 2²·I): log p is weighed by β and that
normal's by 1 - β, with β risen to 1 over the first half. U2, U3 and U4 have an envelope, without
which their mass is infinite. KL is an integral over a grid that holds all but the mass shown.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments import common
from glowjax import plots
from glowjax.densities import targets
from glowjax.densities.targets import Target


class Case(NamedTuple):
    """A target, and what (low, high) of both axes its integrals are over."""

    target: Target
    integrated: tuple[float, float]


CASES = {
    "U1": Case(targets.energy(1), (-5, 5)),
    "U2": Case(targets.energy(2, envelope=3), (-7, 7)),
    "U3": Case(targets.energy(3, envelope=3), (-7, 7)),
    "U4": Case(targets.energy(4, envelope=3), (-7, 7)),
    "rings": Case(targets.ring_mixture(2), (-4, 4)),
    "eight normals": Case(targets.circular_gaussians(8), (-4, 4)),
    "banana": Case(targets.banana(), (-12, 12)),
    "funnel": Case(targets.funnel(std=1), (-16, 16)),
}


def make_model(steps: int, width: int) -> glowjax.Density:
    """An inverse autoregressive flow by splines: samples in one pass, which reverse KL needs."""
    spline = glowjax.rational_quadratic(16, bound=5.0)
    return glowjax.density(glowjax.iaf(steps=steps, width=width, transform=spline), (2,))


def train(model: glowjax.Density, target: Target, steps: int, batch: int, seed: int) -> Any:
    """Parameters after reverse KL to the annealed target; Adam from 2e-3 to 0 as a cosine."""

    def loss(params, data, key, step):
        beta = jnp.minimum(1.0, step / (steps / 2))
        annealed = common.annealed(target.log_prob, beta)
        return glowjax.reverse_kl(model, params, annealed, key, batch)

    optimizer = common.clipped(2e-3, steps, norm=1.0)
    return glowjax.fit(model, loss=loss, steps=steps, optimizer=optimizer, seed=seed).params


def main(run: common.Run) -> common.Figures:
    """Fits each; a table of KLs and masses, and a picture of all, each on its own extent."""
    model = make_model(steps=run.size(6, 1), width=run.size(64, 8))
    log_prob = jax.jit(model.log_prob)
    steps, batch = run.size(10_000, 10), run.size(512, 16)
    points, fine = run.size(200, 20), run.size(600, 40)
    figures: common.Figures = {}
    fitted, worst = {}, 0.0
    names = list(CASES)[: run.size(8, 2)]
    for name in names:
        target, integrated = CASES[name]
        params = train(model, target, steps, batch, run.seed)
        log_q = functools.partial(log_prob, params)
        kl, outside = map(
            float, targets.grid_kl(log_q, target._replace(extent=integrated), points=fine)
        )
        figures[f"{name}: KL(q‖p), nats"] = f"{kl:.4f} (mass outside {outside:.0e})"
        worst = max(worst, abs(outside))
        fitted[name] = log_q, kl
    figures["worst |∫q - 1|"] = worst
    figures["worst KL(q‖p), nats"] = max(kl for _, kl in fitted.values())

    panels = {}
    for row in (names[:4], names[4:]):
        panels |= {name: values(CASES[name].target.log_prob, name, points) for name in row}
        for name in row:
            log_q, kl = fitted[name]
            panels[f"{name}, learned: KL {kl:.4f}"] = values(log_q, name, points)
    path = run.folder / "energies.png"
    plots.density_2d(path, panels, extent=(-1, 1), points=points, columns=4)
    return figures


def values(log_density, name: str, points: int) -> np.ndarray:
    """A log-density on the grid of a target's own extent."""
    x, _ = targets.grid(CASES[name].target.extent, points)
    return np.asarray(log_density(x)).reshape(points, points)


if __name__ == "__main__":
    common.run(main)
