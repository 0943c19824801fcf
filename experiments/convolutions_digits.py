"""Invertible 3×3 convolutions in place of Glow's 1×1, on scikit-learn's digits (8×8, 17 levels).

    python -m experiments.convolutions_digits

Four small Glows of one level and four steps differ in their mixing alone: the 1×1 convolution, the
periodic one, the emerging one, and the exponential of one after a 1×1. Nets, batches and steps are
the same, and three seeds train side by side for 400 steps. Figures are bits/dim of the test images,
by one draw of noise for each seed, ± the standard error over images; and the gain on the 1×1
convolution, of the same images and noise, with the range over the seeds.

The picture has the first mixing of each trained model, applied to a larger image. It shows how far
one pixel, near a corner, reaches into z, and how far one pixel of z reaches into x. The error is
that of the whole model's round trip of the test images in float32, whose pixels are in (-½, ½).

Time: 2 min of one CPU core; 6 min on 2 cores that are busy with other work.
Expected: the exponential is ahead of the 1×1 convolution by 0.07 bits/dim, and the periodic one by
0.02, both with each of the three seeds. The emerging one is ahead with some seeds and behind with
others, by 0.02 in the mean. All errors are about 1e-6.
Source: Hoogeboom et al. 2019 and 2020; settings our own.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import glowjax
from experiments import common
from experiments.dequantization_digits import LEVELS, SHAPE, digits, standard_error
from glowjax.models.glow import Mixing, mixing_flow
from glowjax.plots.style import INK, save

MIXINGS: dict[str, Mixing] = {
    "1×1": "conv1x1",
    "periodic 3×3": "periodic_conv",
    "emerging 3×3": "emerging_conv",
    "exponential 3×3": "conv_exponential",
}
SIDE, PIXEL, LEAST = 16, (3, 4), 1e-4


class Measured(NamedTuple):
    bits: np.ndarray  # of each test image, [seeds, images]
    error: float
    seconds: float  # of the processor
    numbers: int  # that the mixings of the model learn
    reach: list[np.ndarray]  # of a pixel of x in z, and of one of z in x, [SIDE, SIDE]


def measured(run: common.Run, mixing: Mixing) -> Measured:
    (train, _), (validation, _), (test, _) = digits(run)
    flow = glowjax.glow(
        levels=1, steps=run.size(4, 1), width=run.size(32, 4), scale="floor", mixing=mixing
    )
    model = glowjax.density(flow, SHAPE)
    steps, began = run.size(400, 4), time.process_time()
    fits = glowjax.fit_many(
        glowjax.dequantized(model, glowjax.uniform_dequantizer(levels=LEVELS)),
        train,
        validation=validation,
        steps=steps,
        batch_size=64,
        optimizer=common.clipped(3e-3, steps, warmup=True),
        decay=0.99,
        seeds=range(run.seed, run.seed + run.size(3, 2)),
    )
    seconds = time.process_time() - began
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[fit.params[0] for fit in fits])

    @jax.jit
    def evaluate(params, key):
        x = glowjax.dequantize(key, test, levels=LEVELS)
        bits = glowjax.bits_per_dim(model.log_prob(params, x), SHAPE, levels=LEVELS)
        back, _ = flow.inverse(params, flow.forward(params, x)[0])
        return bits, jnp.max(jnp.abs(back - x))

    keys = jax.random.split(jax.random.key(run.seed), len(fits))
    bits, errors = jax.vmap(evaluate)(params, keys)
    mixings = params["backbone"]["level1"]["steps"]["mixing"]
    numbers = sum(leaf.size for leaf in jax.tree.leaves(mixings)) // len(fits)
    first = jax.tree.map(lambda leaf: leaf[0, 0], mixings)  # of the first seed
    return Measured(np.array(bits), float(errors.max()), seconds, numbers, reach(mixing, first))


def reach(mixing: Mixing, params: Any) -> list[np.ndarray]:
    """How much of each pixel comes from one, through a mixing and its inverse; the most is 1."""
    flow, channels = mixing_flow(mixing), 4
    units = jnp.zeros((channels, SIDE, SIDE, channels)).at[:, *PIXEL].set(jnp.eye(channels))
    images = []
    for apply in (flow.forward, flow.inverse):
        norm = jnp.linalg.norm(apply(params, units)[0], axis=(0, 3))
        images.append(np.asarray(norm / norm.max()))
    return images


def main(run: common.Run) -> common.Figures:
    found = {name: measured(run, mixing) for name, mixing in MIXINGS.items()}
    figures: common.Figures = {}
    for name, each in found.items():
        figures[f"bits/dim, {name}"] = f"{each.bits.mean():.3f} ± {standard_error(each.bits):.3f}"
        figures[f"cost, {name}"] = f"{each.numbers} numbers, {each.seconds:.0f} s of the processor"
        figures[f"error of a round trip, {name}"] = each.error
        if name == "1×1":
            continue
        gain = found["1×1"].bits - each.bits
        figures[f"gain, {name}"] = (
            f"{gain.mean():.4f} ± {standard_error(gain):.4f}, seeds {common.spread(gain.mean(1))}"
        )
    save(picture(found), run.folder / "reach.png")
    return figures


def picture(found: dict[str, Measured]) -> Figure:
    figure = Figure((9.0, 4.6), 130, facecolor="white", layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False)
    for column, (name, each) in zip(panels.T, found.items(), strict=True):
        column[0].set_title(f"{name}\n{each.bits.mean():.3f} bits/dim", color=INK, fontsize=10)
        for axes, image in zip(column, each.reach, strict=True):
            shown = axes.imshow(image, cmap="magma", norm=LogNorm(LEAST, 1, clip=True))
            axes.set(xticks=[], yticks=[])
    panels[0, 0].set_ylabel("one pixel of x, in z", color=INK)
    panels[1, 0].set_ylabel("one pixel of z, in x", color=INK)
    bar = figure.colorbar(shown, ax=panels, shrink=0.8)
    bar.set_label("share of the largest", color=INK)
    return figure


if __name__ == "__main__":
    common.run(main)
