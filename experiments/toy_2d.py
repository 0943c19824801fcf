"""Flows against a Gaussian mixture on seven densities of the plane.

    python -m experiments.toy_2d

Each model sees 20,000 points; 5,000 others choose the number of the mixture's components and when
a flow stops; 20,000 more give the log-likelihood, in nats. In brackets: the gain on the mixture,
point by point. Planar flows have no inverse in closed form, but a density needs the forward map
only: they too are trained by maximum likelihood.

Time: not measured whole; a flow took 5 to 15 s of CPU time, so about 6 minutes on 2 CPU cores.
Expected: not settled. On spirals (seed 0, a mixture of 80) all four flows were behind the mixture,
the spline by 0.065 ± 0.002 nats, MAF and RealNVP by 0.34; integrals were within 3e-4 of 1.
Source: Grathwohl et al. 2019 (FFJORD), section 4.1; Papamakarios et al. 2017 (MAF), figure 1.
"""

import jax
import numpy as np
import optax

import glowjax
from experiments import common
from experiments.baselines import best_mixture
from glowjax import plots, targets

EXTENT = (-5.0, 5.0)


def main(run: common.Run) -> common.Figures:
    points, n, steps = run.size(400, 20), run.size(20_000, 400), run.size(2000, 10)
    sets = list(glowjax.toy.TOY.items())[: run.size(7, 1)]
    components = (10, 20, 40, 80, 160)[: run.size(5, 1)]
    x, area = targets.grid(EXTENT, points)
    panels, samples, errors, ahead = {}, {}, {}, []
    figures: common.Figures = {}
    for i, (name, draw) in enumerate(sets):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(run.seed), i), 3)
        train, validation, test = (
            np.asarray(draw(*k)) for k in zip(keys, (n, n // 4, n), strict=True)
        )
        title = name.replace("_", " ")
        panels[title] = np.full((points, points), -np.inf)  # white
        samples[title] = train[:5000]

        mixture = best_mixture(train, validation, components, kinds=("full",))
        models = {f"mixture of {mixture.n_components}": mixture.score_samples}
        models |= {
            model: trained(flow, train, validation, steps, run) for model, flow in flows().items()
        }
        reference = mixture.score_samples(test)
        for model, log_p in models.items():
            on_grid, at_test = log_p(x), log_p(test)
            figure = score(at_test)
            if model in flows():
                figure += f" ({score(at_test - reference, sign='+')})"
                ahead.append(at_test.mean() > reference.mean())
            figures[f"{title}, {model}"] = figure
            errors[f"{title}, {model}"] = abs(float(np.exp(on_grid).sum() * area) - 1)
            panels[f"{title}, {model}"] = on_grid.reshape(points, points)

    plots.density_2d(
        run.folder / "toy_2d.png",
        panels,
        extent=EXTENT,
        samples=samples,
        points=points,
        columns=2 + len(flows()),
    )
    worst = max(errors, key=lambda name: errors[name])
    figures["flows ahead of the mixture"] = f"{sum(ahead)} of {len(ahead)}"
    figures["integral furthest from 1, by"] = f"{errors[worst]:.0e} ({worst})"
    return figures


def flows() -> dict[str, glowjax.Flow]:
    planar = glowjax.repeat(glowjax.as_flow(glowjax.Planar()), 32)
    return {
        "RealNVP": glowjax.realnvp_mlp(steps=8),
        "MAF": glowjax.maf(steps=8),
        "spline": glowjax.maf(steps=2, transform=glowjax.rational_quadratic(16, bound=4.0)),
        "planar": glowjax.chain(glowjax.as_flow(glowjax.ActNorm()), planar),
    }


def trained(flow, train, validation, steps: int, run: common.Run):
    """The log-density of a flow fitted to `train`: from `[N, 2]` to `[N]`."""
    model = glowjax.density(flow, event_shape=(2,))
    rate = optax.cosine_decay_schedule(3e-3, steps)
    fitted = glowjax.fit(
        model,
        train,
        validation=validation,
        steps=steps,
        batch_size=256,
        optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate)),
        decay=0.99,
        seed=run.seed,
        show=False,
    )
    log_p = jax.jit(model.log_prob)

    def in_parts(x):
        parts = np.split(np.asarray(x), len(x) // len(train))
        return np.concatenate([np.asarray(log_p(fitted.params, part)) for part in parts])

    return in_parts


def score(log_p: np.ndarray, sign: str = "") -> str:
    """The mean and its standard error."""
    return f"{log_p.mean():{sign}.3f} ± {log_p.std() / len(log_p) ** 0.5:.3f}"


if __name__ == "__main__":
    common.run(main)
