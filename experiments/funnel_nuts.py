"""NUTS through a trained flow beside plain NUTS, on Neal's funnel of ten dimensions.

    python -m experiments.funnel_nuts

v ~ N(0, 3²) is the neck, and x1 … x9 ~ N(0, exp(v)) given v. No step size suits both ends of the
funnel. A flow is trained by reverse KL as a guide of numpyro, and NUTS then samples its latents,
which are nearly normal (NeuTra). Plain NUTS is run with numpyro's default of the acceptance that it
aims at, 0.8, and with 0.99, which takes smaller steps. All three make as many draws.

An effective sample size (ESS) is numpyro's, over all chains, for v and for the number that has the
least. It believes a chain that never saw the end of the neck. The share of draws with v < -5 shows
that: exactly, it is 0.0478. Seconds of sampling are those of four chains, one after the other, with
their adaptation. What NUTS takes to compile is counted apart, and training includes its own: each
seed starts with no compiled program. All are seconds of the processor, of all threads together,
since other work lengthens those of the clock.

Time: 5 minutes on one CPU core.
Expected: through the flow, at least ten times the effective samples of v a second, also if training
and compilation count, and a share of v < -5 within 0.01 of the exact one.
Source: Neal 2003, Slice sampling, section 8; Hoffman et al. 2019, NeuTra-lizing bad geometry in
Hamiltonian Monte Carlo using neural transport.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from matplotlib.figure import Figure
from numpyro import distributions as dist
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.reparam import NeuTraReparam

import glowjax
from experiments import common
from glowjax.interop.numpyro import AutoFlow
from glowjax.plots.style import BLUE, INK, RED, dress, save

SIZE, CHAINS, NECK = 10, 4, -5.0
PLAIN = {"plain NUTS": 0.8, "plain NUTS, target 0.99": 0.99}
FLOW = "NUTS through the flow"


class Chains(NamedTuple):
    """Draws `[chains, n, 10]` of (v, x1 … x9), what diverged `[chains, n]`, and seconds."""

    draws: np.ndarray
    diverging: np.ndarray
    sampling: float
    compiling: float
    training: float = 0.0

    @property
    def ess(self) -> np.ndarray:
        """Of v, x1 … x9."""
        return np.array([effective_sample_size(a) for a in np.moveaxis(self.draws, -1, 0)])

    @property
    def before(self) -> float:
        """Seconds before the first draw."""
        return self.training + self.compiling


def funnel() -> None:
    """The model of numpyro."""
    v = numpyro.sample("v", dist.Normal(0, 3))
    numpyro.sample("x", dist.Normal(0, jnp.exp(v / 2)).expand([SIZE - 1]).to_event(1))


def exact(seed: int, n: int) -> np.ndarray:
    """Independent draws of the funnel, `[n, 10]`."""
    z = np.random.default_rng(seed).normal(size=(n, SIZE))
    v = 3 * z[:, :1]
    return np.concatenate([v, np.exp(v / 2) * z[:, 1:]], axis=1)


def trained(seed: int, steps: int) -> tuple[NeuTraReparam, float]:
    """A flow fitted to the funnel by reverse KL, and the seconds that it took."""
    began = time.process_time()
    flow = glowjax.iaf(
        steps=2, width=32, depth=1, transform=glowjax.affine(), backprop="store", unroll=True
    )
    guide = AutoFlow(funnel, flow)
    optimizer = common.clipped(1e-2, steps, norm=1.0)
    svi = SVI(funnel, guide, optimizer, Trace_ELBO(num_particles=64))
    result = svi.run(jax.random.key(seed), steps, progress_bar=False)
    params = jax.block_until_ready(result.params)
    return NeuTraReparam(guide, params), time.process_time() - began


def sample(
    model: Callable[[], None], to_funnel: Callable[[Any], Any], acceptance: float, run: common.Run
) -> Chains:
    """NUTS on a model, chain by chain."""
    mcmc = MCMC(
        NUTS(model, target_accept_prob=acceptance),
        num_warmup=run.size(1000, 20),
        num_samples=run.size(10_000, 40),
        progress_bar=False,
    )

    def one(key):
        mcmc.run(key, extra_fields=("diverging",))
        return to_funnel(mcmc.get_samples()), mcmc.get_extra_fields()["diverging"]

    found, sampling, compiling = common.timed(
        one, jax.random.split(jax.random.key(run.seed), CHAINS)
    )
    draws = [np.concatenate([x["v"][:, None], x["x"]], axis=1) for x, _ in found]
    diverging = [np.asarray(diverged) for _, diverged in found]
    return Chains(np.stack(draws), np.stack(diverging), sampling, compiling)


def through_flow(run: common.Run) -> Chains:
    """NUTS on the latents of a flow that is trained first."""
    neutra, training = trained(run.seed, run.size(2000, 10))

    def to_funnel(samples):
        return neutra.transform_sample(samples["auto_shared_latent"])

    return sample(neutra.reparam(funnel), to_funnel, 0.8, run)._replace(training=training)


def figures_of(name: str, chains: list[Chains]) -> common.Figures:
    """One method's figures over seeds."""
    ess = np.array([c.ess for c in chains])
    sampling, before = np.array([(c.sampling, c.before) for c in chains]).T
    necks = [np.mean(c.draws[..., 0] < NECK) for c in chains]
    rows = {
        "ESS of v": ess[:, 0],
        "least ESS": ess.min(axis=1),
        "seconds of sampling": sampling,
        "seconds of training": [c.training for c in chains],
        "seconds of compiling NUTS": [c.compiling for c in chains],
        "ESS of v a second of sampling": ess[:, 0] / sampling,
        "least ESS a second of sampling": ess.min(axis=1) / sampling,
        "ESS of v a second in all": ess[:, 0] / (sampling + before),
        "least ESS a second in all": ess.min(axis=1) / (sampling + before),
        "share of v < -5": necks,
        "divergences": [c.diverging.sum() for c in chains],
    }
    return {f"{name}: {row}": common.spread(np.array(v)) for row, v in rows.items()}


