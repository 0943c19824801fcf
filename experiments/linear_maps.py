"""Linear maps of vectors: which Gaussians they hold, how exact their inverses are, what they cost.

    python -m experiments.linear_maps

The data are a Gaussian of 32 numbers with four common factors: its covariance is a diagonal plus a
matrix of rank 4. The loss is its exact expectation, from 64 points with the same moments, so that
KL(data‖flow) is exact too. Orthogonal maps are followed by an ActNorm, which scales.

The error is that of x after a round trip in float32; each number has the deviation 1. The times are
of the inverse of 64 vectors, from the parameters and with the matrix prepared once.

Time: 2 min on 2 CPU cores.
Expected: KL is below 0.001 nats for dense, LU, QR, triangular, exponential, and Woodbury of rank 4.
The exponential is there first. It is below 0.02 for SVD, rotation and 32 reflections, which
converge more slowly. Two reflections cannot fit. Errors are below 1e-4. At 1024 numbers a prepared
dense inverse takes less than a tenth of the time of one from the parameters.
Source: Kingma & Dhariwal 2018, section 3.2; Lu & Huang 2020; Tomczak & Welling 2016.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import glowjax as gj
from experiments import common
from glowjax.plots.style import COLOURS, GREY, INK, dress, save

SIZE, FACTORS, ROWS = 32, 4, 64
SIZES = 64, 128, 256, 512, 1024
LABELS = {"dense": "dense", "woodbury": "Woodbury, rank 4", "householder": "8 reflections"}


class Trained(NamedTuple):
    """KL(data‖flow) in nats at each step, and the flow's parameters."""

    kl: jax.Array
    params: Any


def flows() -> dict[str, gj.Flow]:
    def conv(form):
        return gj.as_flow(gj.InvertibleConv1x1(form))

    def scaled(flow):
        return gj.chain(flow, gj.as_flow(gj.ActNorm()))

    return {
        "dense": conv("dense"),
        "LU": conv("lu"),
        "QR": conv("qr"),
        "SVD": conv("svd"),
        "triangular": conv("triangular"),
        "rotation, ActNorm": scaled(conv("rotation")),
        "exponential": conv("exponential"),
        "Woodbury, rank 4": gj.as_flow(gj.Woodbury(4)),
        "32 reflections, ActNorm": scaled(gj.as_flow(gj.Householder(32))),
        "2 reflections, ActNorm": scaled(gj.as_flow(gj.Householder(2))),
    }


