"""One-dimensional flows: a learned CDF turns data into uniform, or normal, noise.

    python -m experiments.mixture_cdf_1d

In one dimension every density p has a flow to U(0, 1): its own CDF F, for then |dz/dx| = F' = p.
Here F is the CDF of a mixture of Gaussians, fitted to data from no such mixture. The same F
followed by the normal quantile function is a flow to N(0, 1), of the same densities.

Time: 1 min on 2 CPU cores.
Expected: held-out log-likelihood within 0.01 nats of the true density's; integral 1 ± 1e-3; KS
statistics of 20,000 latents or samples below 0.02 (of a perfect model 0.01 in 95 % of cases).
Source: Ho et al. 2019 (Flow++), section 3.2, for mixture CDFs as flows.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.scipy import stats
from scipy.stats import kstest

import glowjax
from experiments import common
from glowjax import plots
from glowjax.bijections.scalar.mixture_cdf import Target

FAMILY = "gaussian"
WEIGHTS = jnp.array([0.35, 0.35, 0.3])


def log_prob(x) -> jax.Array:
    """The truth: a mixture of a gamma (skewed), a Student t (heavy tails), a Laplace (a cusp)."""
    parts = [
        stats.gamma.logpdf(x + 3, 2, scale=0.4),
        stats.t.logpdf(x, 5, 0.3, 0.35),
        stats.laplace.logpdf(x, 2.2, 0.4),
    ]
    return jax.nn.logsumexp(jnp.log(WEIGHTS) + jnp.stack(parts, -1), axis=-1)


def draw(key, n) -> jax.Array:
    """`[n, 1]` from it."""
    keys = jax.random.split(key, 4)
    parts = [
        -3 + 0.4 * jax.random.gamma(keys[0], 2, (n,)),
        0.3 + 0.35 * jax.random.t(keys[1], 5, (n,)),
        2.2 + 0.4 * jax.random.laplace(keys[2], (n,)),
    ]
    part = jax.random.categorical(keys[3], jnp.log(WEIGHTS), shape=(n, 1))
    return jnp.take_along_axis(jnp.stack(parts, -1), part, axis=-1)


BASES: dict[Target, Any] = {  # to what the data are mapped, in glowjax and in SciPy
    "uniform": (glowjax.uniform(0, 1), scipy.stats.uniform),
    "normal": (glowjax.standard_normal(), scipy.stats.norm),
}


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    for to in BASES:
        rows = [measured(run, to, run.seed + i) for i in reversed(range(run.size(3, 1)))]
        figures |= {f"{k}, {to}": common.spread([row[k] for row in rows]) for k in rows[0]}
    return figures


def measured(run: common.Run, to: Target, seed: int) -> dict[str, float]:
    """Trains a flow, draws it, and returns its figures."""
    n, steps = run.size(20_000, 500), run.size(3000, 50)
    keys = jax.random.split(jax.random.key(seed), 4)
    train, test = draw(keys[0], n), draw(keys[1], n)
    base, noise = BASES[to]
    transform = glowjax.mixture_cdf(run.size(16, 3), family=FAMILY, to=to)
    model = glowjax.density(glowjax.as_flow(glowjax.ElementwiseFlow(transform)), (1,), base)
    optimizer = common.falling(0.03, steps)
    params = glowjax.fit(
        model,
        train,
        params=common.in_units_of(model, train, seed),
        steps=steps,
        batch_size=1000,
        optimizer=optimizer,
        seed=seed,
    ).params

    x = jnp.linspace(-6, 7, run.size(4001, 201))
    log_q = model.log_prob(params, x[:, None])
    latents = model.encode(params, test)[:, 0]
    raw = jnp.broadcast_to(params["raw"], (n, 1, transform.size))
    samples = {
        "samples by the inverse": jax.jit(model.sample, static_argnums=2)(params, keys[2], n)[:, 0],
        "samples without it": glowjax.mixture_sample(keys[3], raw, family=FAMILY)[:, 0],
    }
    near = (x > -4) & (x < 5)
    draw_data(run, to, test[:, 0], x[near], log_q[near], samples)
    z = model.encode(params, x[near, None])[:, 0]
    draw_noise(run, to, jnp.sort(test[:, 0]), latents, jnp.stack([x[near], z], -1))
    gap = log_prob(test[:, 0]) - model.log_prob(params, test)
    return {
        "nats below the true density": float(np.mean(gap)),
        "± its standard error": float(np.std(gap) / n**0.5),
        "|integral - 1|": abs(float(jnp.trapezoid(jnp.exp(log_q), x)) - 1),
        "KS, latents": kstest(latents, noise.cdf).statistic,
    } | {f"KS, {way}": kstest(drawn, test[:, 0]).statistic for way, drawn in samples.items()}


def draw_data(run: common.Run, to: Target, test, x, log_q, samples: dict[str, jax.Array]) -> None:
    """Held-out data beside the learned density at x, and beside samples."""
    plots.histogram_1d(
        run.folder / f"density_{to}.png",
        test,
        x,
        {"true": log_prob(x), "learned": log_q},
        title="Held-out data and densities",
    )
    plots.histogram_1d(
        run.folder / f"samples_{to}.png",
        test,
        x,
        {},
        outlines=samples,
        title="Held-out data and samples",
    )


def draw_noise(run: common.Run, to: Target, ordered, latents, learned) -> None:
    """The map from data, in order, to noise beside the learned one, `[N, 2]`; and the latents."""
    noise = BASES[to][1]
    ranks = (jnp.arange(len(ordered)) + 0.5) / len(ordered)
    exact = jnp.stack([ordered, noise.ppf(ranks)], -1)
    plots.lines(
        run.folder / f"map_{to}.png",
        {"The map from data to noise": {"of ranks of the data": exact, "learned": learned}},
        xlabel="x",
        ylabel="z",
    )
    z = jnp.linspace(*noise.ppf([3e-5, 1 - 3e-5]), 201)
    plots.histogram_1d(
        run.folder / f"latents_{to}.png",
        latents,
        z,
        {f"{to} density": noise.logpdf(z)},
        xlabel="z",
        title="Latents of held-out data",
    )


if __name__ == "__main__":
    common.run(main)
