"""A conditional density p(y|x) whose noise forks and widens, and its quantiles.

    python -m experiments.conditional_1d

A net of x gives the parameters of an increasing map from y to N(0, 1): a mixture's CDF, or a
spline. The map's inverse at fixed z is a quantile of p(y|x) as a function of x, and where
|z| < Φ⁻¹(3/4), y is in the central half: calibration is read off the latents.

Time: 1 min on 2 CPU cores.
Expected: held-out log-likelihood within 0.03 nats of the true model's, and far above homoscedastic
regression's; coverage of the central 50 % and 90 % within 2 percentage points.
Source: Papamakarios et al. 2017 (MAF), section 3.4; calibration: Gneiting et al. 2007.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.stats import norm

import glowjax
from experiments import common
from glowjax import plots

EXTENT = (-3.0, 3.0)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHIFT = glowjax.Elementwise(  # homoscedastic regression: z = y + net(x), scaled alike everywhere
    1,
    lambda y, raw: (y + raw[..., 0], jnp.zeros_like(y)),
    lambda z, raw: (z - raw[..., 0], jnp.zeros_like(z)),
)
TRUTH = glowjax.mixture_cdf(2, family="gaussian", to="normal")
TRANSFORMS = {
    "mixture CDF": glowjax.mixture_cdf(8, family="logistic", to="normal"),
    "spline": glowjax.rational_quadratic(12, bound=4.0),
}


def truth(x) -> jax.Array:
    """Parameters `[B, 1, 6]` of `TRUTH`: from x = 0 on one branch goes up and one down."""
    x = x[:, 0]
    middle, fork = 0.6 * jnp.sin(2 * x), 0.25 * jax.nn.softplus(4 * x) / 2
    log_scale = jnp.log(0.1 + 0.25 * jnp.square(jnp.sin(x)))
    offset = 0.5  # `mixture_cdf` adds -offset and +offset to the means
    means = middle - fork + offset, middle + fork - offset
    raw = [0.5 * jnp.ones_like(x), jnp.zeros_like(x), *means, log_scale, log_scale]
    return jnp.stack(raw, axis=-1)[:, None]


def true_log_prob(y, x) -> jax.Array:
    return glowjax.mixture_log_prob(y, truth(x), family="gaussian")[:, 0]


def draw(key, n) -> tuple[jax.Array, jax.Array]:
    """x, uniform, and y: `[n, 1]` each."""
    x_key, y_key = jax.random.split(key)
    x = jax.random.uniform(x_key, (n, 1), minval=EXTENT[0], maxval=EXTENT[1])
    return x, glowjax.mixture_sample(y_key, truth(x), family="gaussian")


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    panels, lines = {}, {}
    x = jnp.linspace(*EXTENT, run.size(300, 40))[:, None]
    z = [jnp.full_like(x, value) for value in norm.ppf(jnp.array(QUANTILES))]

    def show(name, log_prob, quantile):
        panels[name] = jax.jit(lambda xy: log_prob(xy[:, 1:], xy[:, :1]))
        lines[name] = [jnp.hstack([x, quantile(value, x)]) for value in z]

    show("truth", true_log_prob, lambda z, x: TRUTH.inverse(z, truth(x))[0])
    for name, flow in flows(run.size(64, 8)).items():
        model = glowjax.density(flow, (1,))
        rows = []
        for seed in range(run.seed, run.seed + run.size(3, 1)):
            params, row = trained(run, model, seed)
            rows.append(row)
        figures |= {f"{name}: {k}": common.spread([row[k] for row in rows]) for k in rows[0]}
        show(
            name, functools.partial(model.log_prob, params), functools.partial(model.decode, params)
        )

    data = jnp.hstack(draw(jax.random.key(run.seed), run.size(2000, 200)))
    plots.scatter_2d(run.folder / "data.png", {"data": data}, extent=EXTENT)
    points = run.size(400, 50)
    plots.density_2d(
        run.folder / "densities.png", panels, extent=EXTENT, curves=lines, points=points, columns=2
    )
    return figures


def flows(width: int) -> dict[str, glowjax.Flow]:
    """Flows of y given x."""
    net = functools.partial(glowjax.MADE, width=width, depth=2)
    made = {
        name: glowjax.as_flow(glowjax.Autoregressive(transform, net))
        for name, transform in TRANSFORMS.items()
    }
    regression = glowjax.as_flow(glowjax.Autoregressive(SHIFT, net))
    return made | {"regression": glowjax.chain(regression, glowjax.as_flow(glowjax.ActNorm()))}


def trained(run, model, seed) -> tuple[Any, dict[str, float]]:
    """Parameters, and figures on held-out data."""
    n, steps = run.size(10_000, 300), run.size(2000, 50)
    (x, y), held_out, (test_x, test_y) = (
        draw(key, n) for key in jax.random.split(jax.random.key(seed), 3)
    )
    params = glowjax.fit(
        model,
        y,
        context=x,
        validation=held_out[::-1],
        steps=steps,
        optimizer=optax.adam(optax.cosine_decay_schedule(5e-3, steps)),
        seed=seed,
    ).params
    log_prob = model.log_prob(params, test_y, test_x)
    gap = true_log_prob(test_y, test_x) - log_prob
    latents = jnp.abs(model.encode(params, test_y, test_x))
    row = {
        "log-likelihood": float(np.mean(log_prob)),
        "nats below the true model": float(np.mean(gap)),
        "± its standard error": float(np.std(gap) / n**0.5),
    }
    for central in (0.5, 0.9):
        covered = float(np.mean(latents < norm.ppf((1 + central) / 2)))
        row[f"coverage of {central:.0%}"] = covered
        row[f"± its standard error, {central:.0%}"] = (covered * (1 - covered) / n) ** 0.5
    return params, row


if __name__ == "__main__":
    common.run(main)
