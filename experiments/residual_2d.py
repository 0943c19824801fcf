"""Residual flows of the plane: exact log-determinants, their estimates, and the inverse.

    python -m experiments.residual_2d

z = x + g(x) with a contraction g, sixteen times over. Trained with the exact log-determinant, which
two dimensions allow; then, with the same weights, what many dimensions need: the power series cut
off after some terms, which is biased, and the roulette, which is not.

Time: 6 min on 2 CPU cores.
Expected: held-out log-likelihood within 0.02 nats of the truth on eight Gaussians, but 0.3 below on
the checkerboard, whose corners a contraction resolves slowly; the series' bias falls from 0.5 nats
by a factor of 4 or more with each doubling of terms, the roulette's is 0 within its error.
Source: Behrmann et al. 2019 (i-ResNet), section 3; Chen et al. 2019 (Residual Flows), section 3.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments import common
from glowjax import plots
from glowjax.bijections.residual import fixed_point
from glowjax.densities import targets, toy

BLOCKS, COEFFICIENT = 16, 0.9
TERMS = 1, 2, 4, 8, 16, 32
ITERATIONS = 1, 2, 4, 8, 16, 32, 64, 128
TRUTH = {
    "eight_gaussians": targets.circular_gaussians(8).log_prob,
    "checkerboard": lambda x: jnp.full(len(x), -jnp.log(32.0)),
}


def block(run: common.Run, **options) -> glowjax.Flow:
    width = run.size(32, 8)
    return glowjax.as_flow(glowjax.Residual(width=width, coefficient=COEFFICIENT, **options))


class Trained(NamedTuple):
    """A density, its parameters, held-out examples, and their nats."""

    model: glowjax.Density
    params: Any
    test: jax.Array
    log_p: jax.Array


def train(name: str, run: common.Run, seed: int) -> Trained:
    flow = glowjax.repeat(block(run), run.size(BLOCKS, 2))
    model = glowjax.density(flow, (2,))
    keys = jax.random.split(jax.random.key(seed))
    x, test = (toy.TOY[name](key, run.size(10_000, 500)) for key in keys)
    steps = run.size(2500, 2)
    optimizer = common.clipped(5e-3, steps)
    fitted = glowjax.fit(
        model,
        x,
        params=common.in_units_of(model, x, seed),
        steps=steps,
        evaluate_every=max(1, steps // 5),
        optimizer=optimizer,
        seed=seed,
    )
    log_p = jax.jit(model.log_prob)(fitted.params, test)
    return Trained(model, fitted.params, test, log_p)


def estimates(params, x, run: common.Run) -> dict[str, list[tuple[float, float, float, float]]]:
    """Way to (terms, bias, its error, spread of one estimate for one example), nats."""
    n, keys = run.size(BLOCKS, 2), jax.random.split(jax.random.key(run.seed), run.size(200, 4))
    exact = glowjax.repeat(block(run), n).forward(params, x)[1]
    rows: dict[str, list] = {"power series": [], "roulette": []}
    for way, name in zip(rows, ("power_series", "roulette"), strict=True):
        for terms in TERMS[: run.size(6, 2)]:
            flow = glowjax.repeat(block(run, log_det=name, terms=terms), n)
            one = functools.partial(flow.forward, params, x, None)
            drawn = jax.jit(lambda keys, one=one: jax.lax.map(lambda k: one(k)[1], keys))(keys)
            error = np.asarray(drawn - exact)
            bias = error.mean(1)  # of each draw, over the examples
            rows[way].append((terms, bias.mean(), bias.std(ddof=1) / len(bias) ** 0.5, error.std()))
    return rows


def inverse_errors(params, x, run: common.Run) -> list[tuple[int, float]]:
    """(iterations a block, the largest error of what comes back)."""
    one, n = block(run), run.size(BLOCKS, 2)
    blocks = [jax.tree.map(lambda a, i=i: a[i], params) for i in range(n)]

    def g(p, x):
        return one.forward(p, x)[0] - x

    @jax.jit
    def error(limit):
        y = x
        for p in blocks:
            y = y + g(p, y)
        for p in reversed(blocks):
            y = fixed_point(lambda v, p=p, z=y: z - g(p, v), y, limit)
        return jnp.max(jnp.abs(y - x))

    return [(limit, float(error(limit))) for limit in ITERATIONS[: run.size(8, 3)]]


def likelihoods(name: str, found: list[Trained]) -> common.Figures:
    """Held-out ln p of each seed, and how far the last is below the truth, where that is known."""
    title, last = name.replace("_", " "), found[-1]
    means = [float(jnp.mean(one.log_p)) for one in found]
    error = float(jnp.std(last.log_p)) / len(last.test) ** 0.5
    told: common.Figures = {
        f"{title}: held-out ln p": f"{common.spread(means)}, each ± {error:.2g}"
    }
    if name in TRUTH:
        gap = np.mean(TRUTH[name](last.test)) - means[-1]
        told[f"{title}: nats below the true density"] = f"{gap:.3f}, last seed"
    return told


def draw_densities(trained: dict[str, Trained], run: common.Run) -> None:
    """What was learned of each data set, and below it samples."""
    panels, samples = {}, {}
    for title, (model, params, *_) in trained.items():
        panels[title] = jax.jit(functools.partial(model.log_prob, params))
        drawn = jax.jit(model.sample, static_argnums=2)(params, jax.random.key(1), 2000)
        samples[f"{title}, samples"] = drawn
    white = dict.fromkeys(samples, lambda x: np.full(len(x), -np.inf))
    plots.density_2d(
        run.folder / "densities.png",
        panels | white,
        extent=(-4.5, 4.5),
        samples=samples,
        points=run.size(300, 20),
        columns=3,
    )


def draw_estimates(rows: dict[str, list], run: common.Run) -> None:
    columns = {way: np.array(row) for way, row in rows.items()}
    plots.lines(
        run.folder / "estimates.png",
        {
            "Bias, ± 2 standard errors": {way: a[:, :3] * [1, 1, 2] for way, a in columns.items()},
            "Standard deviation": {way: a[:, [0, 3]] for way, a in columns.items()},
        },
        levels={"Bias, ± 2 standard errors": 0.0},
        xlabel="terms always computed",
        ylabel="nats",
        log_x=True,
    )


def draw_inverse(errors: list[tuple[int, float]], run: common.Run) -> None:
    n, e = np.array(errors).T
    plots.lines(
        run.folder / "inverse.png",
        {
            "The inverse, by iterating x ← z - g(x)": {
                "of what comes back": np.stack([n, e], -1),
                "0.9ⁿ, as a contraction by 0.9 has at most": np.stack([n, COEFFICIENT**n], -1),
            }
        },
        xlabel="iterations in each block",
        ylabel="largest error",
        log_x=True,
        log_y=True,
    )


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    trained: dict[str, Trained] = {}
    for name in ("two_moons", "eight_gaussians", "checkerboard"):
        found = [train(name, run, seed) for seed in range(run.seed, run.seed + run.size(2, 1))]
        figures |= likelihoods(name, found)
        trained[name.replace("_", " ")] = found[-1]
    draw_densities(trained, run)

    params, x = found[-1].params, found[-1].test[: run.size(500, 20)]
    rows, errors = estimates(params, x, run), inverse_errors(params, x, run)
    figures |= {
        f"{way}, {terms} terms: bias; spread": f"{bias:+.4f} ± {error:.4f}; {spread:.3f}"
        for way, row in rows.items()
        for terms, bias, error, spread in row
    }
    figures["inverse's largest error"] = ", ".join(f"{e:.1e} after {n}" for n, e in errors)
    draw_estimates(rows, run)
    draw_inverse(errors, run)
    return figures


if __name__ == "__main__":
    common.run(main)
