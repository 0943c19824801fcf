"""A wavelet flow whose parts train alone, beside the same flow as a whole: scikit-learn's digits.

    python -m experiments.wavelet_digits

Two Haar transforms make of an image of 8×8 pixels its details of 4×4, its details of 2×2, and a low
part of 2×2. Each has a flow of its own, and details see the low part of their level. "Alone" trains
the three flows one by one, and none needs another; "together" trains them as one density of images.
A Glow of two levels is trained as long, in steps. Figures are bits/dim of the test images, by one
draw of noise for each of three seeds, ± the standard error over images, with the range over seeds;
and the seconds of the processor that training took, with compilation. Parts can train at the same
time: then the slowest counts.

The picture has test images and, below them, samples of the parts that were trained alone: the low
part of each, the image of 4×4 that the coarse details make of that, and the whole image.

Time: 2 min on 2 CPU cores.
Expected: 2.39 bits/dim, alone or together, with no difference beyond its standard error. Glow has
2.46 after as many steps, which take less than half of the time. The slowest part takes 0.6 of the
time of all together.
Source: Yu et al. 2020; settings our own.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments import common
from experiments.dequantization_digits import LEVELS, SHAPE, digits, standard_error
from glowjax import plots

NAMES = "split1", "split2", "level3"  # of the parts in the params of the whole
LEVELS_OF_WAVELETS = 2
Part = Callable[[jax.Array], tuple[jax.Array, jax.Array | None]]  # images -> x and its context


class Trained(NamedTuple):
    params: list[Any]  # for each seed
    seconds: float  # of the processor


def flows(run: common.Run) -> dict[str, glowjax.Flow]:
    """The flow of each part by its name, the finest first."""
    net = functools.partial(glowjax.ResNet, width=run.size(32, 4), blocks=1)
    step = glowjax.chain(
        mixing=glowjax.as_flow(glowjax.InvertibleConv1x1()), rest=glowjax.realnvp_step(net=net)
    )
    details = glowjax.repeat(step, run.size(4, 1))
    low = glowjax.chain(squeeze=glowjax.as_flow(glowjax.Squeeze()), steps=details)
    return dict(zip(NAMES, (details, details, low), strict=True))


def of_images(number: int) -> Part:
    """What the part of a number models, and what it sees."""

    def part(x):
        levels = glowjax.wavelet_levels(x, LEVELS_OF_WAVELETS)
        if number < len(levels):
            return levels[number].details, levels[number].low
        return levels[-1].low, None

    return part


def whole(x: jax.Array) -> tuple[jax.Array, None]:
    """An image itself, which sees nothing."""
    return x, None


def train(run: common.Run, images: jax.Array, flow: glowjax.Flow, part: Part) -> Trained:
    """Trains a flow from each seed on what `part` makes of images, with new noise in each step."""
    steps, began = run.size(400, 4), time.process_time()
    shape = jax.eval_shape(part, jnp.zeros((1, *SHAPE)))[0].shape[1:]
    density, optimizer = glowjax.density(flow, shape), common.clipped(3e-3, steps, warmup=True)

    def loss(params, batch, key, step):
        x, context = part(glowjax.dequantize(key, batch.x, levels=LEVELS))
        return -jnp.mean(density.log_prob(params, x, context))

    @jax.jit
    def start(key):
        return density.init(key, *part(glowjax.dequantize(key, images[:256], levels=LEVELS)))

    params = [
        glowjax.fit(
            density,
            images,
            loss=loss,
            params=start(jax.random.key(seed)),
            validation=None,
            steps=steps,
            batch_size=64,
            optimizer=optimizer,
            decay=0.99,
            seed=seed,
        ).params
        for seed in range(run.seed, run.seed + run.size(3, 2))
    ]
    return Trained(params, time.process_time() - began)


def bits(run: common.Run, images: jax.Array, flow: glowjax.Flow, params: list[Any]) -> np.ndarray:
    """bits/dim of each image, `[seeds, images]`."""
    density = glowjax.density(flow, SHAPE)

    @jax.jit
    def of_seed(params, key):
        log_prob = density.log_prob(params, glowjax.dequantize(key, images, levels=LEVELS))
        return glowjax.bits_per_dim(log_prob, SHAPE, levels=LEVELS)

    keys = jax.random.split(jax.random.key(run.seed), len(params))
    return np.stack([of_seed(p, key) for p, key in zip(params, keys, strict=True)])


def main(run: common.Run) -> common.Figures:
    (images, _), _, (test, _) = digits(run)
    parts = flows(run)
    flow = glowjax.wavelet_flow([parts["split1"], parts["split2"]], parts["level3"])
    glow = glowjax.glow(levels=2, steps=run.size(4, 1), width=run.size(32, 4), scale="floor")

    alone = {name: train(run, images, parts[name], of_images(i)) for i, name in enumerate(NAMES)}
    joined = [
        {"level1": {}, "level2": {}} | dict(zip(NAMES, each, strict=True))
        for each in zip(*(one.params for one in alone.values()), strict=True)
    ]
    together, of_glow = train(run, images, flow, whole), train(run, images, glow, whole)
    found = {
        "alone": bits(run, test, flow, joined),
        "together": bits(run, test, flow, together.params),
        "Glow": bits(run, test, glow, of_glow.params),
    }
    seconds = [one.seconds for one in alone.values()]
    figures: common.Figures = {
        f"bits/dim, {name}": f"{values.mean():.3f} ± {standard_error(values):.3f}, seeds"
        f" {common.spread(values.mean(1))}"
        for name, values in found.items()
    }
    difference = found["alone"] - found["together"]
    figures["alone less together"] = f"{difference.mean():.4f} ± {standard_error(difference):.4f}"
    figures["seconds, alone"] = f"{sum(seconds):.0f}, of the slowest part {max(seconds):.0f}"
    figures["seconds, together"] = together.seconds
    figures["seconds, Glow"] = of_glow.seconds
    draw(run, flow, joined[0], test)
    return figures


def draw(run: common.Run, flow: glowjax.Flow, params: Any, test: jax.Array) -> None:
    """Samples, and what each level makes of them, in the size of whole images."""
    count = run.size(16, 4)
    x = jax.jit(glowjax.density(flow, SHAPE).sample, static_argnums=2)(
        params, jax.random.key(run.seed), count
    )
    rows = {"test images": test[:count]}
    for number in (2, 1):
        low = glowjax.wavelet_levels(x, number)[-1].low / 2**number  # the mean of each block
        low = low.repeat(2**number, axis=1).repeat(2**number, axis=2)
        side = SHAPE[0] // 2**number
        rows[f"{side}×{side}"] = glowjax.quantize(low, levels=LEVELS)
    rows["samples"] = glowjax.quantize(x, levels=LEVELS)
    plots.image_rows(
        run.folder / "samples.png",
        {name: glowjax.to_uint8(row, levels=LEVELS) for name, row in rows.items()},
    )


if __name__ == "__main__":
    common.run(main)
