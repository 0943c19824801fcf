"""Latency and speed of sampling at several batch sizes, beside other libraries'."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax

from experiments.bench import ceilings, peers
from experiments.bench.common import (
    SMALL,
    Columns,
    Flat,
    Problem,
    Report,
    Row,
    WithPeers,
    answers,
    forward_flops,
    library,
    one_gpu,
    timing_columns,
)
from experiments.bench.train import make_our_trainer, row_of
from glowjax.timing import check_repetitions, cold_compile, summary, time_calls

COLUMNS: Columns = {
    "library": library,
    "batch": lambda r: str(r["batch"]),
    "nets": lambda r: r["dtype"],
    **timing_columns(),
}


def main(
    problem: Flat = Problem(),  # noqa: B008
    *,
    batch_size: tuple[int, ...] = (1, 8, 64, 256, 1024),
    dtype: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16"),
    repetitions: int = 3,
    seconds: float = 1.0,
    with_peers: WithPeers = False,
    ways: tuple[peers.WayName, ...] = tuple(peers.WAYS),
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Every dtype and batch size, each call waiting for its samples; a table, and JSON.

    Args:
        problem: the model, at initialised weights.
        batch_size: samples a call, on one device.
        dtype: of the nets' hidden layers; flow arithmetic is in float32 always.
        repetitions: at least 3.
        seconds: of sampling in each.
        with_peers: nflows and normflows too.
        ways: how torch runs them, as in `experiments.bench train`.
        output: the JSON file; default: runs/bench/sample.json.
        small: a tiny model and one call a repetition, to see that it works.
    """
    check_repetitions(repetitions, seconds)
    if with_peers:
        peers.check_installed()
    if small:
        problem, batch_size, seconds = SMALL, (1, 8), 0.0
    timing = {"repetitions": repetitions, "seconds": seconds}
    report = Report("sample", output)
    env = one_gpu() if with_peers else {}
    report.run(ceilings.measure, {"small": small}, {"library": "ceilings"})
    for d in dtype:
        label = {"library": "glowjax", "dtype": d}
        setting = problem.setting(**label, **timing, batch_sizes=batch_size)
        report.run(sample, setting, label, env)
    if with_peers:
        for peer, way in itertools.product(peers.LIBRARIES, ways):
            label = {"library": peer, "dtype": way}
            setting = problem.setting(**label, **timing, batch_sizes=batch_size)
            report.run(peers.sample, setting, label, env)
    report.finish(COLUMNS)


def sample(setting: dict[str, Any]) -> Iterator[Row]:
    """Our own rows, one a batch size."""
    model = make_our_trainer(setting | {"batch": 8}).density
    shape = (setting["size"], setting["size"], 3)
    key = jax.random.key(0)
    params = jax.jit(model.init)(key, jax.random.uniform(key, (8, *shape)) - 0.5)

    def measure(setting):
        batch = setting["batch"]
        flops = forward_flops(setting) * batch
        compiled, compile_seconds = cold_compile(
            lambda params, key: model.sample(params, key, batch, temperature=0.7), params, key
        )
        times = time_calls(
            compiled,
            (params, key),
            repetitions=setting["repetitions"],
            seconds=setting["seconds"],
            latency=True,
        )
        timing = summary(times, examples=batch, flops=flops, compile_seconds=compile_seconds)
        analysis = compiled.memory_analysis()
        yield row_of(timing) | {
            # Of the program: the device's own counter never goes down between batch sizes.
            "peak_bytes": analysis.temp_size_in_bytes
            + analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes,
        }

    for batch in setting["batch_sizes"]:
        for row in answers(measure, setting | {"batch": batch}):
            yield {"batch": batch} | row
