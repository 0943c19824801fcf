"""Anomalies by likelihood: a model of clothes finds digits likelier than clothes.

    python -m experiments.anomaly --archives FOLDER_OF_A_FOLDER_FOR_EACH_OF_THE_TWO_DATA_SETS

A small Glow of MNIST and one of Fashion-MNIST, images averaged down to 14×14, each judge the test
images of both. Scores, the higher the stranger: -log p; typicality, the distance of log p from its
usual value; complexity, -log₂ p less the bits of a general compressor (PNG). AUROC: the probability
that an anomaly scores higher than an image of the model's own kind; ½ is chance.

Time: 3 min on 2 CPU cores.
Expected: the model of digits knows clothes (AUROC of -log p above 0.99); that of clothes finds
digits likelier than clothes (about 0.4, worse than chance), typicality does not help (0.4), and
complexity does (0.98).
Source: Nalisnick et al. 2019, Do deep generative models know what they don't know?, section 3;
Nalisnick et al. 2019, Detecting out-of-distribution inputs using typicality; Serrà et al. 2020.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import glowjax
from experiments import common
from glowjax import data, plots
from glowjax.densities.anomaly import complexity_bits, typicality

NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}


class Splits(NamedTuple):
    """uint8 images."""

    train: np.ndarray  # 55,000
    validation: np.ndarray  # 2,000
    test: np.ndarray  # 4,000
    levels: int


def load(run: common.Run) -> dict[str, Splits]:
    """Both data sets; in a smoke run without archives, digits and their negatives."""
    if run.smoke and run.archives is None:
        digits = load_digits().images[..., None].astype(np.uint8)
        sets = {"digits": digits, "negatives": 16 - digits}
        return {name: Splits(x[:200], x[200:300], x[300:400], 17) for name, x in sets.items()}
    sets = {}
    for name, title in NAMES.items():
        archives = run.archives and run.archives / name
        parts = [
            data.load(name, split, archives=archives, resize=14)
            for split in ("train", "validation", "test")
        ]
        train, validation, test = (part.images for part in parts)
        sets[title] = Splits(train, validation[:2000], test[:4000], parts[0].levels)
    return sets


def log_probs(model, params, images, levels, key) -> np.ndarray:
    """Of discrete images, by one draw of noise: `[N]`, nats."""
    log_prob = jax.jit(model.log_prob)
    x = glowjax.dequantize(key, images, levels=levels)
    parts = [log_prob(params, part) for part in np.array_split(x, max(1, len(x) // 1000))]
    return np.concatenate(parts) - x[0].size * np.log(levels)


def train(sets: Splits, run: common.Run, seed: int) -> tuple[glowjax.Density, Any]:
    """A model and its parameters, by maximum likelihood with fresh noise at each step."""
    levels, steps = sets.levels, run.size(600, 2)
    shape = sets.train.shape[1:]
    flow = glowjax.glow(levels=1, steps=run.size(8, 2), width=run.size(32, 4), scale="floor")
    model = glowjax.density(flow, shape)
    noise = jax.random.split(jax.random.key(seed))

    def loss(params, batch, key, step):
        x = glowjax.dequantize(key, glowjax.quantize(batch.x, levels=levels), levels=levels)
        return glowjax.forward_kl(model, params, x)

    fitted = glowjax.fit(
        model,
        glowjax.dequantize(noise[0], sets.train, levels=levels),
        loss=loss,
        validation=glowjax.dequantize(noise[1], sets.validation, levels=levels),
        steps=steps,
        batch_size=64,
        evaluate_every=max(1, steps // 3),
        optimizer=common.clipped(2e-3, steps),
        seed=seed,
    )
    return model, fitted.params


def scores(
    model, params, own: Splits, other: Splits, key
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name to the scores of own and of other test images."""
    images = {"own": own.test, "other": other.test, "held out": own.validation}
    log_p = {k: log_probs(model, params, x, own.levels, key) for k, x in images.items()}
    bits = {k: complexity_bits(glowjax.to_uint8(x, levels=own.levels)) for k, x in images.items()}
    by_score = {
        "-log p": {k: -v for k, v in log_p.items()},
        "typicality": {k: typicality(v, log_p["held out"]) for k, v in log_p.items()},
        "complexity": {k: -log_p[k] / np.log(2) - bits[k] for k in log_p},
        "PNG alone": bits,
    }
    return {name: (by["own"], by["other"]) for name, by in by_score.items()}


def auroc(own, other) -> float:
    return float(roc_auc_score(np.repeat([0, 1], [len(own), len(other)]), np.r_[own, other]))


def main(run: common.Run) -> common.Figures:
    sets = load(run)
    figures: common.Figures = {}
    panels = {}
    for name, other in zip(sets, reversed(sets), strict=True):
        own, aurocs, bits = sets[name], {}, {name: [], other: []}
        for seed in range(run.seed, run.seed + run.size(2, 1)):
            model, params = train(own, run, seed)
            by_score = scores(model, params, own, sets[other], jax.random.key(seed))
            for title, nats in zip(bits, by_score["-log p"], strict=True):
                bits[title].append(float(np.mean(nats)) / own.test[0].size / np.log(2))
            for score, pair in by_score.items():
                aurocs.setdefault(score, []).append(auroc(*pair))
        for title, values in bits.items():
            figures[f"model of {name}: bits/dim of {title}"] = common.spread(values)
        for score, values in aurocs.items():
            figures[f"model of {name}: AUROC of {score}"] = common.spread(values)
            if score != "PNG alone":  # of the last seed
                panel = f"model of {name}: {score}\nAUROC {values[-1]:.3f}"
                panels[panel] = dict(zip((name, other), by_score[score], strict=True))
    plots.histograms(run.folder / "scores.png", panels, columns=3)
    return figures


if __name__ == "__main__":
    common.run(main)
