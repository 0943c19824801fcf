"""Class-conditional Glow of digits: a row of samples a class, and a classifier by Bayes' rule.

    python -m experiments.class_conditional

The label moves the prior of the top latent, and so p(x|c). With classes equally likely, the same
model classifies: the c of the highest ln p(x|c).

Time: 5 min on 2 CPU cores.
Expected: test accuracy of Bayes' rule above 90 %; about 0.06 bits/dim less than without labels.
Source: Kingma & Dhariwal 2018, appendix B; on a GPU, `glowjax train glow_mnist_conditional`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments import common
from experiments.dequantization_digits import LEVELS, SHAPE, digits
from glowjax import plots

CLASSES = 10


def main(run: common.Run) -> common.Figures:
    seeds = range(run.seed, run.seed + run.size(2, 1))
    rows = [measured(run, seed) for seed in seeds]
    return {name: common.spread([row[name] for row in rows]) for name in rows[0]}


def measured(run: common.Run, seed: int) -> dict[str, float]:
    """Trains both models, draws samples, and returns figures on the test images."""
    images, labels = digits(run)[2]
    key, n, draws = jax.random.key(seed), len(images), run.size(16, 2)
    bits = {}
    for classes in (None, CLASSES):
        model, both, params = trained(run, classes, seed)

        @jax.jit
        def log_prob(labels, params=params, both=both):
            keys = jax.random.split(key, draws)
            one = jax.lax.map(lambda k: both.log_prob(params, images, labels, k), keys)
            return glowjax.log_mean_exp(one)

        scores = log_prob(labels if classes else None)
        bits[classes] = np.asarray(glowjax.bits_per_dim(scores, SHAPE, levels=LEVELS))

    by_class = jnp.stack([log_prob(jnp.full_like(labels, c)) for c in range(CLASSES)])
    right = np.asarray(jnp.argmax(by_class, axis=0) == labels)
    rows = jnp.repeat(jnp.arange(CLASSES), 12)
    samples = jax.jit(model.sample, static_argnums=2)(params[0], key, len(rows), 0.8, rows)
    sheet = glowjax.to_uint8(glowjax.quantize(samples, levels=LEVELS), levels=LEVELS)
    plots.image_grid(sheet, columns=12).save(run.folder / f"samples_{seed}.png")
    gain = bits[None] - bits[CLASSES]
    return {
        "bits/dim, with labels": float(bits[CLASSES].mean()),
        "bits/dim, without": float(bits[None].mean()),
        "gain": float(gain.mean()),
        "± its standard error": float(gain.std() / n**0.5),
        "accuracy of Bayes' rule": float(right.mean()),
        "± its standard error, accuracy": float(right.std() / n**0.5),
    }


def trained(
    run: common.Run, classes: int | None, seed: int
) -> tuple[glowjax.Density, glowjax.Density, Any]:
    """A density of digits, given labels if there are `classes`; with its noise; their params."""
    glow = glowjax.glow(
        levels=run.size(2, 1),
        steps=run.size(6, 1),
        width=run.size(48, 4),
        scale="floor",
        num_classes=classes,
    )
    model = glowjax.density(glow, SHAPE)
    both = glowjax.dequantized(model, glowjax.uniform_dequantizer(levels=LEVELS))
    (images, labels), validation, _ = digits(run)
    steps = run.size(1500, 8)
    fitted = glowjax.fit(
        both,
        images,
        context=labels if classes else None,
        validation=validation if classes else validation[0],
        steps=steps,
        batch_size=64,
        optimizer=common.clipped(2e-3, steps, warmup=True),
        decay=0.99,
        seed=seed,
    )
    return model, both, fitted.params


if __name__ == "__main__":
    common.run(main)
