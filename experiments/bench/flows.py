"""Speed of small flows of vectors beside other libraries': density, training step, samples."""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench.common import Columns, Report, Row, gigabytes
from experiments.bench.flow_peers import LIBRARIES, Calls, Kind, check_installed
from glowjax.checks import check_positive
from glowjax.timing import check_repetitions

COLUMNS: Columns = {
    "flow": lambda r: f"{r['kind']}, D = {r['dims']}",
    "call": lambda r: r["call"],
    "library": lambda r: r["library"],
    "ms": lambda r: f"{r['milliseconds']:.4g}",
    "spread": lambda r: f"{r['least']:.4g}–{r['most']:.4g}",
    "ours / best peer": lambda r: f"{r['ratio']:.2f}",
    "first call": lambda r: f"{r['compile_seconds']:.1f} s",
    "temporaries": lambda r: gigabytes(r["temporary_bytes"]),
}


def main(
    *,
    kinds: tuple[Kind, ...] = ("maf", "spline", "affine"),
    dims: tuple[int, ...] = (2, 10, 50),
    batch_size: tuple[int, ...] = (256, 2048),
    samples: int = 10_000,
    peers: tuple[str, ...] = (),
    repetitions: int = 7,
    seconds: float = 0.3,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Milliseconds of a density, a training step and samples, with ratios to the best peer.

    The libraries take turns in one process, so that what else the machine does meets all alike.

    Args:
        kinds: of flows, see `experiments.bench.flow_peers`.
        dims: numbers of an event.
        batch_size: of densities and training steps.
        samples: drawn at once.
        peers: flowjax, zuko, nflows, normflows; the last three need torch.
        repetitions: at least 3.
        seconds: of one repetition.
        output: the JSON file; default: runs/bench/flows.json.
        small: one small cell, to see that it works.
    """
    check_repetitions(repetitions, seconds)
    check_positive(samples=samples)
    check_installed(peers)
    if small:
        dims, batch_size, samples, seconds = (2,), (8,), 8, 0.0
    report = Report("flows", output)
    for kind in kinds:
        for size in dims:
            setting = {
                "kind": kind,
                "dims": size,
                "batch_sizes": batch_size,
                "samples": samples,
                "libraries": ["glowjax", *peers],
                "repetitions": repetitions,
                "seconds": seconds,
            }
            report.run(measure, setting, {"kind": kind, "dims": size})
    report.finish(COLUMNS)


def measure(setting: dict[str, Any]) -> Iterator[Row]:
    """Rows of each call and library."""
    yield {"facts": {"device": jax.devices()[0].device_kind}}
    kind, dims = setting["kind"], setting["dims"]
    flows = {name: LIBRARIES[name](kind, dims) for name in setting["libraries"]}
    rng = np.random.default_rng(0)
    for batch in setting["batch_sizes"]:
        x = rng.normal(size=(batch, dims)).astype(np.float32)
        yield from compared("log_prob", x, f"log_prob of {batch:,}", flows, setting)
        for row in compared("step", x, f"step of {batch:,}", flows, setting):
            temporaries = flows[row["library"]].temporaries(x)
            yield row | ({} if temporaries is None else {"temporary_bytes": temporaries})
    n = setting["samples"]
    yield from compared("sample", n, f"sample of {n:,}", flows, setting)


def compared(
    method: str, argument: Any, call: str, flows: dict[str, Calls], setting: dict[str, Any]
) -> Iterator[Row]:
    """Rows of one call of all libraries, which take turns."""
    calls = {
        name: functools.partial(getattr(flow, method), argument) for name, flow in flows.items()
    }
    first = {name: timed(each, 1) for name, each in calls.items()}
    counts = {
        name: max(1, round(setting["seconds"] / timed(each, 2))) for name, each in calls.items()
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(setting["repetitions"]):
        for name, each in calls.items():
            timed(each, 1 + counts[name] // 4)  # the threads of the one before still spin
            times[name].append(timed(each, counts[name]))
    medians = {name: float(np.median(each)) for name, each in times.items()}
    best = min((medians[name] for name in medians if name != "glowjax"), default=None)
    for name, each in times.items():
        row = {
            "call": call,
            "library": name,
            "milliseconds": 1e3 * medians[name],
            "least": 1e3 * min(each),
            "most": 1e3 * max(each),
            "compile_seconds": first[name] - medians[name],
        }
        yield row | ({"ratio": medians[name] / best} if name == "glowjax" and best else {})


def timed(function: Callable[[], Any], calls: int) -> float:
    """Seconds of a call, the mean of some in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