def covariance(seed: int) -> np.ndarray:
    """Of four common factors, scaled so that each number has variance 1."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(SIZE, FACTORS))
    whole = loadings @ loadings.T + np.diag(rng.uniform(0.1, 1, SIZE))
    deviation = np.sqrt(np.diag(whole))
    return whole / np.outer(deviation, deviation)


def trained(flow: gj.Flow, cov: np.ndarray, steps: int, seed: int) -> Trained:
    """Adam on the exact loss: the mean over points `[2·D, D]` with the mean and covariance of x."""
    half = SIZE**0.5 * np.linalg.cholesky(cov).T
    points = jnp.asarray(np.concatenate([half, -half]), jnp.float32)
    entropy = 0.5 * (SIZE + np.linalg.slogdet(cov)[1])  # less what the loss leaves out too
    optimizer = common.falling(5e-3, steps)

    def loss(params):
        z, log_det = flow.forward(params, points)
        return jnp.mean(0.5 * jnp.sum(jnp.square(z), axis=1) - log_det)

    def step(state, _):
        params, rest = state
        value, gradient = jax.value_and_grad(loss)(params)
        updates, rest = optimizer.update(gradient, rest, params)
        return (optax.apply_updates(params, updates), rest), value

    @jax.jit
    def run():
        params = flow.init(jax.random.key(seed), points)
        (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
        return values - entropy, params

    return Trained(*run())


def error(flow: gj.Flow, params: Any, cov: np.ndarray, seed: int) -> float:
    """The largest error of a round trip of 1000 draws."""
    noise = np.random.default_rng(seed).normal(size=(1000, SIZE))
    x = jnp.asarray(noise @ np.linalg.cholesky(cov).T, jnp.float32)
    back = flow.inverse(params, flow.forward(params, x)[0])[0]
    return float(jnp.max(jnp.abs(back - x)))


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """By the clock, the least of some calls that follow one that compiles."""
    jax.block_until_ready(call())
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - began)
    return min(found)


def times(run: common.Run) -> dict[str, np.ndarray]:
    """Seconds of an inverse at each of SIZES, from the parameters and prepared, `[sizes, 2]`."""
    modules = {
        "dense": gj.InvertibleConv1x1(),
        "woodbury": gj.Woodbury(4),
        "householder": gj.Householder(8),
    }
    found: dict[str, Any] = {name: [] for name in modules}
    for size in SIZES[: run.size(len(SIZES), 2)]:
        for name, module in modules.items():
            flow, z = gj.as_flow(module), jnp.ones((ROWS, size))
            params = jax.jit(flow.init)(jax.random.key(0), z)
            inverse = jax.jit(flow.inverse)
            both = params, jax.jit(flow.prepare)(params)
            repeats = run.size(30, 1)
            found[name].append([seconds(functools.partial(inverse, p, z), repeats) for p in both])
    return {name: np.array(rows) for name, rows in found.items()}


def main(run: common.Run) -> common.Figures:
    cov, steps = covariance(run.seed), run.size(3000, 4)
    figures: common.Figures = {}
    curves = {}
    for name, flow in list(flows().items())[: run.size(len(flows()), 3)]:
        kl, params = trained(flow, cov, steps, run.seed)
        curves[name] = np.asarray(kl)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        off = error(flow, params, cov, run.seed)
        figures[name] = f"KL {abs(float(kl[-1])):.5f} nats, {count} parameters, error {off:.0e}"
    taken = times(run)
    for name, rows in taken.items():
        plain, prepared = 1e6 * rows[-1]
        size = SIZES[len(rows) - 1]
        told = f"{plain:.0f} µs, prepared {prepared:.0f} µs"
        figures[f"{LABELS[name]}, inverse at {size}"] = told
    picture(run, curves, taken)
    return figures


def picture(run: common.Run, curves: dict[str, np.ndarray], taken: dict[str, np.ndarray]) -> None:
    """KL over the steps of training, and times over sizes."""
    figure = Figure((11, 4.5), 160, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, kl) in enumerate(curves.items()):
        style = {"color": (*COLOURS, *COLOURS)[number], "linestyle": "-" if number < 5 else "--"}
        least = np.maximum(np.minimum.accumulate(kl), 1e-5)
        left.semilogy(1 + np.arange(len(kl)), least, label=name, **style)
    left.set_ylim(1e-5, 100)
    left.legend(
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        ncols=2,
        loc="upper right",
        bbox_to_anchor=(1, 0.88),
    )
    title, least = f"Fit to a Gaussian of {SIZE} numbers", "KL(data‖flow), nats, least so far"
    dress(left, xlabel="step", ylabel=least, title=title)
    for (name, rows), colour in zip(taken.items(), COLOURS, strict=False):
        sizes = SIZES[: len(rows)]
        right.loglog(sizes, 1e3 * rows[:, 0], "o-", color=colour, label=LABELS[name], base=2)
        right.loglog(sizes, 1e3 * rows[:, 1], "o--", color=colour, base=2)
    right.plot([], [], "--", color=GREY, label="prepared")
    right.set_yscale("log")
    right.set_xticks(SIZES[: len(rows)], labels=map(str, SIZES[: len(rows)]))
    right.legend(frameon=False, fontsize=8, labelcolor=INK)
    dress(right, xlabel="numbers", ylabel="milliseconds", title=f"Inverse of {ROWS} vectors")
    save(figure, run.folder / "linear_maps.png")


if __name__ == "__main__":
    common.run(main)
