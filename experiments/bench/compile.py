"""Compile time against depth: one training step of Glow with K = 4 and K = 64, cold caches."""

import time

import jax
import numpy as np

from glowjax.config import Config, Glow
from glowjax.train import AXIS, make_trainer

REPETITIONS = 3


def main(*, width: int = 64, size: int = 32, batch_size: int = 16, levels: int = 3) -> None:
    """Compiles the training step for both depths in turn, and prints medians and spread.

    Args:
        width: of the coupling nets.
        size: height and width of the images, of 3 channels.
        batch_size: images.
        levels: of the Glow.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    batch = {
        "image": np.random.default_rng(0).integers(
            0, 256, (batch_size, size, size, 3), dtype=np.uint8
        )
    }
    seconds = {4: [], 64: []}
    for _ in range(REPETITIONS):
        for steps, times in seconds.items():
            times.append(compile_seconds(steps, width, levels, batch))
    for steps, times in seconds.items():
        spread = f"{min(times):.1f} to {max(times):.1f}"
        print(f"K={steps}: {np.median(times):.1f} s to trace and compile ({spread})")
    ratio = np.median(seconds[64]) / np.median(seconds[4])
    print(f"K=64 / K=4: {ratio:.3f}, jax {jax.__version__}, {jax.devices()[0].device_kind}")


def compile_seconds(steps: int, width: int, levels: int, batch: dict[str, np.ndarray]) -> float:
    """Seconds to trace, lower and compile one mapped training step, caches emptied before."""
    model = Glow(levels=levels, steps=steps, width=width)
    config = Config(model=model, batch_size=len(batch["image"]))
    shape = batch["image"].shape[1:]
    trainer = make_trainer(config, image_shape=shape, levels=256, num_classes=None)
    state = jax.eval_shape(trainer.init, batch)

    def stacked(tree):
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), tree)

    jax.clear_caches()
    start = time.perf_counter()
    step = jax.pmap(trainer.train_step, axis_name=AXIS, donate_argnums=0)
    step.lower(stacked(state), stacked(batch)).compile()
    return time.perf_counter() - start
