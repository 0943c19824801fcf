"""Speed on more and more devices of one machine, by `pmap` and by `shard_map`, and who waits."""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.bench.common import (
    SMALL,
    Columns,
    Flat,
    Problem,
    Report,
    Row,
    cache_in,
    forward_flops,
    gigabytes,
    timing_columns,
)
from experiments.bench.train import make_our_trainer, random_batch, row_of
from glowjax import data
from glowjax.checks import require
from glowjax.runs.steps import AXIS, Trainer, mapped, replicate
from glowjax.timing import check_repetitions, summary, time_calls

Way = Literal["pmap", "shard_map"]
TIMING = timing_columns()
COLUMNS: Columns = {
    "devices": lambda r: str(r["devices"]),
    "way": lambda r: r["way"],
    "batch a device": lambda r: str(r["per_device"]),
    **{name: TIMING[name] for name in ("ms", "spread", "img/s")},
    "efficiency": lambda r: f"{r['efficiency']:.1%}",
    "waits for data": lambda r: f"{r['waiting']:.2%}",
    "loss by data": lambda r: f"{r['loss_by_data']:.2%}",
    "copy, ms": lambda r: f"{1e3 * r['copy_seconds']:.2f}",
    "all-reduce, ms": lambda r: f"{1e3 * r['all_reduce_seconds']:.2f}",
    "donated": lambda r: f"{r['donated']:.0%}",
    "memory": lambda r: gigabytes(r["peak_bytes"]),
}


def main(
    problem: Flat = Problem(),  # noqa: B008
    *,
    devices: tuple[int, ...] = (1, 2, 4),
    per_device: tuple[int, ...] = (256,),
    way: tuple[Way, ...] = ("pmap", "shard_map"),
    repetitions: int = 3,
    seconds: float = 3.0,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Every combination in a process of its own; a table, and JSON.

    Efficiency is images a second and device beside the same way on the first number of devices, of
    steps on one batch again and again, copied to the devices each time. Then a loop as the
    trainer's takes batches from its pipeline, images in memory with random flips and shifts:
    waiting is the share of time that it spends on getting the next batch, while devices work on
    those before, and the loss by data how much slower it is than with one batch. An all-reduce of
    the gradients alone, beside how much a step grows with the devices, tells how much of it compute
    hides.

    Args:
        problem: the model, its nets in bfloat16.
        devices: numbers of devices.
        per_device: images a step and device.
        way: of running on all: `jax.pmap`, as the trainer does, or `jit` of `jax.shard_map`.
        repetitions: at least 3.
        seconds: of training in each.
        output: the JSON file; default: runs/bench/scale.json.
        small: a tiny model and one step a repetition, to see that it works.
    """
    check_repetitions(repetitions, seconds)
    if small:
        problem, per_device, seconds = SMALL, (4,), 0.0
    report = Report("scale", output)
    with tempfile.TemporaryDirectory() as folder:
        for size, w in itertools.product(per_device, way):
            base = None
            for n in devices:
                label = {"devices": n, "way": w, "per_device": size}
                setting = problem.setting(
                    devices=n,
                    batch=n * size,
                    dtype="bfloat16",
                    way=w,
                    repetitions=repetitions,
                    seconds=seconds,
                )
                for row in report.run(measure, setting, label, only(n) | cache_in(folder)):
                    if "images_per_second" in row:
                        each = row["images_per_second"] / n
                        base = base or each
                        row["efficiency"] = each / base
    report.finish(COLUMNS)


def only(n: int) -> dict[str, str]:
    """The environment of a process that sees `n` devices."""
    fake = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(n)))
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(visible.split(",")[:n]),
        "XLA_FLAGS": fake.strip(),
    }


def measure(setting: dict[str, Any]) -> Iterator[Row]:
    """Speed on one batch again and again and with a pipeline, and the parts that do not compute."""
    found = jax.device_count()
    require(found == setting["devices"], "devices", setting["devices"], f"at most {found}")
    trainer = make_our_trainer(setting)
    batch = random_batch(setting["batch"], setting["size"])
    few = {name: array[:8] for name, array in batch.items()}
    init, step = {"pmap": by_pmap, "shard_map": by_shard_map}[setting["way"]](trainer)
    timed = {"repetitions": setting["repetitions"], "seconds": setting["seconds"]}
    state = init(few)
    start = time.perf_counter()
    after, _ = jax.block_until_ready(step(state, batch))
    compile_seconds = time.perf_counter() - start
    donated = float(np.mean([leaf.is_deleted() for leaf in jax.tree.leaves(state)]))
    times = time_calls(step, (after, batch), **timed, carry=True)
    flops = 3 * forward_flops(setting) * setting["batch"]
    timing = summary(times, examples=setting["batch"], flops=flops, compile_seconds=compile_seconds)
    steps = max(8, round(setting["seconds"] * timing.examples_per_second / setting["batch"]))
    waiting, speed = with_pipeline(step, init(few), setting, steps)

    split = NamedSharding(all_devices(), PartitionSpec(AXIS))
    copies = time_calls(lambda b: jax.device_put(b, split), (batch,), **timed, latency=True)
    all_reduce = jax.pmap(lambda tree: jax.lax.pmean(tree, AXIS), AXIS)
    gradients = replicate(jax.jit(trainer.init)(few).params)
    yield row_of(timing) | {
        "facts": {"device": jax.devices()[0].device_kind},
        "donated": donated,
        "waiting": waiting,
        "loss_by_data": 1 - speed / timing.examples_per_second,
        "copy_seconds": statistics.median(copies),
        "all_reduce_seconds": statistics.median(time_calls(all_reduce, (gradients,), **timed)),
    }


def all_devices() -> Mesh:
    """A mesh of one axis."""
    return Mesh(np.array(jax.devices()), (AXIS,))


def by_pmap(trainer: Trainer) -> tuple[Callable, Callable]:
    """init and train_step as the trainer has them."""
    on_devices = mapped(trainer)
    return on_devices.init, on_devices.train_step


def by_shard_map(trainer: Trainer) -> tuple[Callable, Callable]:
    """The same by `jit`, arrays of the whole batch sharded over a mesh of all devices."""
    mesh = all_devices()
    whole, split = PartitionSpec(), PartitionSpec(AXIS)
    mapped_step = jax.shard_map(
        trainer.train_step,
        mesh=mesh,
        in_specs=(whole, split),
        out_specs=(whole, whole),
        check_vma=False,
    )
    step = jax.jit(mapped_step, donate_argnums=0)

    def init(batch):
        return jax.device_put(jax.jit(trainer.init)(batch), NamedSharding(mesh, whole))

    def train_step(state, batch):
        trainer.check(batch)
        return step(state, jax.device_put(batch, NamedSharding(mesh, split)))

    return init, train_step


def with_pipeline(
    step: Callable, state: Any, setting: dict[str, Any], steps: int
) -> tuple[float, float]:
    """The share of time spent on the next batch, devices running behind; and images a second."""
    images = random_batch(4096, setting["size"])["image"]
    source = data.Source(name="noise", split="train", images=images)
    transform = data.Transform(flip=True, shift=0.25)
    batches = data.batches(
        source, 0, steps, batch_size=setting["batch"], seed=0, transform=transform
    )
    state, metrics = step(state, next(batches))  # the pipeline's start is no waiting
    jax.block_until_ready(metrics)
    waited, began = 0.0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    took = time.perf_counter() - began
    return waited / took, (steps - 1) * setting["batch"] / took
