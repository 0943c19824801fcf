"""Continuous flows of the plane by flow matching and by maximum likelihood, in equal time.

    python -m experiments.flow_matching_2d

One net is trained in four ways, each for as long as maximum likelihood takes for its 150 steps:
flow matching with independent pairs of data and noise, with the pairs of optimal transport within
a batch, and rectified: half of the time with independent pairs, the rest with the pairs of noise
and samples that this first flow makes. Time is of the processor, without compilation. For all, the
likelihood is that of the equation solved to 1e-5. Straightness is the mean of
‖dx/dt - (x(1) - x(0))‖² relative to that of ‖x(1) - x(0)‖². Needs `glowjax[continuous]`.

Time: 18 min on 2 CPU cores that are busy with other work.
Expected: eight Gaussians, nats below the true density: 0.46 by maximum likelihood, 0.03 by flow
matching, 0.40 with the pairs of optimal transport, whose steps take longer, so that there are
fewer, and 0.06 rectified. One Euler step then is off by 0.06, and by 2 with independent pairs.
Source: Lipman et al. 2023; Liu et al. 2023; Tong et al. 2024; Grathwohl et al. 2019.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import glowjax
from experiments import common
from glowjax import plots
from glowjax.densities import targets, toy

TRUTH = {
    "eight_gaussians": targets.circular_gaussians(8).log_prob,
    "checkerboard": lambda x: jnp.full(len(x), -jnp.log(32.0)),
}
STEPS = 1, 2, 4, 8, 16, 32  # Euler's
CHUNK = 50  # steps that are one compiled loop
SEEDS = 3


class Task(NamedTuple):
    """What is trained on a set, and in how many steps by maximum likelihood."""

    flow: glowjax.Continuous
    model: glowjax.Density
    x: jax.Array
    likelihood_steps: int
    likelihood: Any  # losses, which are kept so that `fit` compiles each once
    independent: Any
    optimal: Any


def flow(run: common.Run, tolerance: float) -> glowjax.Continuous:
    net = functools.partial(glowjax.MLP, width=run.size(64, 4), activation="silu")
    return glowjax.Continuous(net=net, rtol=tolerance, atol=tolerance)


def density(run: common.Run, tolerance: float) -> glowjax.Density:
    return glowjax.density(glowjax.as_flow(flow(run, tolerance)), (2,))


def task(name: str, run: common.Run) -> Task:
    velocity, model = flow(run, 1e-3).velocity, density(run, 1e-3)

    def likelihood(params, batch, key, step):
        return glowjax.forward_kl(model, params, batch.x)

    def matching(pairing):
        def loss(params, batch, key, step):
            return glowjax.flow_matching(
                velocity, params, batch.x, key, z=batch.context, pairing=pairing
            )

        return loss

    x = toy.TOY[name](jax.random.key(100), run.size(20_000, 200))
    losses = likelihood, matching("independent"), matching("optimal_transport")
    return Task(flow(run, 1e-3), model, x, run.size(150, CHUNK), *losses)


@functools.cache
def optimizer(steps: int) -> optax.GradientTransformation:
    return common.clipped(5e-3, steps)


def train(task: Task, loss, steps: int, seed: int, **options) -> tuple[Any, float]:
    """Parameters, and seconds of the processor without compilation."""

    def fit(steps_done):
        began = time.process_time()
        fitted = glowjax.fit(
            task.model,
            options.get("x", task.x),
            loss=loss,
            context=options.get("z"),
            params=options.get("params", common.in_units_of(task.model, task.x, seed)),
            validation=None,
            steps=steps_done,
            batch_size=128,
            optimizer=optimizer(steps),
            decay=0.99,
            evaluate_every=CHUNK,
            seed=seed,
            show=False,
        )
        return jax.block_until_ready(fitted.params), time.process_time() - began

    fit(CHUNK)  # compiles
    return fit(steps)


def steps_in(seconds: float, task: Task, loss, run: common.Run) -> int:
    """How many steps of flow matching take as long."""
    steps = run.size(10 * CHUNK, CHUNK)
    return max(1, int(seconds / train(task, loss, steps, 0)[1] * steps) // CHUNK) * CHUNK


def rectified(task: Task, seconds: float, seed: int, run: common.Run) -> Any:
    """Half of the time on independent pairs, then on those of this flow."""
    half = steps_in(seconds / 2, task, task.independent, run)
    params, _ = train(task, task.independent, half, seed)
    decode = jax.jit(task.model.decode)
    z = jax.random.normal(jax.random.key(seed), task.x.shape)
    decode.lower(params, z).compile()
    began = time.process_time()
    x = jax.block_until_ready(decode(params, z))
    rest = seconds / 2 - (time.process_time() - began)
    steps = steps_in(rest, task, task.independent, run)
    return train(task, task.independent, steps, seed, x=x, z=z, params=params)[0]


def trained(name: str, run: common.Run) -> tuple[dict[str, list[Any]], float]:
    """Parameters by method, one for each seed; and the seconds that each took."""
    work, seeds = task(name, run), range(run.seed, run.seed + run.size(SEEDS, 1))
    fits = [train(work, work.likelihood, work.likelihood_steps, seed) for seed in seeds]
    found = {"likelihood": [params for params, _ in fits]}
    seconds = float(np.mean([s for _, s in fits]))
    losses = {"independent": work.independent, "optimal transport": work.optimal}
    for method, loss in losses.items():
        steps = steps_in(seconds, work, loss, run)
        found[method] = [train(work, loss, steps, seed)[0] for seed in seeds]
    found["rectified"] = [rectified(work, seconds, seed, run) for seed in seeds]
    return found, seconds


def evaluations(velocity, params, z) -> jax.Array:
    """Evaluations of the velocity that a sample takes, at a tolerance of 1e-5."""
    import diffrax

    def one(z):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, x, _: velocity(params, x[None], t[None])[0]),
            diffrax.Tsit5(),
            t0=jnp.ones(()),
            t1=jnp.zeros(()),
            dt0=None,
            y0=z,
            stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5),
        )
        return 6 * solution.stats["num_steps"]  # the seventh is the next step's first

    return jnp.mean(jax.vmap(one)(z))


class Measured(NamedTuple):
    """Of one flow: numbers, and the errors of Euler's steps."""

    below: jax.Array
    straightness: jax.Array
    evaluations: jax.Array
    errors: jax.Array  # by STEPS


