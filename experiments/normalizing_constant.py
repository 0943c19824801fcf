"""Normalising constants and expectations by importance sampling, a flow as the proposal.

    python -m experiments.normalizing_constant

Z and E[x1²] of unnormalised densities, from samples of q reweighed by p̃/q. Proposals: a Gaussian
with independent coordinates, one with any covariance, and an inverse autoregressive flow by
splines, all trained by Rényi's divergence at α = ½, the target annealed from N(0, 2²·I) over the
first half. Estimates are repeated to see whether their claimed errors are right.

Time: 17 min on one CPU core.
Expected: with splines ln Z within 0.004 of the truth, and ESS/n above 0.9, on all targets; with
Gaussians ESS/n 0.04 to 0.5, and on the banana and the funnel claimed errors that are too small, by
2 on average.
Source: Müller et al. 2019, Neural importance sampling; Owen 2013, chapter 9; Li & Turner 2016.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import glowjax as gj
from experiments import common
from glowjax import plots
from glowjax.densities import targets
from glowjax.densities.objectives import LogProb

DEEP, APART = 10, 1.5  # dimensions of the largest target; half the distance of two modes, in each


class Case(NamedTuple):
    """An unnormalised density with what is to be estimated, exact or on a grid."""

    log_prob: LogProb
    size: int
    log_z: float
    second_moment: float


def cases() -> dict[str, Case]:
    """Targets; those that are normalised have ln Z = 0."""
    ring = targets.ring_mixture(2)
    log_z = float(targets.grid_log_normalizer(ring))
    x, area = targets.grid(ring.extent, 400)
    moment = float(jnp.sum(jnp.exp(ring.log_prob(x) - log_z) * area * x[:, 0] ** 2))
    eight, scale = targets.circular_gaussians(8), 2 / 3 * np.sin(np.pi / 8)
    return {
        "banana": Case(targets.banana().log_prob, 2, 0.0, 1.0),
        "funnel": Case(targets.funnel(std=2).log_prob, 2, 0.0, 4.0),
        "rings": Case(ring.log_prob, 2, log_z, moment),
        "eight Gaussians": Case(eight.log_prob, 2, 0.0, 2 + scale**2),
        f"two Gaussians, {DEEP}-D": Case(two_gaussians, DEEP, 0.0, 1 + APART**2),
    }


def two_gaussians(x) -> jax.Array:
    """½ N(m, I) + ½ N(-m, I), m = 1.5 in every second coordinate and 0 in the others."""
    m = APART * (np.arange(x.shape[-1]) % 2 == 0)
    one, other = (norm.logpdf(x, sign * m).sum(-1) for sign in (1, -1))
    return jnp.logaddexp(one, other) - jnp.log(2)


PROPOSALS = {
    "mean field": gj.as_flow(gj.ActNorm()),
    "full Gaussian": gj.chain(gj.as_flow(gj.ActNorm()), gj.as_flow(gj.InvertibleConv1x1())),
    "splines": gj.iaf(steps=6, transform=gj.rational_quadratic(16, bound=5.0)),
}


def main(run: common.Run) -> common.Figures:
    steps, repeats = run.size(2500, 4), run.size(50, 2)
    counts = [100, 316, 1000, 3162, 10_000][: run.size(5, 2)]
    seeds = range(run.seed, run.seed + run.size(3, 1))
    figures, panels, levels, limits = {}, {}, {}, {}
    for name, case in list(cases().items())[: run.size(5, 1)]:
        panels[name], levels[name] = {}, case.log_z
        limits[name] = case.log_z - 0.8, case.log_z + 0.6
        for proposal in list(PROPOSALS)[: run.size(3, 2)]:
            model = gj.density(PROPOSALS[proposal], (case.size,))

            def loss(params, batch, key, step, model=model, case=case):
                target = common.annealed(case.log_prob, jnp.minimum(1.0, step / (steps / 2)))
                return gj.alpha_divergence(model, params, target, key, 512)

            params = common.fit_seeds(model, loss, seeds, steps=steps, rate=2e-3)
            found, log_z = jax.jit(functools.partial(estimates, model, case, counts, repeats))(
                params, jax.random.key(run.seed)
            )
            figures[f"{name}, {proposal}"] = told(found, counts[-1], case)
            panels[name][proposal] = np.stack(
                [counts, np.mean(log_z, axis=(1, 2)), np.std(log_z, axis=2).mean(1)], axis=-1
            )
    plots.lines(
        run.folder / "log_z.png",
        panels,
        xlabel="samples n",
        ylabel="estimate of ln Z",
        levels=levels,
        limits=limits,
        log_x=True,
        columns=3,
    )
    return figures


def estimates(
    model, case: Case, counts, repeats: int, params, key
) -> tuple[gj.Importance, jax.Array]:
    """Estimates from the most samples, leaves `[seeds, repeats]`; ln Z from each of the counts."""

    def estimate(params, key):
        found = gj.importance_sampling(
            model, params, case.log_prob, key, counts[-1], statistic=lambda x: x[:, 0] ** 2
        )
        log_w = gj.log_weights(model, params, case.log_prob, key, counts[-1])
        return found, [gj.log_mean_exp(log_w[:n]) for n in counts]

    keys = jax.random.split(key, repeats)
    found, log_z = jax.vmap(lambda p: jax.lax.map(lambda key: estimate(p, key), keys))(params)
    return found, jnp.stack(log_z)


def told(found: gj.Importance, n: int, case: Case) -> str:
    """Estimates from n samples: means over seeds and repeats, and spread over repeats."""
    log_z, mean = np.asarray(found.log_z), np.asarray(found.mean)
    ess = np.asarray(found.effective_sample_size).mean(1) / n
    return (
        f"ln Z {log_z.mean():.4f} ± {log_z.std(1).mean():.4f}"
        f" (claimed {found.log_z_error.mean():.4f}; exact {case.log_z:.4f}),"
        f" mean of x1² {mean.mean():.3f} ± {mean.std(1).mean():.3f}"
        f" (exact {case.second_moment:.3f}),"
        f" ESS/n {ess.mean():.3f} (seeds {ess.min():.3f} … {ess.max():.3f})"
    )


if __name__ == "__main__":
    common.run(main)
