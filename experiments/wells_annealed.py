"""Many wells in 8 and 32 dimensions: ln Z by flows, by annealing, and by both, in seconds.

    python -m experiments.wells_annealed

Products of 4 and of 16 double wells have 16 and 65,536 modes, and ln Z is known. Three ways need no
flow: annealed importance sampling from N(0, 1.5²), the same with momentum that is kept (HAIS), and
with resampling (SMC); each finds its temperatures and steps itself. Three train a flow first:
splines by reverse KL and by `fab`, whose samples are then weighted, and couplings between eight
temperatures by `craft`, inside SMC. All end with 2,000 samples, after 11 to 33 s of the processor
each, as the figures say, besides compilation.

The reach is the mass of the modes that any sample is in; that of exact samples stands beside it.
The shares are of the right-hand wells, by weight, exactly 0.844 of each pair: their mean absolute
error tells of modes that are there, but with a wrong weight.

Time: 22 min on a CPU core. Needs the extra blackjax.
Expected: all annealing without flows is within 0.02 of ln Z in 8 dimensions, and in 32 within 0.1.
SMC has the most effective samples in 32, counted after it resampled, and fab in 8, within 0.01 of
ln Z. In 32 fab reaches nearly as many modes as exact samples do, but its weights spread too far.
Reverse KL lacks modes, and CRAFT, of few temperatures and affine couplings, fails.
Source: Midgley et al. 2023, section 4.2; Del Moral et al. 2006; Sohl-Dickstein & Culpepper 2012;
Matthews et al. 2022.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments import common
from experiments.annealing_wells import LOG_Z_PAIR, modes
from glowjax import plots
from glowjax.densities import targets

ANNEALED: dict[str, dict[str, Any]] = {
    "AIS": {},
    "HAIS": {"persistence": 0.9, "leapfrog_steps": 1},
    "SMC": {"ess_threshold": 0.5},
}
COUNTS = {  # steps of training, or temperatures, of 11 to 33 s: in 8 dimensions and in 32
    "reverse KL": (10_500, 2450),
    "fab": (880, 204),
    "AIS": (9100, 2400),
    "HAIS": (9700, 3900),
    "SMC": (8000, 2900),
    "CRAFT": (8700, 3200),
}
FAB: dict[str, Any] = {"temperatures": 4, "leapfrog_steps": 5, "step_size": 0.15}
CRAFT: dict[str, Any] = {"temperatures": 8, "step_size": 0.15, "ess_threshold": 0.3}
Sampler = Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # of a key, to samples and ln w
LAYER = glowjax.realnvp_mlp(steps=2, width=16)


def annealed(method: str, wells: targets.Target, size: int, run: common.Run) -> Sampler:
    """From the wide normal, after a search for temperatures and steps with few samples."""
    few = run.size(200, 4)
    options: dict[str, Any] = ANNEALED[method] | {"temperatures": count(method, size, run)}

    def sampled(key):
        keys = jax.random.split(key, 4)
        at = (*wide(size, keys[0]), wells.log_prob)
        betas = glowjax.tuned_temperatures(*at, keys[1], few, rounds=run.size(5, 1), **options)
        at_betas: dict[str, Any] = options | {"temperatures": betas}
        sizes = glowjax.tuned_step_size(*at, keys[2], few, rounds=run.size(10, 1), **at_betas)
        return glowjax.anneal(*at, keys[3], run.size(2000, 10), step_size=sizes, **at_betas)

    return jax.jit(lambda key: sampled(key)[:2])


def wide(size: int, key: jax.Array) -> tuple[glowjax.Density, Any]:
    """N(0, 1.5²), from which annealing starts."""
    model = glowjax.density(glowjax.as_flow(glowjax.ActNorm()), (size,))
    return model, model.init(key, 1.5 * jax.random.normal(key, (20_000, size)))


def by_flow(method: str, wells: targets.Target, size: int, run: common.Run) -> Sampler:
    """From a flow of splines."""
    flow = glowjax.neural_spline_flow(steps=4, width=run.size(32, 4), bound=4.0)
    model = glowjax.density(flow, (size,))

    def loss(params, batch, key, step):
        if method == "fab":
            return glowjax.fab(model, params, wells.log_prob, key, run.size(128, 4), **FAB)
        return glowjax.reverse_kl(model, params, wells.log_prob, key, run.size(256, 4))

    @jax.jit
    def weighted(params, key):
        x, log_q = model.sample_and_log_prob(params, key, run.size(2000, 10))
        return x, wells.log_prob(x) - log_q

    fit = fitting(model, loss, count(method, size, run))
    return lambda key: weighted(fit(key), key)


def by_craft(method: str, wells: targets.Target, size: int, run: common.Run) -> Sampler:
    """From the wide normal by SMC, through flows that are trained."""
    model, start = wide(size, jax.random.key(0))
    at = model, start, wells.log_prob

    def given(params):
        return {"transport": LAYER, "transport_params": params} | CRAFT

    def loss(params, batch, key, step):
        return glowjax.craft(*at, key, run.size(256, 8), **given(params))

    @jax.jit
    def first(key):
        x = model.sample(start, key, 256)
        return jax.vmap(LAYER.init, (0, None))(jax.random.split(key, CRAFT["temperatures"]), x)

    @jax.jit
    def weighted(params, key):
        return glowjax.anneal(*at, key, run.size(2000, 10), **given(params))[:2]

    fit = fitting(model, loss, count(method, size, run))
    return lambda key: weighted(fit(key, first(key)), key)


def count(method: str, size: int, run: common.Run) -> int:
    """Steps of training, or temperatures."""
    return run.size(COUNTS[method][size > 8], 3)


def fitting(model: glowjax.Density, loss: Callable, steps: int) -> Callable:
    """A function of a key, and of parameters to start from, that trains: it compiles once."""
    optimizer = common.clipped(3e-3, steps, norm=1.0)

    def fit(key, params=None):
        return glowjax.fit(
            model, loss=loss, steps=steps, optimizer=optimizer, params=params, key=key, show=False
        ).params

    return fit


METHODS = {
    "reverse KL": by_flow,
    "fab": by_flow,
    **dict.fromkeys(ANNEALED, annealed),
    "CRAFT": by_craft,
}


def reach(x: jax.Array, exact: jax.Array) -> float:
    """The share of exact samples in modes that x have."""
    return float(np.isin(modes(exact), modes(x)).mean())


def judged(x: jax.Array, log_w: jax.Array, exact: jax.Array) -> dict[str, float]:
    """Figures of weighted samples beside exact ones."""
    shares = jax.nn.softmax(log_w) @ (x[:, ::2] > 0)
    return {
        "error of ln Z": float(glowjax.log_mean_exp(log_w)) - x.shape[1] / 2 * LOG_Z_PAIR,
        "ESS/n": float(glowjax.effective_sample_size(log_w)) / len(x),
        "reach": reach(x, exact),
        "error of shares": float(jnp.mean(jnp.abs(shares - jnp.mean(exact[:, ::2] > 0)))),
    }


def main(run: common.Run) -> common.Figures:
    """Each method from each seed; a table, and a picture of two wells in 32 dimensions."""
    figures, clouds = {}, {}
    keys = jax.vmap(jax.random.key)(run.seed + jnp.arange(run.size(3, 1)))
    for pairs in (4, run.size(16, 2)):
        wells, size = targets.many_wells(pairs), 2 * pairs
        assert wells.sample is not None
        exact = wells.sample(jax.random.key(run.seed), run.size(50_000, 50))
        some = wells.sample(jax.random.key(run.seed + 1), run.size(2000, 10))
        figures[f"{size}-D, exact samples: reach"] = reach(some, exact)
        clouds = {"exact samples": some[:, 0:3:2]}
        for method, sampler in METHODS.items():
            found, seconds, compiling = common.timed(sampler(method, wells, size, run), keys)
            rows = [judged(x, log_w, exact) for x, log_w in found]
            told = {name: common.spread([row[name] for row in rows]) for name in rows[0]}
            told["seconds each"] = f"{seconds / len(keys):.1f}, and {compiling:.0f} to compile"
            figures |= {f"{size}-D, {method}: {name}": told[name] for name in told}
            x, log_w = found[-1]
            drawn = jax.random.choice(keys[0], x, (len(x),), p=jax.nn.softmax(log_w))
            clouds[method] = drawn[:, 0:3:2]
    plots.scatter_2d(run.folder / "wells.png", clouds, extent=(-3, 3), columns=4)
    return figures


if __name__ == "__main__":
    common.run(main)
