"""Clusters of three particles, learned without data: a Boltzmann generator by reverse KL and fab.

    python -m experiments.lennard_jones

Three particles of the plane attract each other (`lennard_jones`) at a temperature where they are a
triangle, a chain, or a pair and a single one. Flows of splines are trained on them by reverse KL
and by `fab`. In coordinates as they are, a flow must learn by itself that particles may be turned
and swapped. In relative coordinates it is given the centre of mass and the direction from the first
particle to the second, which are exactly normal and uniform, and learns the three numbers left.
Sequential Monte Carlo without a flow stands beside them.

ln Z is estimated by importance sampling (20,000 samples), and by annealed importance sampling from
the flow (16 temperatures, 2,000 samples). The truth is a sum over a grid of those three numbers.
The shares are, by weight, of clusters with three pairs nearer than 1.5, and of those that go
against the clock from first to third particle: exactly a half.

Time: 11 min on 2 very busy CPU cores, 6 to 7 min of one processor. Needs the extra blackjax.
Expected: ln Z by fab is right within 0.04 in coordinates as they are, with ESS/n of 0.03, and 0.01
in relative ones, with 0.6. Reverse KL is 0.7 to 1.2 too low in the former, and 0.07 to 0.12 off in
the latter, with ESS/n up to 0.8. SMC without a flow is as good as fab, in less time.
Source: Noé et al. 2019, Boltzmann generators; Köhler et al. 2020, Equivariant flows; Midgley et al.
2023, Flow annealed importance sampling bootstrap.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import glowjax
from experiments import common
from experiments.wells_annealed import annealed, fitting
from glowjax import preprocess
from glowjax.plots.style import COLOURS, GREY, INK, dress, save
from glowjax.preprocess.support import fixed

TEMPERATURE, TRAP, BOND = 0.3, 0.2, 1.5
CLUSTER = glowjax.lennard_jones(3, 2, temperature=TEMPERATURE, trap=TRAP)
COORDINATES = "coordinates as they are", "relative coordinates"
STEPS = {"reverse KL": 4000, "fab": 500}  # of 12 to 25 s each
FAB: dict[str, Any] = {"temperatures": 4, "leapfrog_steps": 3, "step_size": 0.1}
DISTANCES, AREAS = np.linspace(0, 12, 241), np.linspace(-1.5, 1.5, 76)  # bins of the pictures


class Truth(NamedTuple):
    """Of the normalised density, on a grid; the last two are densities in bins."""

    log_z: float
    triangles: float
    distances: np.ndarray
    areas: np.ndarray


def truth(spacing: float) -> Truth:
    """Z = 2πT/(3·trap)·2π·∫ r dr ∫ d²y p̃ of particles at (∓r/2, 0) and y, their centre moved to 0.

    The change to the centre of mass, to x_2 - x_1 and to y keeps volumes.
    """
    reach = 5.5 * np.sqrt(TEMPERATURE / TRAP) * np.array([2**0.5, 1.5**0.5])
    r, y = (np.arange(spacing / 2, end, spacing) for end in reach)
    third = np.stack(np.meshgrid(y, y), axis=-1).reshape(-1, 2)  # a quarter: the rest is alike

    @jax.jit
    def of_pair(r):
        pair = jnp.stack([-r / 2, 0 * r, r / 2, 0 * r])
        x = jnp.concatenate([jnp.broadcast_to(pair, (len(third), 4)), third], axis=1)
        x = (x.reshape(-1, 3, 2) - x.reshape(-1, 3, 2).mean(1, keepdims=True)).reshape(-1, 6)
        return CLUSTER.log_prob(x), jnp.all(distances(x) < BOND, axis=1)

    sums, triangles, areas = np.zeros(len(r)), 0.0, np.zeros(len(AREAS) - 1)
    for i, one in enumerate(r):
        log_p, bound = map(np.asarray, of_pair(jnp.float32(one)))
        p = np.exp(log_p.astype(float)) * one
        sums[i] = p.sum()
        triangles += p[bound].sum()
        areas += np.histogram(one * third[:, 1] / 2, AREAS, weights=p)[0]
    areas = areas + areas[::-1]
    known = 2 * np.pi * TEMPERATURE / (3 * TRAP) * 2 * np.pi
    return Truth(
        float(np.log(known * 4 * sums.sum() * spacing**3)),
        triangles / sums.sum(),
        np.stack([r, sums / sums.sum() / spacing], axis=-1),
        areas / areas.sum() / np.diff(AREAS),
    )


def distances(x: jax.Array) -> jax.Array:
    """`[B, 3]`, of the pairs."""
    places = x.reshape(-1, 3, 2)
    return jnp.linalg.norm(places - jnp.roll(places, 1, axis=1), axis=-1)


def signed_areas(x: jax.Array) -> jax.Array:
    """`[B]`, of the triangles; above 0 if they go against the clock."""
    one, other = x[:, 2:4] - x[:, :2], x[:, 4:] - x[:, :2]
    return (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / 2


# Orthogonal: to the centre, the pair and the third particle, each times a number.
MIXED = np.array([[1, 1, 1], [-1, 1, 0], [-1, -1, 2]]) / np.sqrt([[3], [2], [6]])


def relative_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """z = (direction of the pair, centre, ln of its length, third particle seen from the pair)."""
    places = jnp.einsum("ij,bjd->ibd", MIXED.astype(x.dtype), x.reshape(-1, 3, 2))
    centre, pair, third = jax.lax.complex(places[..., 0], places[..., 1])
    angle, log_length = jnp.angle(pair), jnp.log(jnp.abs(pair))
    third = third * jnp.exp(-1j * angle)
    z = angle, centre.real, centre.imag, log_length, third.real, third.imag
    return jnp.stack(z, axis=1), -2 * log_length


def relative_inverse(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x of such z."""
    angle, log_length = z[:, 0], z[:, 3]
    pair = jnp.exp(jax.lax.complex(log_length, angle))
    third = jax.lax.complex(z[:, 4], z[:, 5]) * jnp.exp(1j * angle)
    places = jnp.stack([jax.lax.complex(z[:, 1], z[:, 2]), pair, third])
    x = jnp.einsum("ij,idb->bjd", MIXED.astype(z.dtype), jnp.stack([places.real, places.imag], 1))
    return x.reshape(-1, 6), 2 * log_length


