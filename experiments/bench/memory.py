"""Memory of the training step against depth, as compiled: no step is run."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax

from experiments.bench.common import SMALL, Columns, Flat, Problem, Report, Row, gigabytes
from experiments.bench.train import compiled_step, make_our_trainer, random_batch
from glowjax.loops import Backprop
from glowjax.runs.steps import check_batch_size, shard

COLUMNS: Columns = {
    "K": lambda r: str(r["steps"]),
    "batch": lambda r: str(r["batch"]),
    "backprop": lambda r: r["backprop"],
    "activations": lambda r: gigabytes(r["activation_bytes"]),
    "temporaries": lambda r: gigabytes(r["temporary_bytes"]),
    "gradients": lambda r: gigabytes(r["gradient_bytes"]),
    "arguments": lambda r: gigabytes(r["argument_bytes"]),
}


def main(
    problem: Flat = Problem(),  # noqa: B008
    *,
    depths: tuple[int, ...] = (32, 320),
    batch_size: int = 1024,
    backprop: tuple[Backprop, ...] = ("store", "recompute", "invert"),
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    unroll: int = 1,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Temporaries of one device's training step; activations are those beyond the gradients.

    Args:
        problem: the model, but for its depth.
        depths: K, several.
        batch_size: images a step, over all devices.
        backprop: see `glowjax.glow`.
        dtype: of the nets' hidden layers.
        unroll: steps per iteration of the compiled loop.
        output: the JSON file; default: runs/bench/memory.json.
        small: a tiny model of two depths, to see that it works.
    """
    if small:
        problem, depths, batch_size = SMALL, (2, 3), 8
    report = Report("memory", output)
    for mode, depth in itertools.product(backprop, depths):
        label = {"steps": depth, "batch": batch_size, "backprop": mode, "unroll": unroll}
        report.run(memory, problem.setting(dtype=dtype) | label, label)
    report.finish(COLUMNS)


def memory(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of what the compiled step says of its memory on one device."""
    check_batch_size(setting["batch"])
    trainer = make_our_trainer(setting)
    batch = random_batch(setting["batch"], setting["size"])
    analysis = compiled_step(trainer, shard(batch)).memory_analysis()
    params = jax.eval_shape(trainer.init, batch).params
    # As many as parameters, and of their dtypes.
    gradients = sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(params))
    yield {
        "facts": {"device": jax.devices()[0].device_kind, "devices": jax.device_count()},
        "temporary_bytes": analysis.temp_size_in_bytes,
        "argument_bytes": analysis.argument_size_in_bytes,
        "gradient_bytes": gradients,
        "activation_bytes": analysis.temp_size_in_bytes - gradients,
    }
