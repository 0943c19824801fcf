"""A flow as a proposal and as a preconditioner of blackjax, on two modes and on a banana.

    python -m experiments.latent_sampling_2d

A flow is trained by reverse KL to a density of the plane, which then has the log-density
ln p(x(z)) + ln|det ∂x/∂z| of the flow's latents z. NUTS samples it, or independent Metropolis with
N(0, I) as its proposal, which in terms of x proposes what the flow draws. Plain NUTS samples x.

An effective sample size (ESS) is blackjax's, over all chains, of x1 or x2, whichever has less. Both
densities are symmetric, so that half of the draws must have x1 > 0; the range is that of single
chains. Seconds of sampling are those of four chains, one after the other, with their adaptation.
What the samplers take to compile is counted apart, and training includes its own. All are seconds
of the processor, of all threads together, since other work lengthens those of the clock.

Time: 7 minutes on one CPU core. Needs the extra blackjax.
Expected: on two modes, plain NUTS goes so seldom from one to the other that its chains have unequal
shares, while both ways through the flow have 0.45 to 0.55 of each chain's draws on either side.
Independent Metropolis accepts more than 0.8 of its proposals on both densities.
Source: Hoffman et al. 2019, NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural
transport; Albergo et al. 2019, Flow-based generative models for Markov chain Monte Carlo.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.diagnostics import effective_sample_size
from blackjax.util import run_inference_algorithm
from jax.scipy.stats import norm

import glowjax
from experiments import common
from glowjax import plots
from glowjax.densities import targets
from glowjax.densities.targets import Target

TARGETS = {"two modes": targets.two_modes(scale=0.2), "banana": targets.banana()}
CHAINS, SHOWN = 4, 1000
PLAIN = "plain NUTS"

LogProb = Callable[[jax.Array], jax.Array]  # of one point
Sampler = Callable[[LogProb, jax.Array, jax.Array, common.Run], tuple[jax.Array, jax.Array]]


class Chains(NamedTuple):
    """Draws `[chains, n, 2]` of x, the mean acceptance, and seconds."""

    draws: np.ndarray
    acceptance: float
    sampling: float
    compiling: float
    training: float = 0.0

    @property
    def ess(self) -> float:
        """The lesser one of x1 and x2."""
        return float(jnp.min(effective_sample_size(self.draws)))

    @property
    def total(self) -> float:
        """Seconds of all."""
        return self.training + self.compiling + self.sampling


def adapted_nuts(log_prob: LogProb, key, start, steps: int, **options: Any) -> tuple[Any, Any]:
    """A state and a kernel of NUTS, after the adaptation of step size and mass matrix."""
    warmup = blackjax.window_adaptation(blackjax.nuts, log_prob, **options)
    (state, tuned), _ = warmup.run(key, start, steps)  # ty: ignore
    return state, blackjax.nuts(log_prob, **tuned)


def nuts(log_prob: LogProb, key, start, run: common.Run) -> tuple[jax.Array, jax.Array]:
    """Draws `[n, 2]` and acceptances."""
    warm_key, key = jax.random.split(key)
    state, kernel = adapted_nuts(log_prob, warm_key, start, run.size(1000, 20))
    n = run.size(10_000, 40)
    _, (states, info) = run_inference_algorithm(key, kernel, n, initial_state=state)
    return states.position, info.acceptance_rate


def metropolis(log_prob: LogProb, key, start, run: common.Run) -> tuple[jax.Array, jax.Array]:
    """Draws `[n, 2]` and acceptances of proposals from N(0, I)."""

    def propose(key):
        return jax.random.normal(key, start.shape)

    def log_proposal(current, proposed):
        return norm.logpdf(proposed.position).sum()

    kernel = blackjax.irmh(log_prob, propose, log_proposal)
    n = run.size(10_000, 40)
    _, (states, info) = run_inference_algorithm(key, kernel, n, initial_position=start)
    return states.position, info.acceptance_rate


THROUGH_FLOW: dict[str, Sampler] = {
    "NUTS in latents": nuts,
    "independent Metropolis": metropolis,
}


def trained(target: Target, run: common.Run) -> tuple[glowjax.Flow, Any, float]:
    """A flow, its parameters after annealed reverse KL, and the seconds that it took."""
    began = time.process_time()
    spline = glowjax.rational_quadratic(8, bound=5.0)
    flow = glowjax.iaf(steps=4, width=32, transform=spline)
    model, steps = glowjax.density(flow, (2,)), run.size(2000, 10)

    def loss(params, data, key, step):
        annealed = common.annealed(target.log_prob, jnp.minimum(1.0, step / (steps / 2)))
        return glowjax.reverse_kl(model, params, annealed, key, 256)

    optimizer = common.clipped(2e-3, steps, norm=1.0)
    params = glowjax.fit(
        model, loss=loss, steps=steps, optimizer=optimizer, seed=run.seed, show=False
    ).params
    return flow, jax.block_until_ready(params), time.process_time() - began


def sample(sampler: Sampler, log_prob: LogProb, scale: float, run: common.Run) -> Chains:
    """Chains from N(0, scale²·I)."""

    @jax.jit
    def one(key):
        start = scale * jax.random.normal(jax.random.fold_in(key, 1), (2,))
        return sampler(log_prob, key, start, run)

    found, sampling, compiling = common.timed(
        one, jax.random.split(jax.random.key(run.seed), CHAINS)
    )
    draws, acceptance = (np.stack(parts) for parts in zip(*found, strict=True))
    return Chains(draws, float(acceptance.mean()), sampling, compiling)


def study(target: Target, run: common.Run) -> dict[str, Chains]:
    """Every way of one seed."""
    jax.clear_caches()
    found = {PLAIN: sample(nuts, target.log_prob, 2.0, run)}
    flow, params, training = trained(target, run)

    def log_prob(z):
        x, log_det = flow.inverse(params, z[None])
        return target.log_prob(x)[0] + log_det[0]

    to_data = jax.jit(lambda z: flow.inverse(params, z)[0])
    for name, sampler in THROUGH_FLOW.items():
        chains = sample(sampler, log_prob, 1.0, run)
        draws = np.asarray(to_data(chains.draws.reshape(-1, 2))).reshape(chains.draws.shape)
        found[name] = chains._replace(draws=draws, training=training)
    return found


def figures_of(chains: list[Chains]) -> dict[str, str]:
    """One way's figures over seeds."""
    ess, sampling, total = np.array([(c.ess, c.sampling, c.total) for c in chains]).T
    right = np.concatenate([np.mean(c.draws[..., 0] > 0, axis=1) for c in chains])
    return {
        "acceptance": common.spread([c.acceptance for c in chains]),
        "ESS": common.spread(ess),
        "seconds of sampling": common.spread(sampling),
        "seconds of training": common.spread([c.training for c in chains]),
        "ESS a second of sampling": common.spread(ess / sampling),
        "ESS a second in all": common.spread(ess / total),
        "share of x1 > 0 in a chain": f"{right.min():.3f} … {right.max():.3f}",
    }


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    seeds = range(run.seed, run.seed + run.size(3, 1))
    for name, target in TARGETS.items():
        runs = [common.Run(folder=run.folder, smoke=run.smoke, seed=seed) for seed in seeds]
        found = [study(target, seeded) for seeded in runs]
        for way in found[0]:
            rows = figures_of([chains[way] for chains in found])
            figures |= {f"{name}, {way}: {row}": value for row, value in rows.items()}
        points = run.size(400, 40)
        x, _ = targets.grid(target.extent, points)
        values = np.asarray(target.log_prob(x)).reshape(points, points)
        plots.density_2d(
            run.folder / f"{name.replace(' ', '_')}.png",
            dict.fromkeys(found[0], values),
            extent=target.extent,
            samples={way: chains.draws[0, -SHOWN:] for way, chains in found[0].items()},
            points=points,
        )
    return figures


if __name__ == "__main__":
    common.run(main)
