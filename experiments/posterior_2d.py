"""Posteriors that bend and split: one at a time, and for all observations at once.

    python -m experiments.posterior_2d

z ~ N(0, I) is seen through y = z1² + z2 + noise. Families of q(z) are fitted to the posterior at
y = 3, two arms of a parabola, by reverse KL; amortised ones, q(z | y), once for all y, with y as
the flow's context: by reverse KL on simulated y, or by maximum likelihood on simulated pairs
(z, y). The exact posterior is known on a grid, and so are KL(q‖posterior) and ln p(y).

Time: 4 minutes on 2 CPU cores.
Expected: at y = 3 the KL of splines is below 0.05 nats, that of the mean field above 0.5. Amortised
splines stay below 0.1 on average over y ~ p(y).
Source: Rezende & Mohamed 2015, section 4; Kingma et al. 2016; Papamakarios & Murray 2016, Fast
ε-free inference of simulation models.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import glowjax as gj
from experiments import common
from glowjax import plots

NOISE, SEEN, SHOWN = 0.3, 3.0, (-2.0, 0.0, 1.5, 3.0)
EXTENT = (-4.5, 4.5)


def log_joint(z, y) -> jax.Array:
    """ln p(z) + ln p(y | z), `[B]`, of `z: [B, 2]` and `y: [B]` or one number."""
    predicted = jnp.square(z[:, 0]) + z[:, 1]
    return norm.logpdf(z).sum(-1) + norm.logpdf(y, predicted, NOISE)


def simulate(key, n: int) -> tuple[jax.Array, jax.Array]:
    """Pairs: z `[n, 2]`, and y `[n, 1]`."""
    z_key, key = jax.random.split(key)
    z = jax.random.normal(z_key, (n, 2))
    y = jnp.square(z[:, :1]) + z[:, 1:] + NOISE * jax.random.normal(key, (n, 1))
    return z, y


def planar(net=None) -> gj.Flow:
    """From a normal whose samples go through 16 planar steps."""
    return gj.chain(gj.as_flow(gj.ActNorm()), gj.invert(gj.repeat(gj.as_flow(gj.Planar(net)), 16)))


def splines() -> gj.Flow:
    """Four couplings by splines."""
    coupling = gj.Coupling(gj.rational_quadratic(8))
    step = gj.chain(gj.as_flow(gj.ActNorm()), gj.as_flow(coupling), gj.as_flow(gj.Reverse()))
    return gj.repeat(step, 4)


MEAN_FIELD = gj.as_flow(gj.GlowActNorm(log_scale_factor=1.0))
ALONE = {
    "mean field": MEAN_FIELD,
    "planar": planar(),
    "IAF": gj.iaf(steps=4, width=32),
    "splines": splines(),
}
AMORTISED = {
    "planar": planar(gj.MLP),
    "IAF": gj.iaf(steps=4, width=32),
    "splines": splines(),
}


def grid_posterior(y: float) -> gj.Target:
    return gj.Target(lambda z: log_joint(z, y), EXTENT)


def alone(run: common.Run) -> tuple[common.Figures, dict]:
    """Each family fitted to the posterior of one observation."""
    target, points = grid_posterior(SEEN), run.size(200, 20)
    log_evidence = gj.targets.grid_log_normalizer(target, points)
    figures: common.Figures = {f"ln p(y = {SEEN:g}), grid": float(log_evidence)}
    panels = {f"posterior, y = {SEEN:g}": target.log_prob}
    x, _ = gj.targets.grid(EXTENT, points)
    for name in list(ALONE)[: run.size(len(ALONE), 1)]:
        model = gj.density(ALONE[name], (2,))

        def loss(params, batch, key, step, model=model):
            beta = jnp.minimum(1.0, 0.1 + step / run.size(1000, 2))
            return gj.reverse_kl(model, params, target.log_prob, key, 256, beta=beta)

        def measure(params, key, model=model):
            q = functools.partial(model.log_prob, params)
            found = gj.importance_sampling(model, params, target.log_prob, key, 10_000)
            return gj.targets.grid_kl(q, target, points), found, q(x)

        seeds = range(run.seed, run.seed + run.size(3, 1))
        params = common.fit_seeds(model, loss, seeds, steps=run.size(3000, 4), rate=5e-3)
        keys = jax.random.split(jax.random.key(run.seed), len(seeds))
        (kl, outside), found, log_q = jax.jit(jax.vmap(measure))(params, keys)
        figures[f"y = {SEEN:g}, {name}"] = (
            f"KL {common.spread(kl)} nats (mass off the grid {np.max(outside):.1e}),"
            f" ln p(y) off by {common.spread(found.log_z - log_evidence)}"
            f" (claimed ± {np.mean(found.log_z_error):.4f}),"
            f" ESS/n {common.spread(found.effective_sample_size / 10_000)}"
        )
        panels[f"{name}: KL {kl[0]:.3f}"] = log_q[0].reshape(points, points)
    return figures, panels


def amortised(run: common.Run) -> tuple[common.Figures, dict]:
    """Each family fitted once for all observations; KL of each shown, and over y ~ p(y)."""
    z, y = simulate(jax.random.key(run.seed), run.size(50_000, 2000))
    _, unseen = simulate(jax.random.key(run.seed + 1), run.size(32, 2))
    steps, points = run.size(4000, 4), run.size(120, 20)
    observed = jnp.concatenate([jnp.array(SHOWN), unseen[:, 0]])
    figures, panels = {}, {f"posterior, y = {v:g}": grid_posterior(v).log_prob for v in SHOWN}
    trainings = [("splines", "likelihood")] + [(name, "reverse KL") for name in AMORTISED]
    for name, objective in trainings[: run.size(len(trainings), 1)]:
        model = gj.density(AMORTISED[name], (2,))

        def reverse_kl(params, batch, key, step, model=model):
            y = batch.context
            target = functools.partial(log_joint, y=y[:, 0])
            beta = jnp.minimum(1.0, 0.1 + step / 1000)
            return gj.reverse_kl(model, params, target, key, len(y), beta=beta, context=y)

        loss = None if objective == "likelihood" else reverse_kl
        measured = functools.partial(measure_all, model, points)
        scores = []
        for seed in range(run.seed, run.seed + run.size(2, 1)):
            optimizer = common.falling(2e-3, steps)
            params = gj.fit(
                model, z, context=y, loss=loss, steps=steps, validation=0, optimizer=optimizer,
                seed=seed,
            ).params  # fmt: skip
            kl, log_q = jax.jit(measured)(params, observed)
            scores.append(kl)
        scores = np.stack(scores)
        each = ", ".join(
            f"{v:g}: {common.spread(kl)}" for v, kl in zip(SHOWN, scores.T, strict=False)
        )
        figures[f"amortised {name}, {objective}"] = (
            f"KL over y ~ p(y) {common.spread(scores[:, len(SHOWN) :].mean(1))} nats; y = {each}"
        )
        if name == "splines":
            for i, v in enumerate(SHOWN):
                title = f"{objective}, y = {v:g}: KL {kl[i]:.3f}"
                panels[title] = log_q[i].reshape(points, points)
    return figures, panels


def measure_all(model, points: int, params, observed) -> tuple[jax.Array, jax.Array]:
    """KL of q(z | y), and ln q on the grid, for each of the `observed` y in turn."""
    x, _ = gj.targets.grid(EXTENT, points)

    def measure(y):
        def log_q(z):
            return model.log_prob(params, z, jnp.full((len(z), 1), y))

        return gj.targets.grid_kl(log_q, grid_posterior(y), points).kl, log_q(x)

    return jax.lax.map(measure, observed)


def main(run: common.Run) -> common.Figures:
    figures, panels = alone(run)
    plots.density_2d(run.folder / "alone.png", panels, extent=EXTENT, points=run.size(200, 20))
    more, panels = amortised(run)
    plots.density_2d(
        run.folder / "amortised.png", panels, extent=EXTENT, points=run.size(120, 20), columns=4
    )
    return figures | more


if __name__ == "__main__":
    common.run(main)
