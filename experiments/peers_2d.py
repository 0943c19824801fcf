"""Residual, continuous, planar and neural autoregressive flows, beside those of other libraries.

    python -m experiments.peers_2d

Each flow is trained by maximum likelihood in glowjax, and in each of normflows, zuko and FlowJAX
that has it, on the same 10,000 points of the plane, with the same number of layers, sizes of nets,
steps, batches and falling learning rate:

- residual: 8 blocks with nets of 2 hidden layers of 32 and a Lipschitz bound of 0.9, with exact
  log-determinants; 800 steps of 256 at 5e-3;
- continuous: a net of 2 hidden layers of 64, with exact traces, and a solver's tolerance of 1e-4;
  300 steps of 128 at 5e-3;
- planar: 16 layers of tanh, from data to noise; 1,500 steps of 256 at 5e-3;
- UMNN: 3 masked autoregressive layers with nets of 2 hidden layers of 64; 150 steps of 256 at 3e-3.

The rest, such as the first weights, is as each library has it by default; FlowJAX also trains the
mean and the scale of its noise. The learning rates are those of `residual_2d`, `continuous_2d`,
`planar_two_modes` and `monotone_2d`; none was chosen here. The steps are few, so that all take
minutes: the figures say how fast a flow learns, and not what it can reach.

They are the nats by which the log-likelihood of 10,000 other points is below that of the truth,
with the standard error over three seeds of the initial parameters and batches, and the seconds of
the processor for one training: the first, in which JAX compiles, and the mean of the other five.
Bars in the picture are two standard errors long to each side. Install the other libraries by
`pip install 'glowjax[bench,continuous]'`; one that is missing is left out.

Time: 13 to 17 min of one processor with all three libraries.
Expected: residual flows are ahead of those of normflows by 0.4 nats on eight Gaussians and 0.2 on
the checkerboard, continuous flows ahead of zuko's by 0.3 on both, and planar flows ahead of
FlowJAX's by 1.5 and 0.8, and level with those of normflows. UMNNs are level. Once compiled, all of
glowjax take fewer seconds than the others.
Source: Chen et al. 2019; Grathwohl et al. 2019; Rezende & Mohamed 2015; Wehenkel & Louppe 2019.
"""

import functools
import importlib.util
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import glowjax
from experiments import common
from experiments.monotone_2d import in_units, trained
from experiments.peer_fits import (
    Budget,
    Fit,
    trained_by_flowjax,
    trained_by_normflows,
    trained_by_zuko,
)
from experiments.residual_2d import COEFFICIENT, TRUTH
from glowjax import toy
from glowjax.bijections.ode.continuous import Continuous
from glowjax.plots.style import COLOURS, INK, dress, save

SETS = "eight_gaussians", "checkerboard"
TOLERANCE = 1e-4
LIBRARIES = "glowjax", "normflows", "zuko", "FlowJAX"


class Measured(NamedTuple):
    """Of a flow of one library: set -> nats below the truth of each seed; seconds of each run."""

    gaps: dict[str, list[float]]
    seconds: list[float]


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    found: dict[str, dict[str, Measured]] = {}
    for flow, fits in {
        "residual": residual(run),
        "continuous": continuous(run),
        "planar": planar(run),
        "UMNN": monotone(run),
    }.items():
        found[flow] = {library: measured(fit, run) for library, fit in fits.items()}
        for library, (gaps, seconds) in found[flow].items():
            for name in SETS:
                title = f"{flow}, {name.replace('_', ' ')}, {library}"
                figures[f"{title}: nats below the truth"] = common.mean(gaps[name])
            took = f"{seconds[0]:.1f}, then {np.mean(seconds[1:]):.1f}"
            figures[f"{flow}, {library}: seconds"] = took
    draw(found, run)
    return figures


def residual(run: common.Run) -> dict[str, Fit]:
    budget = budget_of(run, layers=8, width=32, steps=800, rate=5e-3)
    block = glowjax.Residual(width=budget.width, depth=budget.depth, coefficient=COEFFICIENT)
    fits = own(glowjax.repeat(glowjax.as_flow(block), budget.layers), budget)
    if importlib.util.find_spec("normflows"):
        from normflows import flows, nets

        sizes = [2, *[budget.width] * budget.depth, 2]
        bound = COEFFICIENT ** (1 / (budget.depth + 1))  # of each layer, as in glowjax

        def layer():
            net = nets.LipschitzMLP(sizes, lipschitz_const=bound)
            return flows.Residual(net, brute_force=True)  # the exact log-determinant

        fits["normflows"] = trained_by_normflows(layer, budget)
    return fits