def measure(name: str, run: common.Run) -> Callable[[Any], Measured]:
    """A compiled function from parameters to what is measured."""
    velocity, fine = flow(run, 1e-5).velocity, density(run, 1e-5)
    keys = jax.random.split(jax.random.key(101))
    test = toy.TOY[name](keys[0], run.size(2000, 20))
    z = jax.random.normal(keys[1], (run.size(1000, 20), 2))

    @jax.jit
    def measured(params):
        x = fine.decode(params, z)
        far = jnp.mean(jnp.sum(jnp.square(z - x), -1))
        ends = [glowjax.path_in_steps(velocity, params, z, n)[-1] for n in STEPS]
        return Measured(
            jnp.mean(TRUTH[name](test) - fine.log_prob(params, test)),
            glowjax.straightness(glowjax.path_in_steps(velocity, params, z, 100)) / far,
            evaluations(velocity, params, z),
            jnp.stack([jnp.sqrt(jnp.mean(jnp.sum(jnp.square(e - x), -1))) for e in ends]),
        )

    return measured


def draw(panels: dict[str, Any], run: common.Run) -> None:
    """Densities, and the paths of a few samples from noise to data."""
    velocity, model = flow(run, 1e-4).velocity, density(run, 1e-4)
    z = jax.random.normal(jax.random.key(7), (run.size(40, 4), 2))
    log_prob = jax.jit(model.log_prob)
    path = jax.jit(lambda params: glowjax.path_in_steps(velocity, params, z, 60))
    paths = {title: np.asarray(path(params)) for title, params in panels.items()}
    plots.density_2d(
        run.folder / "paths.png",
        {title: functools.partial(log_prob, params) for title, params in panels.items()},
        extent=(-4.5, 4.5),
        samples={title: path[-1] for title, path in paths.items()},
        curves={title: list(path.swapaxes(0, 1)) for title, path in paths.items()},
        points=run.size(150, 10),
        columns=4,
    )


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    panels, errors = {}, {}
    for name in TRUTH:
        title, measured = name.replace("_", " "), measure(name, run)
        found, seconds = trained(name, run)
        figures[f"{title}: seconds of each training"] = seconds
        errors[title] = {}
        for method, params in found.items():
            rows = Measured(*map(np.stack, zip(*map(measured, params), strict=True)))
            at = f"{title}, {method}"
            figures[f"{at}: nats below the truth"] = common.spread(rows.below)
            figures[f"{at}: straightness"] = common.spread(rows.straightness)
            figures[f"{at}: evaluations"] = common.spread(rows.evaluations)
            curve = np.stack([STEPS, rows.errors.mean(0)], -1)
            shown = (f"{error:.3f}" for n, error in curve if n in (1, 4, 16))
            figures[f"{at}: error in 1; 4; 16 steps"] = "; ".join(shown)
            errors[title][method] = curve
            panels[at] = params[0]
    draw(panels, run)
    plots.lines(
        run.folder / "steps.png",
        errors,
        xlabel="steps of Euler",
        ylabel="error of a sample",
        log_x=True,
        log_y=True,
    )
    return figures


if __name__ == "__main__":
    common.run(main)
