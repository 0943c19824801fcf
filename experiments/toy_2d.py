"""Flows against Gaussian mixtures on seven densities of the plane.

    python -m experiments.toy_2d

Each model sees 50,000 points; 12,500 others choose the number of a mixture's components, up to 80,
and when a flow stops; 20,000 more give the log-likelihood, in nats. In brackets: the gain, point by
point, on a mixture of 10 components and on the chosen one. All sets but the checkerboard and the
pinwheel are Gaussian mixtures themselves, curves blurred by a normal: there a mixture of many
components is nearly the truth.

Time: 10 min on 2 CPU cores.
Expected: on rings, pinwheel, spirals and checkerboard every flow is ahead of the mixture of 10, by
0.1 to 0.9 nats. Splines alone are near the truth: ahead of the chosen mixture on the checkerboard
(+0.09), behind it by 0.001 to 0.06 elsewhere. RealNVP and MAF, affine flows of a normal, cannot
tear it: they are behind the chosen mixture, but for MAF on the checkerboard. Integrals on the grid
are 1 ± 1e-2.
Source: Grathwohl et al. 2019 (FFJORD), section 4.1; Papamakarios et al. 2017 (MAF), figure 1;
Durkan et al. 2019, section 5.1.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from sklearn.mixture import GaussianMixture

import glowjax
from experiments import common
from experiments.baselines import best_mixture
from glowjax import plots
from glowjax.densities import targets

EXTENT = (-5.0, 5.0)
MANY = (20, 40, 80)


def main(run: common.Run) -> common.Figures:
    points, sets = run.size(400, 20), list(glowjax.toy.TOY.items())[: run.size(7, 1)]
    x, area = targets.grid(EXTENT, points)
    panels, samples, errors, ahead = {}, {}, {}, []
    figures: common.Figures = {}
    for i, (name, draw) in enumerate(sets):
        title, key = name.replace("_", " "), jax.random.fold_in(jax.random.key(run.seed), i)
        train, validation, test = drawn(draw, key, run)
        models = mixtures(train, validation, run)
        models |= {model: trained(flow, train, validation, run) for model, flow in flows().items()}
        scores = {model: log_p(test) for model, log_p in models.items()}
        small, chosen = list(scores.values())[:2]
        gains = {model: (scores[model] - small, scores[model] - chosen) for model in flows()}
        ahead += [[gain.mean() > 0 for gain in both] for both in gains.values()]
        panels[title] = np.full((points, points), -np.inf)  # white
        samples[title] = train[:5000]
        for model, log_p in models.items():
            on_grid, row = log_p(x), f"{title}, {model}"
            figures[row] = told(scores[model], gains.get(model, ()))
            errors[row] = abs(float(np.exp(on_grid).sum() * area) - 1)
            panels[row] = on_grid.reshape(points, points)

    plots.density_2d(
        run.folder / "toy_2d.png",
        panels,
        extent=EXTENT,
        samples=samples,
        points=points,
        columns=3 + len(flows()),
    )
    for reference, wins in zip(("of 10", "chosen"), np.transpose(ahead), strict=True):
        figures[f"flows ahead of the mixture {reference}"] = f"{sum(wins)} of {len(wins)}"
    worst = max(errors, key=lambda row: errors[row])
    figures["integral furthest from 1, by"] = f"{errors[worst]:.0e} ({worst})"
    return figures


def drawn(draw: Callable[..., jax.Array], key, run: common.Run) -> list[np.ndarray]:
    """Points to train on, to choose by, and to test."""
    n = run.size(50_000, 400)
    sizes = n, n // 4, run.size(20_000, 400)
    return [np.asarray(draw(*k)) for k in zip(jax.random.split(key, 3), sizes, strict=True)]


def told(scores: np.ndarray, gains: Sequence[np.ndarray]) -> str:
    """Mean log-likelihood, and in brackets the gains, if there are any."""
    more = "; ".join(common.mean(gain, sign="+") for gain in gains)
    return common.mean(scores) + (f" ({more})" if more else "")


def mixtures(train, validation, run: common.Run) -> dict[str, Callable[..., np.ndarray]]:
    """Log-densities of the mixture of 10 components, and of the one chosen on validation."""
    chosen = best_mixture(train, validation, MANY[: run.size(3, 1)], kinds=("full",))
    small = GaussianMixture(10, random_state=0).fit(train)
    return {
        "mixture of 10": small.score_samples,
        f"mixture of {chosen.n_components}, chosen": chosen.score_samples,
    }


def flows() -> dict[str, glowjax.Flow]:
    spline = glowjax.rational_quadratic(16, bound=4.0)
    return {
        "RealNVP": glowjax.realnvp_mlp(steps=8),
        "MAF": glowjax.maf(steps=8),
        "spline": glowjax.realnvp_mlp(steps=6, transform=spline),
    }


def trained(flow, train, validation, run: common.Run) -> Callable[..., np.ndarray]:
    """The log-density of a flow fitted to `train`: from `[N, 2]` to `[N]`."""
    model, steps = glowjax.density(flow, event_shape=(2,)), run.size(3000, 10)
    fitted = glowjax.fit(
        model,
        train,
        validation=validation,
        steps=steps,
        batch_size=512,
        optimizer=common.clipped(3e-3, steps),
        decay=0.99,
        seed=run.seed,
        show=False,
    )
    log_p = jax.jit(model.log_prob)

    def in_parts(x):  # a grid at once would take gigabytes
        parts = np.array_split(np.asarray(x), max(1, len(x) // 20_000))
        return np.concatenate([np.asarray(log_p(fitted.params, part)) for part in parts])

    return in_parts


if __name__ == "__main__":
    common.run(main)
