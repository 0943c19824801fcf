"""Time of `fit_many`: what fits of many seeds side by side cost beside one."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import glowjax
from experiments.bench.common import Columns, Report, Row
from experiments.bench.flow_peers import MODELS, Kind
from experiments.bench.flows import timed
from glowjax.checks import check_positive
from glowjax.timing import check_repetitions

COLUMNS: Columns = {
    "flow": lambda r: f"{r['kind']}, D = {r['dims']}",
    "batch": lambda r: f"{r['batch_size']:,}",
    "fits": lambda r: str(r["fits"]),
    "ms a step": lambda r: f"{r['milliseconds']:.4g}",
    "spread": lambda r: f"{r['least']:.4g}–{r['most']:.4g}",
    "price": lambda r: f"{r['price']:.2f}",
}


def main(
    *,
    kinds: tuple[Kind, ...] = ("maf", "affine", "spline"),
    dims: tuple[int, ...] = (10,),
    batch_size: int = 256,
    fits: tuple[int, ...] = (1, 4, 32),
    steps: int = 500,
    repetitions: int = 5,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Milliseconds of a step of all fits together, without compilation; price: over one fit's.

    Args:
        kinds: of flows, as `maf`, `realnvp_mlp` and `neural_spline_flow` make them by default.
        dims: numbers of an event.
        batch_size: examples a step, of each fit.
        fits: how many seeds at once; the first number is what the price goes by.
        steps: of a repetition.
        repetitions: at least 3.
        output: the JSON file; default: runs/bench/many.json.
        small: few steps, to see that it works.
    """
    check_positive(batch_size=batch_size, steps=steps)
    check_repetitions(repetitions, 0)
    if small:
        kinds, dims, fits, steps, batch_size = kinds[:1], (2,), (1, 2), 2, 8
    report = Report("many", output)
    for kind in kinds:
        for size in dims:
            setting = {
                "kind": kind,
                "dims": size,
                "batch_size": batch_size,
                "fits": fits,
                "steps": steps,
                "repetitions": repetitions,
            }
            report.run(measure, setting, {"kind": kind, "dims": size, "batch_size": batch_size})
    report.finish(COLUMNS)


def measure(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of each number of fits."""
    yield {"facts": {"device": jax.devices()[0].device_kind}}
    model = glowjax.density(MODELS[setting["kind"]](), (setting["dims"],))
    x = np.random.default_rng(0).normal(size=(40 * setting["batch_size"], setting["dims"]))
    one = 0.0
    for count in setting["fits"]:
        call = functools.partial(
            glowjax.fit_many,
            model,
            x.astype(np.float32),
            seeds=range(count),
            validation=None,
            steps=setting["steps"],
            batch_size=setting["batch_size"],
            show=False,
        )
        call()  # which compiles
        times = [1e3 * timed(call, 1) / setting["steps"] for _ in range(setting["repetitions"])]
        median = float(np.median(times))
        one = one or median
        yield {
            "fits": count,
            "milliseconds": median,
            "least": min(times),
            "most": max(times),
            "price": median / one,
        }
