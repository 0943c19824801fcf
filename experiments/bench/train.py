"""Speed of the whole training step, as the trainer runs it, beside other libraries'."""

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

import glowjax
from experiments.bench import ceilings, peers
from experiments.bench.common import (
    SMALL,
    Columns,
    Flat,
    Problem,
    Report,
    Row,
    WithPeers,
    cache_in,
    forward_flops,
    library,
    one_gpu,
    timing_columns,
)
from glowjax.loops import Backprop
from glowjax.runs.config import Config
from glowjax.runs.models import Glow
from glowjax.runs.steps import AXIS, Trainer, check_batch_size, make_trainer, mapped, shard
from glowjax.timing import check_repetitions, no_persistent_cache, summary, time_calls

COLUMNS: Columns = {
    "library": library,
    "batch": lambda r: str(r["batch"]),
    "nets": lambda r: r["dtype"],
    "backprop": lambda r: r["backprop"],
    "unroll": lambda r: str(r["unroll"]),
} | timing_columns()


def main(
    problem: Flat = Problem(),  # noqa: B008
    *,
    batch_size: tuple[int, ...] = (256,),
    backprop: tuple[Backprop, ...] = ("store",),
    dtype: tuple[Literal["float32", "bfloat16"], ...] = ("bfloat16",),
    unroll: tuple[int, ...] = (1,),
    repetitions: int = 3,
    seconds: float = 1.0,
    with_peers: WithPeers = False,
    ways: tuple[peers.WayName, ...] = tuple(peers.WAYS),
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Every combination of the options in a process of its own; a table, and JSON.

    Args:
        problem: the model.
        batch_size: images a step, over all devices.
        backprop: see `glowjax.glow`.
        dtype: of the nets' hidden layers.
        unroll: steps per iteration of the compiled loop.
        repetitions: at least 3.
        seconds: of training in each.
        with_peers: nflows and normflows too, at each batch size; all on one GPU.
        ways: how torch runs them: in TF32, or by autocast to bfloat16, eagerly, with channels as
            the last axis in memory, with each step of flow compiled by torch.compile, or with the
            whole training step as a CUDA graph.
        output: the JSON file; default: runs/bench/train.json.
        small: a tiny model and one step a repetition, to see that it works.
    """
    check_repetitions(repetitions, seconds)
    if with_peers:
        peers.check_installed()
    if small:
        problem, batch_size, seconds = SMALL, (8,), 0.0
    timing = {"repetitions": repetitions, "seconds": seconds}
    report = Report("train", output)
    env = one_gpu() if with_peers else {}
    report.run(ceilings.measure, {"small": small}, {"library": "ceilings"})
    with tempfile.TemporaryDirectory() as folder:
        for batch, b, d, u in itertools.product(batch_size, backprop, dtype, unroll):
            label = {"library": "glowjax", "batch": batch, "dtype": d, "backprop": b, "unroll": u}
            report.run(train, problem.setting(**label, **timing), label, env | cache_in(folder))
    if with_peers:
        for batch, peer, way in itertools.product(batch_size, peers.LIBRARIES, ways):
            label = {"library": peer, "batch": batch, "dtype": way}
            report.run(peers.train, problem.setting(**label, **timing), label, env)
    report.finish(COLUMNS)


def train(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of our own: the first step, compiled from nothing, and the speed of those after."""
    batch_size = setting["batch"]
    check_batch_size(batch_size)
    trainer = make_our_trainer(setting)
    batch = random_batch(batch_size, setting["size"])
    on_devices = mapped(trainer)
    # On few images, so that the peak of memory is that of the steps.
    state = jax.block_until_ready(on_devices.init(random_batch(8, setting["size"])))
    with no_persistent_cache():  # which only the initialisation may use
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(on_devices.train_step(state, batch))
        compile_seconds = time.perf_counter() - start
    times = time_calls(
        on_devices.train_step,
        (state, batch),
        repetitions=setting["repetitions"],
        seconds=setting["seconds"],
        carry=True,
    )
    flops = 3 * forward_flops(setting) * batch_size
    timing = summary(times, examples=batch_size, flops=flops, compile_seconds=compile_seconds)
    yield row_of(timing) | {
        "devices": jax.device_count(),
        "train_bits_per_dim": float(metrics["train_bits_per_dim"]),
        "peak_bytes": peak_bytes() or program_bytes(trainer, batch),
    }


def make_our_trainer(setting: dict[str, Any]) -> Trainer:
    """The trainer of a Glow on 8-bit images, all else as `Config` has it."""
    names = ("levels", "steps", "width", "coupling", "dtype", "backprop", "unroll")
    model = Glow(**{name: setting[name] for name in names if name in setting})
    config = Config(model=model, batch_size=setting["batch"])
    shape = (setting["size"], setting["size"], 3)
    return make_trainer(config, image_shape=shape, levels=256, num_classes=None)


def random_batch(n: int, size: int) -> dict[str, np.ndarray]:
    """Noise for images."""
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return {"image": images}


def row_of(timing: glowjax.Timing) -> Row:
    """A timing of images in JSON's terms."""
    row = timing._asdict()
    del row["temporary_bytes"]  # within the peak
    return {"images_per_second": row.pop("examples_per_second")} | row


def peak_bytes() -> int | None:
    """The most memory that one device held, where it counts."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    return max((s["peak_bytes_in_use"] for s in stats if s), default=None)


def program_bytes(trainer: Trainer, batch: dict[str, np.ndarray]) -> int:
    """Arguments and temporaries of the compiled step on one device."""
    analysis = compiled_step(trainer, shard(batch)).memory_analysis()
    return analysis.temp_size_in_bytes + analysis.argument_size_in_bytes


def compiled_step(trainer: Trainer, sharded: dict[str, Any]) -> Any:
    """The mapped training step, compiled and not run, for batches of a sharded one's shape."""
    return lowered_step(trainer, sharded).compile()


def lowered_step(trainer: Trainer, sharded: dict[str, Any]) -> Any:
    """The mapped training step, traced and lowered."""
    devices, *_ = sharded["image"].shape
    one = {name: jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for name, a in sharded.items()}
    state = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((devices, *a.shape), a.dtype),
        jax.eval_shape(trainer.init, one),
    )
    step = jax.pmap(trainer.train_step, axis_name=AXIS, donate_argnums=0)
    return step.lower(state, sharded)
