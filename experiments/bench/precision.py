"""What bfloat16 nets cost: learning beside float32 on CIFAR-10, and both on the same weights."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.common import Columns, Report
from glowjax import data
from glowjax.fitting.optim import Optimizer
from glowjax.runs.config import Config
from glowjax.runs.likelihood import noisy
from glowjax.runs.models import Glow
from glowjax.runs.steps import (
    Mapped,
    Trainer,
    make_trainer,
    mapped,
    on_one_device,
    replicate,
)

DTYPES = ("float32", "bfloat16")
COLUMNS: Columns = {
    "trained in": lambda r: r["trained"],
    "measured in": lambda r: r["measured"],
    "backprop": lambda r: r.get("backprop", ""),
    "bits/dim": lambda r: f"{r['bits_per_dim']:.4f}" if "bits_per_dim" in r else "",
    "± s.e.": lambda r: f"{r['standard_error']:.4f}" if "standard_error" in r else "",
    "gradient error": lambda r: f"{r['gradient_error']:.1e}" if "gradient_error" in r else "",
    "cosine": lambda r: f"{r['cosine']:.6f}" if "cosine" in r else "",
}


def main(
    data_dir: Path | None = None,
    *,
    steps: int = 2000,
    batch_size: int = 64,
    images: int = 2048,
    model_steps: int = 32,
    width: int = 512,
    warmup_images: int = 50_000,
    seed: int = 0,
    output: Path | None = None,
    name: str = "cifar10",
) -> None:
    """Trains twice from one start and one order of images, measures, and prints what differs.

    Args:
        data_dir: of prepared data; default: that of tensorflow-datasets.
        steps: of training, in each dtype.
        batch_size: images a step.
        images: of the test split that are evaluated.
        model_steps: K.
        width: of the coupling nets.
        warmup_images: over which the learning rate rises.
        seed: of initialisation, order and noise.
        output: the JSON file; default: runs/bench/precision.json.
        name: of the data set.
    """
    report = Report("precision", output)
    report.facts["device"] = jax.devices()[0].device_kind
    train, test = (data.load(name, split, data_dir=data_dir) for split in ("train", "test"))
    report.facts["training images"] = len(train.images)

    @functools.cache
    def trainer(**model: Any) -> Trainer:
        config = Config(
            model=Glow(steps=model_steps, width=width, **model),
            optimizer=Optimizer(warmup_images=warmup_images), batch_size=batch_size, seed=seed,
            ema=None, evaluate_with="raw", train_steps=steps,
        )  # fmt: skip
        shape = train.images.shape[1:]
        return make_trainer(config, image_shape=shape, levels=train.levels, num_classes=None)

    on_devices = {dtype: mapped(trainer(dtype=dtype)) for dtype in DTYPES}
    weights = {}
    for dtype in DTYPES:
        report.console.print(f"[dim]training in {dtype} …", highlight=False)
        curve, seconds, params = learn(on_devices[dtype], train, steps, batch_size, seed)
        weights[dtype] = params
        report.facts[f"{dtype}: seconds"] = round(seconds, 1)
        report.facts[f"{dtype}: training bits/dim"] = curve
        report.save()
    chosen = data.Source(
        name=name, split="test", images=test.images[np.arange(images)], labels=None,
        num_classes=None, levels=test.levels,
    )  # fmt: skip
    evaluate_each(report, on_devices, weights, chosen)
    x = noisy(seed, 1, 0, np.arange(batch_size), test.images[np.arange(batch_size)], test.levels)
    compare_gradients(report, trainer, weights["bfloat16"], x)
    report.finish(COLUMNS)


def evaluate_each(
    report: Report, on_devices: dict[str, Mapped], weights: dict[str, Any], source: data.Source
) -> None:
    """Rows of the weights that each dtype led to, measured in each."""
    for trained in DTYPES:
        for measured in DTYPES:
            result = evaluate(on_devices[measured], weights[trained], source)
            report.rows.append({"trained": trained, "measured": measured} | result)
            report.save()


def compare_gradients(
    report: Report, trainer: Callable[..., Trainer], params: Any, x: jax.Array
) -> None:
    """Rows of bfloat16's gradient, stored and rebuilt, beside float32's."""
    exact = gradient(trainer(dtype="float32"), params, x)
    for backprop in ("store", "invert"):
        g = gradient(trainer(dtype="bfloat16", backprop=backprop), params, x)
        row = {"trained": "bfloat16", "measured": "bfloat16", "backprop": backprop}
        report.rows.append(row | compare(g, exact))
        report.save()


def learn(
    on_devices: Mapped, source: data.Source, steps: int, batch_size: int, seed: int
) -> tuple[list[float], float, Any]:
    """Trains: `(mean bits/dim of each tenth of the run, seconds, parameters)`."""
    options: Any = {"batch_size": batch_size, "seed": seed}
    state = on_devices.init(data.batch(source, 0, **options))
    bits, start = [], time.perf_counter()
    for batch in data.batches(source, 0, steps, **options):
        state, metrics = on_devices.train_step(state, batch)
        bits.append(metrics["train_bits_per_dim"])
    curve = [round(float(np.mean(part)), 4) for part in np.array_split(jax.device_get(bits), 10)]
    return curve, time.perf_counter() - start, on_one_device(state.params)


def evaluate(on_devices: Mapped, params: Any, source: data.Source) -> dict[str, float]:
    """bits/dim of all images of a source, the same noise for whoever asks."""
    batches = data.eval_batches(source, batch_size=256)
    return on_devices.evaluate(replicate(params.flow), batches)


def gradient(trainer: Trainer, params: Any, x: jax.Array) -> jax.Array:
    """All of the gradient of the mean log-likelihood, as one vector."""

    @jax.jit
    def flat(params):
        g = jax.grad(lambda p: jnp.mean(trainer.density.log_prob(p, x)))(params.flow)
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)])

    return flat(params)


def compare(g: jax.Array, exact: jax.Array) -> dict[str, float]:
    """The relative error ‖g - exact‖ / ‖exact‖ and the cosine between them."""
    norm = jnp.linalg.norm(exact)
    return {
        "gradient_error": float(jnp.linalg.norm(g - exact) / norm),
        "cosine": float(jnp.vdot(g, exact) / norm / jnp.linalg.norm(g)),
    }
