"""Flows against Gaussian mixtures on seven densities of the plane.

    python -m experiments.toy_2d

Each model sees 50,000 points; 12,500 others choose the number of a mixture's components, up to 80,
and when a flow stops; 20,000 more give the log-likelihood, in nats. In brackets: the gain, point by
point, on a mixture of 10 components and on the chosen one. All sets but the checkerboard and the
pinwheel are Gaussian mixtures themselves, curves blurred by a normal: there a mixture of many
components is nearly the truth.

Time: 15 min on 2 CPU cores.
Expected: on rings, pinwheel, spirals and checkerboard every flow is ahead of the mixture of 10, by
0.07 to 0.9 nats. Splines alone are near the truth: ahead of the chosen mixture on the checkerboard
(+0.09), behind it by 0.002 to 0.04 on what is a Gaussian mixture. RealNVP and MAF, affine flows of
a normal, cannot tear it: they are behind the chosen mixture throughout. Integrals are 1 ± 1e-3.
Source: Grathwohl et al. 2019 (FFJORD), section 4.1; Papamakarios et al. 2017 (MAF), figure 1;
Durkan et al. 2019, section 5.1.
"""

from collections.abc import Callable

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
    points, n, steps = run.size(400, 20), run.size(50_000, 400), run.size(3000, 10)
    sets = list(glowjax.toy.TOY.items())[: run.size(7, 1)]
    x, area = targets.grid(EXTENT, points)
    panels, samples, errors = {}, {}, {}
    ahead: dict[str, list[bool]] = {"of 10": [], "chosen": []}
    figures: common.Figures = {}
    for i, (name, draw) in enumerate(sets):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(run.seed), i), 3)
        sizes = n, n // 4, run.size(20_000, 400)
        train, validation, test = (np.asarray(draw(*k)) for k in zip(keys, sizes, strict=True))
        title = name.replace("_", " ")
        panels[title] = np.full((points, points), -np.inf)  # white
        samples[title] = train[:5000]

        chosen = best_mixture(train, validation, MANY[: run.size(3, 1)], kinds=("full",))
        small = GaussianMixture(10, random_state=0).fit(train)
        references = {"of 10": small.score_samples(test), "chosen": chosen.score_samples(test)}
        models = {"mixture of 10": small.score_samples}
        models[f"mixture of {chosen.n_components}, chosen"] = chosen.score_samples
        models |= {
            model: trained(flow, train, validation, steps, run) for model, flow in flows().items()
        }
        for model, log_p in models.items():
            on_grid, at_test = log_p(x), log_p(test)
            figure = common.mean(at_test)
            if model in flows():
                gains = {name: at_test - reference for name, reference in references.items()}
                figure += f" ({'; '.join(common.mean(gain, sign='+') for gain in gains.values())})"
                for reference, gain in gains.items():
                    ahead[reference].append(bool(gain.mean() > 0))
            figures[f"{title}, {model}"] = figure
            errors[f"{title}, {model}"] = abs(float(np.exp(on_grid).sum() * area) - 1)
            panels[f"{title}, {model}"] = on_grid.reshape(points, points)

    plots.density_2d(
        run.folder / "toy_2d.png",
        panels,
        extent=EXTENT,
        samples=samples,
        points=points,
        columns=3 + len(flows()),
    )
    worst = max(errors, key=lambda name: errors[name])
    for reference, wins in ahead.items():
        figures[f"flows ahead of the mixture {reference}"] = f"{sum(wins)} of {len(wins)}"
    figures["integral furthest from 1, by"] = f"{errors[worst]:.0e} ({worst})"
    return figures


def flows() -> dict[str, glowjax.Flow]:
    spline = glowjax.rational_quadratic(16, bound=4.0)
    return {
        "RealNVP": glowjax.realnvp_mlp(steps=8),
        "MAF": glowjax.maf(steps=8),
        "spline": glowjax.realnvp_mlp(steps=6, transform=spline),
    }


def trained(flow, train, validation, steps: int, run: common.Run) -> Callable[..., np.ndarray]:
    """The log-density of a flow fitted to `train`: from `[N, 2]` to `[N]`."""
    model = glowjax.density(flow, event_shape=(2,))
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
