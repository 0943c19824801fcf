"""Variational inference of a posterior that is known: Bayesian linear regression.

    python -m experiments.posterior_conjugate

y = X·w + noise with w ~ N(0, I) has a Gaussian posterior and a known evidence p(y). Families of
q(w) are trained by the ELBO, by its importance-weighted form with 16 samples, and by Rényi's
divergence at α = ½ with as many. The gap, ln p(y) - ELBO, is KL(q‖posterior).

Time: 3 minutes on 2 CPU cores.
Expected: the mean field's gap by the ELBO is its least, ½(Σ ln Λᵢᵢ - ln|Λ|), Λ the posterior's
precision, within 0.05 nats; that of a full Gaussian, which holds the posterior, is below 0.01, and
those of the flows are below 0.05; the mean field's standard deviations are too small, least so by
the bounds of several samples.
Source: Rezende & Mohamed 2015, section 4; Burda et al. 2016; Li & Turner 2016; Bishop 2006, 3.3.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from scipy.stats import multivariate_normal

import glowjax as gj
from experiments import common
from glowjax import plots
from glowjax.densities.objectives import LogProb

SIZE, OBSERVATIONS, NOISE = 8, 24, 0.5
# A mean in the units of w, whatever the deviation: it goes far from where it starts.
MEAN_FIELD = gj.as_flow(gj.GlowActNorm(log_scale_factor=1.0))
FAMILIES = {
    "mean field": MEAN_FIELD,
    "full Gaussian": gj.chain(MEAN_FIELD, gj.as_flow(gj.InvertibleConv1x1())),
    "planar": gj.chain(gj.as_flow(gj.ActNorm()), gj.invert(gj.repeat(gj.as_flow(gj.Planar()), 32))),
    "IAF": gj.iaf(steps=2, width=32, depth=1),
    "coupling": gj.realnvp_mlp(steps=8, width=32),
}
GROUPS, SAMPLES = 16, 16  # of an estimate of the bounds of several samples


class Posterior(NamedTuple):
    """The exact answer, and ln p(y, w) of `w: [B, D]`."""

    log_joint: LogProb
    mean: np.ndarray
    covariance: np.ndarray
    log_evidence: float
    mean_field_gap: float


def regression(seed: int) -> Posterior:
    """A regression on neighbouring inputs that are alike, so that weights trade off."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(OBSERVATIONS, SIZE + 2))
    x = (walk[:, :-2] + walk[:, 1:-1] + walk[:, 2:]) / 3**0.5
    y = x @ rng.normal(size=SIZE) + NOISE * rng.normal(size=OBSERVATIONS)
    precision = np.eye(SIZE) + x.T @ x / NOISE**2
    covariance = np.linalg.inv(precision)
    marginal = x @ x.T + NOISE**2 * np.eye(OBSERVATIONS)

    def log_joint(w):
        predicted = jnp.matmul(w, x.T.astype(w.dtype), precision="highest")
        return norm.logpdf(w).sum(-1) + norm.logpdf(y, predicted, NOISE).sum(-1)

    return Posterior(
        log_joint,
        covariance @ x.T @ y / NOISE**2,
        covariance,
        multivariate_normal(cov=marginal).logpdf(y),
        (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]) / 2,
    )


def losses(model, target) -> dict[str, Callable[..., jax.Array]]:
    """Name to loss, for `fit`, of as many samples a step each."""

    def grouped(bound):
        def loss(params, batch, key, step):
            keys = jax.random.split(key, GROUPS)
            return jnp.mean(jax.vmap(lambda k: bound(model, params, target, k, SAMPLES))(keys))

        return loss

    return {
        "ELBO": lambda params, batch, key, step: gj.reverse_kl(
            model, params, target, key, GROUPS * SAMPLES
        ),
        "importance-weighted": grouped(lambda *a: -gj.importance_weighted_bound(*a)),
        "Rényi ½": grouped(gj.alpha_divergence),
    }


def measure(model, exact: Posterior, n: int, params, key) -> dict[str, jax.Array]:
    """The gap and its standard error, moments against the exact ones, importance sampling."""
    w, log_q = model.sample_and_log_prob(params, key, n)
    gaps = log_q - exact.log_joint(w) + exact.log_evidence
    std = np.sqrt(np.diag(exact.covariance))
    estimate = gj.importance_sampling(model, params, exact.log_joint, jax.random.fold_in(key, 1), n)
    return {
        "gap": gaps.mean(),
        "gap error": gaps.std() / n**0.5,
        "mean": jnp.sqrt(jnp.mean(((w.mean(0) - exact.mean) / std) ** 2)),
        "std": jnp.mean(w.std(0) / std),
        "evidence": estimate.log_z - exact.log_evidence,
        "evidence error": estimate.log_z_error,
        "ess": estimate.effective_sample_size / n,
    }


def told(rows: dict[str, jax.Array]) -> str:
    """Means over seeds; ± is what the Monte Carlo estimate of one seed claims."""
    a = {name: np.asarray(values) for name, values in rows.items()}
    return (
        f"gap {a['gap'].mean():.4f} ± {a['gap error'].mean():.4f}"
        f" (seeds {a['gap'].min():.4f} … {a['gap'].max():.4f}),"
        f" means off by {a['mean'].mean():.3f} σ, stds × {a['std'].mean():.3f},"
        f" ln p(y) off by {a['evidence'].mean():+.4f} ± {a['evidence error'].mean():.4f},"
        f" ESS/n {a['ess'].mean():.3f}"
    )


def main(run: common.Run) -> common.Figures:
    exact = regression(run.seed)
    steps, n = run.size(3000, 4), run.size(50_000, 100)
    seeds = range(run.seed, run.seed + run.size(3, 1))
    figures: common.Figures = {
        "ln p(y), exact": exact.log_evidence,
        "the mean field's least gap": exact.mean_field_gap,
    }
    samples = {}
    for family in list(FAMILIES)[: run.size(len(FAMILIES), 2)]:
        model = gj.density(FAMILIES[family], (SIZE,))
        draw = jax.jit(functools.partial(model.sample, n=1000))
        measured = jax.jit(jax.vmap(functools.partial(measure, model, exact, n)))
        for name, loss in list(losses(model, exact.log_joint).items())[: run.size(3, 1)]:
            params = common.fit_seeds(model, loss, seeds, steps=steps, rate=4e-2)
            keys = jax.random.split(jax.random.key(run.seed + 1), len(seeds))
            figures[f"{family}, {name}"] = told(measured(params, keys))
            first = jax.tree.map(lambda a: a[0], params)
            samples[family, name] = draw(first, jax.random.key(run.seed))
    picture(run.folder / "marginals.png", exact, samples)
    return figures


def picture(path, exact: Posterior, samples) -> None:
    """The marginal of the two most correlated weights, in exact standard deviations."""
    std = np.sqrt(np.diag(exact.covariance))
    correlation = exact.covariance / np.outer(std, std)
    i, j = np.unravel_index(np.argmax(np.abs(np.triu(correlation, 1))), correlation.shape)
    pair = np.array([i, j])
    log_density = multivariate_normal(cov=correlation[np.ix_(pair, pair)]).logpdf
    titles = {key: ", ".join(key) for key in samples if key[1] != "Rényi ½"}
    plots.density_2d(
        path,
        {title: log_density for key, title in sorted(titles.items(), key=lambda t: t[0][1])},
        extent=(-4, 4),
        samples={t: ((samples[k] - exact.mean) / std)[:, pair] for k, t in titles.items()},
        columns=len(FAMILIES),
        points=200,
    )


if __name__ == "__main__":
    common.run(main)
