"""One fit, an ensemble of fits, and a Bayesian average of a flow, on few points of the plane.

    python -m experiments.bayesian_average

With 50 or 200 points one flow of splines is uncertain. An ensemble averages the densities of eight
fits, each with its own start and its own quarter of the points for validation. The Bayesian average
takes the posterior of all parameters, given all points and a normal prior around the parameters
that a start has, and averages the densities of 100 draws, of four chains of NUTS.

The figures are held-out ln p, as means over three sets of points, and their ranges.

Time: 14 min of one CPU core. Needs the extra blackjax.
Expected: an ensemble is 0.10 to 0.38 nats ahead of one fit. The Bayesian average is 0.02 to 0.18
nats ahead of the ensemble in the mean, in 1.4 to 3 times the time.
Source: Lakshminarayanan et al. 2017 (deep ensembles); Neal 1996 (Bayesian learning for neural
networks); Hoffman & Gelman 2014 (NUTS).
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.util import run_inference_algorithm
from jax.flatten_util import ravel_pytree

import glowjax
from experiments import common
from experiments.latent_sampling_2d import adapted_nuts
from glowjax import plots
from glowjax.densities import toy

LogP = Callable[[jax.Array], jax.Array]
SETS, COUNTS = ("two_moons", "eight_gaussians"), (50, 200)
PRIOR = 0.5  # standard deviation of each parameter


def average(model: glowjax.Density, params: Any) -> LogP:
    """ln of the mean density of parameters that are stacked along a first axis."""

    @jax.jit
    def log_prob(x):
        log_p = jax.lax.map(lambda p: model.log_prob(p, x), params)
        return glowjax.log_mean_exp(log_p, axis=0)

    return log_prob


def fits(model: glowjax.Density, x: jax.Array, seed: int, run: common.Run) -> Any:
    """Parameters of eight fits, stacked."""
    fitted = glowjax.fit_many(
        model,
        x,
        seeds=range(seed, seed + run.size(8, 2)),
        validation=0.25,
        steps=run.size(1000, 4),
        evaluate_every=run.size(20, 2),
        patience=20,
        show=False,
    )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[each.params for each in fitted])


def posterior(model: glowjax.Density, x: jax.Array, seed: int, run: common.Run) -> Any:
    """Draws from the posterior of the parameters, stacked."""
    start_key, key = jax.random.split(jax.random.key(seed))
    centre, unravel = ravel_pytree(model.init(start_key, x))
    chains = run.size(4, 2)

    def log_posterior(flat):
        prior = -0.5 * jnp.sum(jnp.square((flat - centre) / PRIOR))
        return jnp.sum(model.log_prob(unravel(flat), x)) + prior

    def chain(key):
        start_key, warm_key, key = jax.random.split(key, 3)
        start, _ = ravel_pytree(model.init(start_key, x))
        doublings, steps, draws = run.size(7, 2), run.size(200, 4), run.size(100, 4)
        state, kernel = adapted_nuts(
            log_posterior, warm_key, start, steps, max_num_doublings=doublings
        )
        _, (states, _) = run_inference_algorithm(key, kernel, draws, initial_state=state)
        return states.position[:: run.size(4, 1)]

    draws = jax.jit(jax.vmap(chain))(jax.random.split(key, chains))
    return jax.vmap(unravel)(draws.reshape(-1, draws.shape[-1]))


def learn(x: jax.Array, seed: int, run: common.Run) -> tuple[dict[str, LogP], dict[str, float]]:
    """Way to a density, and to the seconds of the processor for it, with compilation.

    Those of one fit are not known: it is trained beside the seven others.
    """
    model = glowjax.density(glowjax.neural_spline_flow(steps=2, width=run.size(8, 2)), (2,))
    began = time.process_time()
    fitted = jax.block_until_ready(fits(model, x, seed, run))
    between = time.process_time()
    draws = jax.block_until_ready(posterior(model, x, seed, run))
    end = time.process_time()
    one = jax.tree.map(lambda leaf: leaf[:1], fitted)
    params = {"one fit": one, "ensemble": fitted, "Bayesian average": draws}
    densities = {way: average(model, each) for way, each in params.items()}
    return densities, {"ensemble": between - began, "Bayesian average": end - between}


def clipped(log_p: LogP) -> LogP:
    """For the picture: few points make spikes, which would hide the rest."""
    return lambda x: jnp.minimum(log_p(x), -2.0)


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    panels, dots = {}, {}
    seeds = range(run.seed, run.seed + run.size(3, 1))
    for name in SETS:
        test = toy.TOY[name](jax.random.key(run.seed + 1000), run.size(5000, 20))
        for count in COUNTS:
            title = f"{name.replace('_', ' ')}, {count} points"
            data = [toy.TOY[name](jax.random.key(seed), count) for seed in seeds]
            found = [learn(x, seed, run) for x, seed in zip(data, seeds, strict=True)]
            densities, seconds = zip(*found, strict=True)
            for way, log_p in densities[0].items():
                nats = [float(jnp.mean(each[way](test))) for each in densities]
                figures[f"{title}, {way}: ln p"] = common.spread(nats)
                if way in seconds[0]:
                    figures[f"{title}, {way}: seconds"] = np.mean([each[way] for each in seconds])
                if count == COUNTS[0]:
                    panel = f"{name.split('_')[1]}, {way}"
                    panels[panel], dots[panel] = clipped(log_p), data[0]
    plots.density_2d(
        run.folder / "densities.png",
        panels,
        extent=(-4, 4),
        samples=dots,
        points=run.size(120, 10),
        columns=3,
    )
    return figures


if __name__ == "__main__":
    common.run(main)
