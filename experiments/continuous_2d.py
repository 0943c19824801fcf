"""Continuous flows of the plane (FFJORD): the solver's tolerance, and the trace by random probes.

    python -m experiments.continuous_2d

dx/dt = net(x, t) from data at t = 0 to noise at t = 1, and the trace of the net's Jacobian along
the way is the log-determinant. Trained with the exact trace at a tolerance of 1e-3; then, with the
same weights, other tolerances, and Hutchinson's estimate of the trace. Needs
`glowjax[continuous]`.

Time: 6 min on 2 CPU cores.
Expected: after these few steps 0.02 nats below the true density of eight Gaussians, and 0.3 below
the checkerboard's; a solver's tolerance of 1e-3 costs 4e-3 in ln p, and less than it in what comes
back; Hutchinson's estimate is unbiased, with a spread of 0.8 nats.
Source: Grathwohl et al. 2019 (FFJORD), sections 3 and 4.1; Chen et al. 2018.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments import common
from glowjax import plots
from glowjax.bijections.ode.along import flow_along
from glowjax.bijections.ode.continuous import Continuous
from glowjax.densities import targets, toy

TOLERANCES = 1e-1, 1e-2, 1e-3, 1e-4, 1e-5
TRUTH = {
    "eight_gaussians": targets.circular_gaussians(8).log_prob,
    "checkerboard": lambda x: jnp.full(len(x), -jnp.log(32.0)),
}


def density(run: common.Run, tolerance: float = 1e-3, trace="exact") -> glowjax.Density:
    flow = Continuous(net=net(run), trace=trace, rtol=tolerance, atol=tolerance)
    return glowjax.density(glowjax.as_flow(flow), (2,))


def net(run: common.Run) -> functools.partial:
    return functools.partial(Continuous().net, width=run.size(64, 4), depth=run.size(2, 1))


def train(name: str, run: common.Run) -> tuple[Any, jax.Array]:
    """Parameters, and held-out examples."""
    keys = jax.random.split(jax.random.key(run.seed))
    x, test = (toy.TOY[name](key, run.size(10_000, 300)) for key in keys)
    steps = run.size(800, 2)
    optimizer = common.clipped(5e-3, steps)
    fitted = glowjax.fit(
        density(run),
        x,
        params=common.in_units_of(density(run), x, run.seed),
        validation=run.size(500, 30) / len(x),
        steps=steps,
        batch_size=128,
        evaluate_every=max(1, steps // 3),
        optimizer=optimizer,
        seed=run.seed,
    )
    return fitted.params, test[: run.size(2000, 50)]


def on_the_way(params, run: common.Run, times) -> dict[str, np.ndarray]:
    """Samples at times from noise, t = 1, to data, t = 0."""
    velocity_net = net(run)(features=2)

    def velocity(x, t):
        inputs = jnp.concatenate([x, jnp.full(1, t, x.dtype)])
        return velocity_net.apply({"params": params["net"]}, inputs[None])[0]

    z = jax.random.normal(jax.random.key(run.seed), (run.size(2000, 50), 2))
    no_probe = jnp.zeros((1, 2))

    @jax.jit
    def at(time):
        return jax.vmap(lambda z: flow_along(velocity, z, no_probe, 1.0, time)[0])(z)

    return {f"t = {time:.2g}": np.asarray(at(time)) for time in times}


def likelihoods(name: str, params, test, run: common.Run) -> common.Figures:
    """Of held-out examples, and how far below the truth, where that is known."""
    title, log_p = name.replace("_", " "), jax.jit(density(run, 1e-5).log_prob)(params, test)
    told: common.Figures = {f"{title}: held-out ln p": common.mean(log_p)}
    if name in TRUTH:
        told[f"{title}: nats below the true density"] = common.mean(TRUTH[name](test) - log_p)
    return told


def tolerance_errors(params, x, reference, run: common.Run) -> dict[float, dict[str, float]]:
    """Tolerance to the median error of ln p, and of what comes back."""
    errors = {}
    for tolerance in TOLERANCES[: run.size(5, 2)]:
        model = density(run, tolerance)
        z, log_p = jax.jit(lambda p, x, m=model: (m.encode(p, x), m.log_prob(p, x)))(params, x)
        errors[tolerance] = {
            "ln p": np.median(jnp.abs(log_p - reference)),
            "what comes back": np.median(jnp.abs(jax.jit(model.decode)(params, z) - x)),
        }
    return errors


def draw_tolerance(errors: dict[float, dict[str, float]], run: common.Run) -> None:
    curves = {  # no 0 on a log axis
        what: np.array([(t, max(row[what], 1e-9)) for t, row in errors.items()])
        for what in ("ln p", "what comes back")
    }
    plots.lines(
        run.folder / "tolerance.png",
        {"Checkerboard: what the solver's tolerance costs": curves},
        xlabel="tolerance of the solver",
        ylabel="median error",
        log_x=True,
        log_y=True,
    )


def hutchinson(params, x, reference, run: common.Run) -> common.Figures:
    """Errors of ln p by random probes."""
    estimate = jax.jit(density(run, trace="hutchinson").log_prob)
    keys = jax.random.split(jax.random.key(run.seed), run.size(50, 3))
    error = np.stack([estimate(params, x, None, key) - reference for key in keys])
    return {
        "Hutchinson: bias, nats": common.mean(error.mean(1)),
        "Hutchinson: spread of one estimate, nats": float(error.std()),
    }


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    panels, clouds = {}, {}
    for name in ("two_moons", "eight_gaussians", "checkerboard"):
        title = name.replace("_", " ")
        params, test = train(name, run)
        figures |= likelihoods(name, params, test, run)
        panels[title] = functools.partial(jax.jit(density(run).log_prob), params)
        moved = on_the_way(params, run, np.linspace(1, 0, run.size(5, 2)))
        clouds |= {f"{title}, {time}": x for time, x in moved.items()}
    extent = (-4.5, 4.5)
    plots.density_2d(run.folder / "densities.png", panels, extent=extent, points=run.size(120, 10))
    columns = len(clouds) // len(panels)
    plots.scatter_2d(run.folder / "times.png", clouds, extent=extent, columns=columns)

    x = test[: run.size(500, 20)]
    reference = jax.jit(density(run, 1e-6).log_prob)(params, x)
    errors = tolerance_errors(params, x, reference, run)
    draw_tolerance(errors, run)
    for tolerance, medians in errors.items():
        figures[f"tolerance {tolerance:g}: median error of ln p; of what comes back"] = "; ".join(
            f"{median:.1e}" for median in medians.values()
        )
    return figures | hutchinson(params, x, reference, run)


if __name__ == "__main__":
    common.run(main)