def density(coordinates: str, run: common.Run) -> glowjax.Density:
    splines = glowjax.neural_spline_flow(steps=run.size(6, 2), width=run.size(32, 4), bound=4.0)
    if coordinates == COORDINATES[0]:
        return glowjax.density(splines, (6,))
    centre = glowjax.as_flow(glowjax.ActNorm())
    learned = preprocess.columns(None, (centre, 2), (splines, 3))
    flow = glowjax.chain(fixed(relative_forward, relative_inverse), learned)
    base = glowjax.product_base(glowjax.von_mises(), (glowjax.standard_normal(), 5))
    return glowjax.density(flow, (6,), base)


def trained(model: glowjax.Density, method: str, run: common.Run) -> Callable[[jax.Array], Any]:
    """Parameters of the flow, of a key."""

    def loss(params, batch, key, step):
        if method == "fab":
            return glowjax.fab(model, params, CLUSTER.log_prob, key, run.size(128, 4), **FAB)
        return glowjax.reverse_kl(model, params, CLUSTER.log_prob, key, run.size(256, 4))

    return fitting(model, loss, run.size(STEPS[method], 3))


def samplers(model: glowjax.Density, run: common.Run) -> dict[str, Callable]:
    """From parameters and a key to samples and ln w: by the flow, and by annealing from it."""
    n, at = run.size(2000, 10), CLUSTER.log_prob

    @jax.jit
    def weighted(params, key):
        x, log_q = model.sample_and_log_prob(params, key, 10 * n)
        return x, at(x) - log_q

    @jax.jit
    def moved(params, key):
        keys, few = jax.random.split(key), dict[str, Any](temperatures=run.size(16, 3))
        sizes = glowjax.tuned_step_size(model, params, at, keys[0], n // 10, rounds=10, **few)
        return glowjax.anneal(model, params, at, keys[1], n, step_size=sizes, **few)[:2]

    return {"": weighted, ", annealed": moved}


def judged(x: jax.Array, log_w: jax.Array, exact: Truth, name: str = "") -> dict[str, float]:
    """Figures of weighted samples."""
    weights = jax.nn.softmax(log_w)
    return {
        f"error of ln Z{name}": float(glowjax.log_mean_exp(log_w)) - exact.log_z,
        f"ESS/n{name}": float(glowjax.effective_sample_size(log_w)) / len(x),
        f"triangles{name}": float(weights @ jnp.all(distances(x) < BOND, axis=1)),
        f"against the clock{name}": float(weights @ (signed_areas(x) > 0)),
    }


def main(run: common.Run) -> common.Figures:
    """All from each seed; a table, and a picture of distances, areas and clusters."""
    exact, rough = (truth(spacing * run.size(1, 12)) for spacing in (0.03, 0.05))
    figures: common.Figures = {"exact: ln Z": exact.log_z, "exact: triangles": exact.triangles}
    figures["exact: ln Z, less that of a rougher grid"] = exact.log_z - rough.log_z
    keys = jax.vmap(jax.random.key)(run.seed + jnp.arange(run.size(3, 1)))
    drawn: dict[tuple[str, str], jax.Array] = {}
    for coordinates in COORDINATES:
        sampled = samplers(model := density(coordinates, run), run)
        for method in STEPS:
            fit, rows, seconds = trained(model, method, run), [], []
            for key in keys:
                began, row = time.process_time(), {}
                params = jax.block_until_ready(fit(key))
                seconds.append(time.process_time() - began)
                for name, sampler in sampled.items():
                    x, log_w = sampler(params, key)
                    row |= judged(x, log_w, exact, name)
                    drawn.setdefault((coordinates, method), x)  # the first, without annealing
                rows.append(row)
            compiling = seconds[0] - min(seconds)
            figures |= summed(f"{coordinates}, {method}", rows, min(seconds), compiling)
    found, seconds, compiling = common.timed(annealed("SMC", CLUSTER, 6, run), keys)
    rows = [judged(x, log_w, exact) for x, log_w in found]
    figures |= summed("SMC without a flow", rows, seconds / len(keys), compiling)
    draw(run, exact, drawn)
    return figures


def summed(name: str, rows: list[dict], each: float, compiling: float) -> common.Figures:
    """Mean and range of each figure over the seeds, and seconds of the processor."""
    told: common.Figures = {key: common.spread([row[key] for row in rows]) for key in rows[0]}
    told["seconds each"] = f"{each:.1f}, and {compiling:.0f} to compile"
    return {f"{name}: {key}": value for key, value in told.items()}


def draw(run: common.Run, exact: Truth, drawn: dict[tuple[str, str], jax.Array]) -> None:
    """Distances and areas of the samples without weights, and clusters, for both coordinates."""
    figure = Figure((10, 6.4), 110, facecolor="white", layout="constrained")
    for row, coordinates, method in zip(figure.subplots(2, 3), COORDINATES, STEPS, strict=True):
        row[0].plot(*exact.distances.T, color=GREY, linewidth=3, alpha=0.5, label="exact")
        row[1].stairs(exact.areas, AREAS, color=GREY, linewidth=3, alpha=0.5)
        for colour, name in zip(COLOURS, STEPS, strict=False):
            x = drawn[coordinates, name]
            style = {"density": True, "histtype": "step", "color": colour, "linewidth": 1.2}
            row[0].hist(np.ravel(distances(x)), DISTANCES, label=name, **style)
            row[1].hist(np.asarray(signed_areas(x)), AREAS, **style)
        row[0].set_xlim(0, 5)
        row[0].legend(frameon=False)
        dress(row[0], xlabel="distance of two particles", ylabel="density", title=coordinates)
        dress(row[1], xlabel="signed area of the triangle", ylabel="density", title=None)
        clusters(row[2], drawn[coordinates, method][:25])
        row[2].set_title(f"samples of {method}", color=INK, fontsize=10)
    save(figure, run.folder / "clusters.png")


def clusters(axes, x: jax.Array) -> None:
    """Clusters in cells of a square, their three particles in colours, and their bonds."""
    places = np.asarray(x).reshape(-1, 3, 2)
    cells = 5.0 * np.stack(np.divmod(np.arange(len(x)), 5), axis=-1)
    places = places - places.mean(1, keepdims=True) + cells[:, None]
    for cluster in places:
        for i, j in ((0, 1), (1, 2), (2, 0)):
            if np.linalg.norm(cluster[i] - cluster[j]) < BOND:
                axes.plot(*cluster[[i, j]].T, color=GREY, linewidth=1, zorder=1)
    axes.scatter(*places.reshape(-1, 2).T, s=14, c=[*COLOURS[:3]] * len(x), zorder=2)
    axes.set(aspect="equal", xticks=[], yticks=[], xlim=(-3, 23), ylim=(-3, 23))
    axes.spines[:].set(color="#cccccc", linewidth=0.6)


if __name__ == "__main__":
    common.run(main)
