"""Compile time of the training step against depth: cold, and from a persistent cache."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from experiments.bench.common import SMALL, Columns, Flat, Problem, Report, Row, cache_in
from experiments.bench.train import lowered_step, make_our_trainer, random_batch
from glowjax.checks import check_positive
from glowjax.loops import Backprop
from glowjax.runs.steps import check_batch_size, shard

COLUMNS: Columns = {
    "K": lambda r: str(r["steps"]),
    "backprop": lambda r: r["backprop"],
    "unroll": lambda r: str(r["unroll"]),
    "cache": lambda r: r["cache"],
    "trace and lower": lambda r: f"{r['lower_seconds']:.1f} s",
    "compile": lambda r: f"{r['backend_seconds']:.1f} s",
    "in all": lambda r: f"{r['seconds']:.1f} s",
    "spread": lambda r: f"{r['least']:.1f}–{r['most']:.1f} s",
}


def main(
    problem: Flat = Problem(),  # noqa: B008
    *,
    depths: tuple[int, ...] = (32, 320),
    batch_size: int = 256,
    backprop: tuple[Backprop, ...] = ("store",),
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    unroll: int = 1,
    repetitions: int = 3,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Seconds to trace, lower and compile one mapped training step, each time in a new process.

    Args:
        problem: the model, but for its depth.
        depths: K, several.
        batch_size: images a step.
        backprop: see `glowjax.glow`.
        dtype: of the nets' hidden layers.
        unroll: steps per iteration of the compiled loop.
        repetitions: of the pair of an empty cache and the cache that it leaves.
        output: the JSON file; default: runs/bench/compile.json.
        small: a tiny model, once, to see that it works.
    """
    check_positive(repetitions=repetitions)
    if small:
        problem, depths, batch_size, repetitions = SMALL, (2,), 8, 1
    report = Report("compile", output)
    for mode in backprop:
        for depth in depths:
            label = {"steps": depth, "backprop": mode, "unroll": unroll}
            setting = problem.setting(batch=batch_size, dtype=dtype) | label
            for _ in range(repetitions):
                twice(report, setting, label)
    report.rows = [row for cache in ("cold", "warm") for row in medians(report.rows, cache)]
    report.finish(COLUMNS)


def twice(report: Report, setting: dict[str, Any], label: Row) -> None:
    """A process with an empty cache, then one with what the first left there."""
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("cold", "warm"):
            report.run(compile_step, setting, label | {"cache": cache}, cache_in(folder))


def compile_step(setting: dict[str, Any]) -> Iterator[Row]:
    """A row with the seconds that the step takes in this process."""
    check_batch_size(setting["batch"])
    trainer = make_our_trainer(setting)
    batch = shard(random_batch(setting["batch"], setting["size"]))
    start = time.perf_counter()
    lowered = lowered_step(trainer, batch)
    lowered_at = time.perf_counter()
    lowered.compile()
    end = time.perf_counter()
    yield {
        "facts": {"device": jax.devices()[0].device_kind, "devices": jax.device_count()},
        "lower_seconds": lowered_at - start,
        "backend_seconds": end - lowered_at,
        "seconds": end - start,
    }


def medians(rows: list[Row], cache: str) -> list[Row]:
    """One row for each setting with this cache: medians, spread, and all that was measured."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["cache"] == cache:
            groups.setdefault((row["steps"], row["backprop"]), []).append(row)
    return [median(group) for group in groups.values()]


def median(group: list[Row]) -> Row:
    """Of repetitions of one setting; the one that failed, if one did."""
    failed = [row for row in group if "error" in row]
    if failed:
        return failed[0]
    names = ("lower_seconds", "backend_seconds", "seconds")
    middle = {name: float(np.median([row[name] for row in group])) for name in names}
    every = [row["seconds"] for row in group]
    return group[0] | middle | {"least": min(every), "most": max(every), "every_seconds": every}
