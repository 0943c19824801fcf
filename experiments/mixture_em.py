"""A mixture of Gaussians by EM, and the same one by gradient descent, from the same starts.

    python -m experiments.mixture_em

Diagonal covariances: scikit-learn's `GaussianMixture`, against `density` with the base
`gaussian_mixture` and a flow without parameters. Both start from means drawn from the data
(k-means++), from N(0, I), or from one point nearly, where the components have yet to part.

Time: 2 min on 2 CPU cores.
Expected: held-out log-likelihoods from one good start agree within their spread over starts.
Neither is faster throughout: compiled gradients are on the pinwheel (0.5 s, EM 2.7 s), EM is on the
digits (0.2 s, gradients 0.4 s). From one point, neither leaves the plateau of one normal on the
pinwheel; both do on the digits.
Source: Dempster et al. 1977; Bishop 2006, sections 9.2 and 9.4; gradients in place of EM: Xu &
Jordan 1996.
"""

import time
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import kmeans_plusplus
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import glowjax as gj
from experiments import common
from glowjax import plots
from glowjax.densities.objectives import LogProb

EXTENT = (-2.4, 2.4)
FLOOR = 1e-6  # of EM's variances, scikit-learn's default
IDENTITY = gj.as_flow(gj.Reverse())  # of no parameters and no log-determinant


class Fit(NamedTuple):
    """A curve of seconds and training log-likelihood; ln p; seconds without compilation."""

    curve: np.ndarray
    log_prob: LogProb
    seconds: float


def data(seed: int, n: int) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Name to training data, held-out data, and number of components; standardised."""
    pinwheel = np.asarray(gj.toy.pinwheel(jax.random.key(seed), n))
    digits = PCA(8).fit_transform(load_digits().data)
    digits = np.random.default_rng(seed).permutation(digits)[:n]
    found = {}
    for name, x, components in (("pinwheel", pinwheel, 20), ("digits, 8 PCA", digits, 10)):
        train, test = x[len(x) // 4 :], x[: len(x) // 4]
        mean, std = train.mean(0), train.std(0)
        found[name] = (
            ((train - mean) / std).astype(np.float32),
            ((test - mean) / std).astype(np.float32),
            components,
        )
    return found


def starts(x, components: int, seed: int) -> dict[str, np.ndarray]:
    """Means to start from."""
    drawn = np.random.default_rng(seed).normal(size=(components, x.shape[1]))
    return {
        "k-means++": kmeans_plusplus(x, components, random_state=seed)[0],
        "N(0, I)": drawn,
        "one point": 0.01 * drawn,
    }


def by_em(x, means, steps: int) -> Fit:
    """EM from weights 1/K, these means and variances 1, until the gain is below 1e-6 nats."""
    components, size = means.shape
    model = GaussianMixture(
        components, covariance_type="diag", warm_start=True, max_iter=1, tol=0.0, reg_covar=FLOOR,
        weights_init=np.full(components, 1 / components), means_init=means,
        precisions_init=np.ones((components, size)), init_params="random",
    )  # fmt: skip
    curve, began, last = [], time.perf_counter(), -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of one step at a time
        for _ in range(steps):
            bound = model.fit(x).lower_bound_
            curve.append((time.perf_counter() - began, bound))
            if bound - last < 1e-6:
                break
            last = bound
    return Fit(np.array(curve), model.score_samples, curve[-1][0])


def by_gradient(x, means, steps: int, seed: int) -> Fit:
    """Adam on minus the log-likelihood of batches, from the same start."""
    components = len(means)
    model = gj.density(IDENTITY, x.shape[1:], base=gj.gaussian_mixture(components))
    flow, base = model.init(jax.random.key(seed), x)
    means = jnp.asarray(means[:, ::-1], jnp.float32)  # latents are the data reversed
    params = flow, {**base, "mean": means}
    log_prob, curve = jax.jit(model.log_prob), []

    def watch(step, params):
        now = time.perf_counter()
        curve.append((now, float(log_prob(params, x).mean())))

    fitted = gj.fit(
        model, x, steps=steps, params=params, optimizer=common.falling(2e-2, steps), seed=seed,
        validation=0, evaluate_every=max(1, steps // 40), watch=watch, show=False,
    )  # fmt: skip
    points = np.array(curve[1:])  # the time to the first holds compilation: as to the second
    points[:, 0] -= 2 * points[0, 0] - points[1, 0]
    return Fit(points, lambda x: log_prob(fitted.params, x), points[-1, 0])


def main(run: common.Run) -> common.Figures:
    figures: common.Figures = {}
    curves: dict[str, dict[str, np.ndarray]] = {}
    for name, (train, test, components) in data(run.seed, run.size(8000, 400)).items():
        fits = fitted(train, components, run)
        for (start, method), found in fits.items():
            figures[f"{name}, {start}, {method}"] = told(found, train, test)
            curves.setdefault(f"{name}: {start}", {})[method] = found[0].curve
        if train.shape[1] == 2:
            draw_densities({key: found[0] for key, found in fits.items()}, train, run)
    plots.lines(
        run.folder / "time.png",
        curves,
        xlabel="seconds",
        ylabel="log-likelihood, nats",
        log_x=True,
        columns=3,
    )
    return figures


def fitted(train, components: int, run: common.Run) -> dict[tuple[str, str], list[Fit]]:
    """(start, method) to the fit of each seed."""
    fits = {}
    for seed in range(run.seed, run.seed + run.size(5, 1)):
        for start, means in starts(train, components, seed).items():
            fits.setdefault((start, "EM"), []).append(by_em(train, means, run.size(500, 4)))
            found = by_gradient(train, means, run.size(2000, 4), seed)
            fits.setdefault((start, "gradient"), []).append(found)
    return fits


def draw_densities(fits: dict[tuple[str, str], Fit], train, run: common.Run) -> None:
    """What each start and method led to, beside the data."""
    points, _ = gj.targets.grid(EXTENT, 200)
    panels = {"data": jnp.full(len(points), -jnp.inf)} | {
        f"{method}, {start}": fit.log_prob(points) for (start, method), fit in fits.items()
    }
    plots.density_2d(
        run.folder / "densities.png",
        {title: np.reshape(v, (200, 200)) for title, v in panels.items()},
        extent=EXTENT,
        points=200,
        samples={"data": train[:2000]},
        columns=4,
    )


def told(fits: list[Fit], train, test) -> str:
    """Mean and standard deviation over seeds."""
    scores = [[np.mean(fit.log_prob(x)) for fit in fits] for x in (train, test)]
    (fitted, spread), (held_out, held_out_spread) = ((np.mean(s), np.std(s)) for s in scores)
    return (
        f"train {fitted:.3f} ± {spread:.3f}, held-out {held_out:.3f} ± {held_out_spread:.3f} nats,"
        f" {np.mean([fit.seconds for fit in fits]):.2f} s"
    )


if __name__ == "__main__":
    common.run(main)
