"""An autoregressive flow of the plane: one mixture for x₁, and a net's mixture for x₂ given x₁.

    python -m experiments.autoregressive_2d

p(x₁, x₂) = p(x₁)·p(x₂ | x₁): each factor is a mixture of Gaussians, and its CDF takes the number to
U(0, 1). So data are mapped to the unit square, and uniform noise to samples, one coordinate after
the other.

Time: 1 min on 2 CPU cores.
Expected: held-out log-likelihood within 0.01 nats of scikit-learn's GaussianMixture, which suits
these arcs of Gaussian noise, its components chosen on validation; |integral - 1| < 1e-3.
Source: Papamakarios et al. 2017 (MAF), section 3; Ho et al. 2019 (Flow++), section 3.2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture

import glowjax
from experiments import common
from glowjax import plots
from glowjax.densities import targets, toy
from glowjax.densities.objectives import LogProb

EXTENT = (-4.0, 4.0)
COMPONENTS = (2, 4, 8, 16, 32)  # of the GaussianMixture


def main(run: common.Run) -> common.Figures:
    n, steps, points = run.size(10_000, 300), run.size(6000, 50), run.size(400, 60)
    flow = glowjax.as_flow(
        glowjax.Autoregressive(
            glowjax.mixture_cdf(8, family="gaussian", to="uniform"),
            functools.partial(glowjax.MADE, width=run.size(64, 8), depth=2),
        )
    )
    model = glowjax.density(flow, (2,), glowjax.uniform(0, 1))
    rows = []
    for seed in range(run.seed, run.seed + run.size(3, 1)):
        keys = jax.random.split(jax.random.key(seed), 4)
        train, validation, test = (toy.two_moons(key, n) for key in keys[:3])
        optimizer = common.falling(1e-2, steps)
        params = glowjax.fit(
            model, train, validation=validation, steps=steps, optimizer=optimizer, seed=seed
        ).params
        log_prob = jax.jit(functools.partial(model.log_prob, params))
        mixture = best_mixture(np.asarray(train), np.asarray(validation))
        rows.append(compared(log_prob, mixture, test, points))

    # Pictures, of the last seed.
    densities = {"autoregressive flow": log_prob, "GaussianMixture": mixture.score_samples}
    plots.density_2d(run.folder / "density.png", densities, extent=EXTENT, points=points)
    shown = test[: run.size(4000, 300)]
    samples = jax.jit(model.sample, static_argnums=2)(params, keys[3], len(shown))
    draw_points(run, shown, samples, model.encode(params, shown))
    return {name: common.spread([row[name] for row in rows]) for name in rows[0]}


def compared(log_prob: LogProb, mixture: GaussianMixture, test, points: int) -> dict[str, float]:
    """Figures of one seed."""
    flow_score, mixture_score = log_prob(test), mixture.score_samples(np.asarray(test))
    gain = flow_score - mixture_score
    grid, area = targets.grid(EXTENT, points)
    return {
        "log-likelihood": float(np.mean(flow_score)),
        "log-likelihood, GaussianMixture": float(np.mean(mixture_score)),
        "gain": float(np.mean(gain)),
        "± its standard error": float(np.std(gain) / len(test) ** 0.5),
        "|integral - 1|": abs(float(jnp.sum(jnp.exp(log_prob(grid))) * area) - 1),
        "components of the GaussianMixture": mixture.n_components,
    }


def draw_points(run: common.Run, shown, samples, latents) -> None:
    """Held-out data beside samples, and their latents; colours tell the moons apart."""
    plots.scatter_2d(
        run.folder / "samples.png",
        {"held-out data": shown, "samples": samples},
        groups={"held-out data": moon(shown)},
        extent=EXTENT,
    )
    plots.scatter_2d(
        run.folder / "latents.png",
        {"latents of held-out data": latents},
        groups={"latents of held-out data": moon(shown)},
        extent=(0, 1),
    )


def best_mixture(train: np.ndarray, validation: np.ndarray) -> GaussianMixture:
    """The mixture of full covariances with the highest likelihood of `validation`."""
    mixtures = [GaussianMixture(k, random_state=0).fit(train) for k in COMPONENTS]
    return max(mixtures, key=lambda m: m.score(validation))


def moon(x: jax.Array) -> jax.Array:
    """`[n]`: 0 nearest the upper half circle, 1 nearest the lower one; see `toy.two_moons`."""
    x = x / 2 + jnp.array([0.5, 0.25])

    def distance(x):  # from the upper half of the unit circle
        ends = jnp.hypot(jnp.abs(x[:, 0]) - 1, x[:, 1])
        return jnp.where(x[:, 1] > 0, jnp.abs(jnp.hypot(x[:, 0], x[:, 1]) - 1), ends)

    return (distance(x) > distance(jnp.array([1.0, 0.5]) - x)).astype(int)


if __name__ == "__main__":
    common.run(main)
