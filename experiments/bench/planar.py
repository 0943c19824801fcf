"""Speed of the planar reference, `experiments.planar_two_modes`, beside normflows' on torch.

Both on the CPU, as the steps are too small for an accelerator.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

import glowjax
from experiments.bench import peers
from experiments.bench.common import Columns, Report, Row, WithPeers, library
from experiments.planar_two_modes import MODEL, RECIPES, annealed
from glowjax.checks import check_positive
from glowjax.timing import check_repetitions

STEPS = 20_000  # of the whole run, half of which anneals
COLUMNS: Columns = {
    "library": library,
    "batch": lambda r: str(r["batch"]),
    "s per 1,000 steps": lambda r: f"{r['seconds_per_1000']:.3g}",
    "spread": lambda r: f"{r['least']:.3g}–{r['most']:.3g}",
    "first call": lambda r: f"{r['compile_seconds']:.1f} s",
    "faster": lambda r: f"{r['faster']:.1f} ×",
}


def main(
    *,
    batch_size: tuple[int, ...] = (40,),
    steps: int = 1000,
    repetitions: int = 5,
    with_peers: WithPeers = False,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Seconds per 1,000 steps of 16 planar layers by reverse KL; a table, and JSON.

    Args:
        batch_size: samples a step.
        steps: in each repetition.
        repetitions: at least 3.
        with_peers: normflows too, in the same run.
        output: the JSON file; default: runs/bench/planar.json.
        small: 2 steps a repetition, to see that it works.
    """
    check_repetitions(repetitions, 0)
    check_positive(steps=steps)
    if with_peers:
        peers.check_installed()
    report = Report("planar", output)
    env = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    for batch in batch_size:
        setting = {"batch": batch, "steps": 2 if small else steps, "repetitions": repetitions}
        ours = report.run(train, setting, {"library": "glowjax", "batch": batch}, env)
        if with_peers:
            theirs = report.run(
                train_normflows, setting, {"library": "normflows", "batch": batch}, env
            )
            if "error" not in ours[-1] | theirs[-1]:
                ours[-1]["faster"] = theirs[-1]["seconds_per_1000"] / ours[-1]["seconds_per_1000"]
    report.finish(COLUMNS)


def train(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of `glowjax.fit`; the first repetition, which compiles, is apart."""
    steps, times = setting["steps"], []
    recipe = RECIPES["reverse KL"]._replace(batch=setting["batch"])
    glowjax.fit(
        MODEL,
        loss=annealed(recipe, STEPS),
        steps=steps * (1 + setting["repetitions"]),
        optimizer=recipe.optimizer(STEPS),
        evaluate_every=steps,
        watch=lambda step, params: times.append(time.perf_counter()),
        show=False,
    )
    first, *rest = np.diff(times)
    yield (
        {"facts": {"device": jax.devices()[0].device_kind}}
        | row(rest, steps)
        | {"compile_seconds": first - float(np.median(rest))}
    )


def train_normflows(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of normflows' planar example, with the base fixed at N(0, I)."""
    import normflows
    import torch

    torch.manual_seed(0)
    flow = normflows.NormalizingFlow(
        q0=normflows.distributions.DiagGaussian(2, trainable=False),
        flows=[normflows.flows.Planar((2,)) for _ in range(16)],
        p=normflows.distributions.TwoModes(2, 0.1),
    )
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, weight_decay=1e-4)
    steps, times = setting["steps"], [time.perf_counter()]
    for step in range(steps * (1 + setting["repetitions"])):
        optimizer.zero_grad()
        beta = min(1.0, 0.01 + step / (STEPS / 2))
        flow.reverse_kld(setting["batch"], beta=beta).backward()
        optimizer.step()
        if (step + 1) % steps == 0:
            times.append(time.perf_counter())
    yield row(np.diff(times)[1:], steps) | {"device": "cpu"}


def row(seconds: ArrayLike, steps: int) -> Row:
    """Seconds per 1,000 steps, from those of each repetition."""
    each = 1000 / steps * np.asarray(seconds)
    return {
        "seconds_per_1000": float(np.median(each)),
        "least": float(each.min()),
        "most": float(each.max()),
    }
