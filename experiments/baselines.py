"""Three baselines beside a run's test bits/dim, on the same dequantized test images.

    python -m experiments.baselines runs/demo

Uniform; independent pixels with a histogram each; scikit-learn's GaussianMixture, its number of
components and kind of covariance chosen on the validation split.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.mixture import GaussianMixture

from glowjax import bits_per_dim, plots
from glowjax.runs import results
from glowjax.runs.config import Config
from glowjax.runs.folder import Run
from glowjax.runs.likelihood import EVALUATION_NOISE, TRAIN_NOISE, noisy
from glowjax.runs.sources import load_split

COMPONENTS = (1, 2, 5, 10, 20, 40)
REGULARIZATION = 1e-4  # added to the mixture's variances; the noise of a grey level has 3e-4


def main(run_dir: Path) -> None:
    """Prints the table, and draws the run's curves again with the baselines."""
    run = Run.open(run_dir, read_only=True)
    run.close()
    config, levels, shape = run.config, run.images["levels"], run.images["image_shape"]
    train, validation, test = (images(config, s) for s in ("train", "validation", "test"))

    def dequantized(v, stream=EVALUATION_NOISE, draw=0):
        x = noisy(config.seed, stream, draw, np.arange(len(v)), v, levels)
        return np.asarray(x).reshape(len(v), -1)

    mixture = best_mixture(dequantized(train, TRAIN_NOISE), dequantized(validation))
    draws = [dequantized(test, draw=i) for i in range(config.evaluate_samples)]
    log_probs = {
        "uniform": np.zeros(len(test)),
        "histogram of each pixel": histogram(train, levels)(test),
        f"Gaussian mixture ({mixture.n_components}, {mixture.covariance_type})": np.mean(
            [mixture.score_samples(x) for x in draws], axis=0
        ),
    }
    scores = {}
    for name, log_prob in log_probs.items():
        bits = np.asarray(bits_per_dim(log_prob, shape, levels=levels))
        scores[name] = bits.mean(), bits.std() / len(bits) ** 0.5
    plots.curves(
        run_dir / "curves.png",
        run.history(),
        title=config.data.name,
        baselines={name: mean for name, (mean, _) in scores.items()},
    )
    result = results.evaluate(run_dir)
    scores["Glow (this run)"] = result["bits_per_dim"], result["standard_error"]
    report(scores, len(test))


def images(config: Config, split: str) -> np.ndarray:
    """A split as whole numbers `[N, H, W, C]`, without random transforms."""
    source = load_split(config, split)
    return config.data.transform(source.images[np.arange(len(source))])


def histogram(train: np.ndarray, levels: int) -> Callable[[np.ndarray], np.ndarray]:
    """log p of independent pixels: counts plus one, constant within the bin of a grey level."""
    train = train.reshape(len(train), -1)
    counts = np.stack([np.sum(train == level, axis=0) for level in range(levels)]) + 1.0
    log_density = np.log(counts / counts.sum(axis=0) * levels)
    pixels = np.arange(train.shape[1])
    return lambda v: log_density[v.reshape(len(v), -1), pixels].sum(axis=1)


def best_mixture(
    train: np.ndarray,
    validation: np.ndarray,
    components: Sequence[int] = COMPONENTS,
    kinds: Sequence[str] = ("full", "diag"),
    regularization: float = REGULARIZATION,
) -> GaussianMixture:
    """The mixture of `train: [N, D]` with the highest likelihood of `validation`."""
    mixtures = [
        GaussianMixture(n, covariance_type=kind, reg_covar=regularization, random_state=0)
        for kind in kinds
        for n in components
    ]
    return max((m.fit(train) for m in mixtures), key=lambda m: m.score(validation))


def report(scores: dict[str, tuple[float, float]], count: int) -> None:
    """Prints bits/dim by model."""
    table = Table("model", "test bits/dim", "± standard error", box=None, header_style="bold")
    for name, (mean, error) in scores.items():
        table.add_row(name, f"{mean:.4f}", f"{error:.4f}")
    console = Console(highlight=False)
    console.print(f"\n{count:,} test images, the same noise for all:")
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    main(parser.parse_args().run)