def break_even(flow: list[Chains], plain: list[Chains]) -> float:
    """Effective samples of v after which the flow's time in all is the shorter one; 0: at once."""

    def line(chains):
        rate = np.mean([c.sampling / c.ess[0] for c in chains])
        return np.mean([c.before for c in chains]), rate

    (flow_start, flow_each), (plain_start, plain_each) = line(flow), line(plain)
    return max(0.0, (flow_start - plain_start) / (plain_each - flow_each))


def main(run: common.Run) -> common.Figures:
    found: dict[str, list[Chains]] = {name: [] for name in (*PLAIN, FLOW)}
    for seed in range(run.seed, run.seed + run.size(3, 1)):
        jax.clear_caches()
        seeded = common.Run(folder=run.folder, smoke=run.smoke, seed=seed)
        for name, acceptance in PLAIN.items():
            found[name].append(sample(funnel, lambda samples: samples, acceptance, seeded))
        found[FLOW].append(through_flow(seeded))
    figures: common.Figures = {}
    for name, chains in found.items():
        figures |= figures_of(name, chains)
    for name in PLAIN:
        figures[f"effective samples of v that repay the flow, beside {name}"] = break_even(
            found[FLOW], found[name]
        )
    picture(run.folder / "funnel.png", run, {name: chains[0] for name, chains in found.items()})
    return figures


def thinned(draws: np.ndarray, n: int) -> np.ndarray:
    """`[n, 10]` of all chains, evenly spaced."""
    pooled = draws.reshape(-1, SIZE)
    return pooled[:: len(pooled) // n][:n]


def picture(path: Path, run: common.Run, found: dict[str, Chains]) -> None:
    """v against x1, as many draws in each panel; crosses for every divergence."""
    n = run.size(3000, 40)
    figure = Figure((12, 3.6), 160, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 1 + len(found), sharex=True, sharey=True)
    draws = {"exact": exact(run.seed, n)}
    draws |= {name: thinned(c.draws, n) for name, c in found.items()}
    for axes, (name, points) in zip(panels, draws.items(), strict=True):
        axes.scatter(points[:, 1], points[:, 0], s=3, color=BLUE, alpha=0.4, linewidths=0)
        dress(axes, xlabel="x1", ylabel="", title=None)
        axes.axhline(NECK, color=INK, linewidth=0.6, linestyle="--")
        share = np.mean(found[name].draws[..., 0] < NECK) if name in found else 0.0478
        note = f", {found[name].diverging.sum()} divergences" if name in found else ""
        axes.set_title(f"{name}\n{share:.1%} of v < -5{note}", fontsize=10, color=INK)
        if name in found:
            at = found[name].draws[found[name].diverging]
            axes.scatter(at[:, 1], at[:, 0], s=14, color=RED, marker="x", linewidths=0.9)
    panels[0].set(xlim=(-20, 20), ylim=(-11, 11), ylabel="v")
    save(figure, path)


if __name__ == "__main__":
    common.run(main)