def continuous(run: common.Run) -> dict[str, Fit]:
    budget = budget_of(run, layers=0, width=64, steps=300, rate=5e-3, batch=128)
    net = functools.partial(Continuous().net, width=budget.width, depth=budget.depth)
    fits = own(glowjax.as_flow(Continuous(net=net, rtol=TOLERANCE, atol=TOLERANCE)), budget)
    if importlib.util.find_spec("zuko"):
        sizes = [budget.width] * budget.depth
        fits["zuko"] = trained_by_zuko(
            "CNF", budget, hidden_features=sizes, rtol=TOLERANCE, atol=TOLERANCE
        )
    return fits


def planar(run: common.Run) -> dict[str, Fit]:
    budget = budget_of(run, layers=16, width=0, steps=1500, rate=5e-3)
    fits = own(glowjax.repeat(glowjax.as_flow(glowjax.Planar()), budget.layers), budget)
    if importlib.util.find_spec("normflows"):
        from normflows import flows

        def layer():  # the other way round: it has no inverse, which a likelihood would need
            return flows.Reverse(flows.Planar((2,)))

        fits["normflows"] = trained_by_normflows(layer, budget)
    if importlib.util.find_spec("flowjax"):
        fits["FlowJAX"] = trained_by_flowjax("planar_flow", budget, budget.rate)
    return fits


def monotone(run: common.Run) -> dict[str, Fit]:
    budget = budget_of(run, layers=3, width=64, steps=150, rate=3e-3)
    umnn = glowjax.unconstrained_monotonic()
    fits = own(
        glowjax.maf(steps=budget.layers, transform=umnn, width=budget.width, depth=budget.depth),
        budget,
    )
    if importlib.util.find_spec("zuko"):
        sizes = [budget.width] * budget.depth
        fits["zuko"] = trained_by_zuko("UNAF", budget, hidden_features=sizes)
    return fits


def budget_of(
    run: common.Run, *, layers: int, width: int, steps: int, rate: float, batch: int = 256
) -> Budget:
    return Budget(
        layers=min(layers, run.size(layers, 2)),
        width=run.size(width, 8),
        depth=2,
        steps=run.size(steps, 3),
        batch=run.size(batch, 32),
        rate=rate,
    )


def own(flow: glowjax.Flow, budget: Budget) -> dict[str, Fit]:
    return {"glowjax": trained(flow, budget.rate, budget)}


def measured(fit: Fit, run: common.Run) -> Measured:
    """Trains on each set from several seeds."""
    gaps: dict[str, list[float]] = {name: [] for name in SETS}
    seconds = []
    for name in SETS:
        keys = jax.random.split(jax.random.key(run.seed))
        train, test = (np.asarray(toy.TOY[name](key, run.size(10_000, 300))) for key in keys)
        truth = np.mean(TRUTH[name](jnp.asarray(test)))
        for seed in range(run.seed, run.seed + run.size(3, 2)):
            began = time.process_time()
            log_p = in_units(fit, train, seed)
            seconds.append(time.process_time() - began)
            gaps[name].append(float(truth - np.mean(log_p(test))))
    return Measured(gaps, seconds)


def draw(found: dict[str, dict[str, Measured]], run: common.Run) -> None:
    """Nats below the truth on each set, and seconds, of each flow in each library."""
    rows = []
    for group, (flow, fits) in enumerate(found.items()):
        for library, one in fits.items():
            colour = COLOURS[LIBRARIES.index(library)]
            rows.append((f"{flow}, {library}", one, len(rows) + 0.5 * group, colour))
    figure = Figure((12, 4.4), 110, facecolor="white", layout="constrained")
    frames = figure.subplots(1, len(SETS) + 1, sharey=True)
    for _, (gaps, seconds), place, colour in rows:
        for axes, name in zip(frames, SETS, strict=False):
            draw_point(axes, gaps[name], place, colour, ".2f")
        draw_point(frames[-1], seconds[1:], place, colour, ".1f")
    for axes, title in zip(frames, ("Eight Gaussians", "Checkerboard", "Time"), strict=True):
        is_time = title == "Time"
        xlabel = "processor seconds, once compiled" if is_time else "nats below the truth"
        dress(axes, xlabel=xlabel, ylabel="", title=title)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
    frames[0].set_yticks([place for _, _, place, _ in rows], [title for title, *_ in rows])
    frames[0].set_ylim(rows[-1][2] + 0.5, -0.8)
    save(figure, run.folder / "peers_2d.png")


def draw_point(axes, values: list[float], place: float, colour: str, digits: str) -> None:
    """The mean, as a dot and a number, with two standard errors to each side."""
    mean, error = common.mean_and_error(values)
    axes.errorbar(mean, place, xerr=2 * error, fmt="o", color=colour, markersize=5, capsize=3)
    axes.annotate(
        f"{mean:{digits}}", (mean, place), (0, 5), textcoords="offset points", ha="center",
        color=INK, size=8.5,
    )  # fmt: skip


if __name__ == "__main__":
    common.run(main)
