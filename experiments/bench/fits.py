"""Densities that small flows reach by each library's defaults, on rows that training never saw."""

import copy
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import glowjax
from experiments.bench import tables
from experiments.bench.common import Columns, Report, Row
from experiments.bench.flow_peers import MODELS, Kind, check_installed
from experiments.common import mean_and_error
from glowjax.checks import check_choice, check_positive
from glowjax.fitting.fit import evaluation_interval

EXAMPLES, BATCH = 512_000, 256  # that a fit sees at most: 2,000 steps of 256
COLUMNS: Columns = {
    "flow": lambda r: r["kind"],
    "data": lambda r: r["data"],
    "library": lambda r: r["library"],
    "nats a row": lambda r: f"{r['nats']:.3f} ± {r['standard_error']:.3f}",
    "ours less theirs": lambda r: f"{r['gain']:+.3f} ± {r['gain_error']:.3f}",
    "seconds": lambda r: f"{r['seconds']:.0f}",
}
LogProb = Callable[[np.ndarray], np.ndarray]


def main(
    *,
    kinds: tuple[Kind, ...] = ("maf", "affine", "spline"),
    data: tuple[str, ...] = tables.NAMES,
    peers: tuple[str, ...] = (),
    seeds: int = 3,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Held-out log-likelihood of flows as each library makes and trains them by default.

    All see the same rows, standardized, and at most 512,000 examples, as 2,000 steps of 256.
    glowjax: `maf`, `realnvp_mlp` or `neural_spline_flow`, and `fit`. flowjax:
    `masked_autoregressive_flow`, or `coupling_flow` with its affine map or with splines of 8 knots
    on [-4, 4], and `fit_to_data`, which ends early. zuko: `MAF`, `RealNVP` or `NSF`; it trains
    nothing itself, so Adam(1e-3) does, and the best step on the validation rows is taken.

    Args:
        kinds: of flows.
        data: sets, see `experiments.bench.tables`.
        peers: flowjax, zuko.
        seeds: of data, parameters and order; a gain is the mean over the test rows of all.
        output: the JSON file; default: runs/bench/fits.json.
        small: one set and few examples, to see that it works.
    """
    check_positive(seeds=seeds)
    check_installed(peers)
    for name in data:
        check_choice("data", name, tables.NAMES)
    if small:
        kinds, data, seeds = kinds[:1], data[:1], 1
    report = Report("fits", output)
    for kind in kinds:
        for name in data:
            setting = {
                "kind": kind,
                "data": name,
                "libraries": ["glowjax", *peers],
                "seeds": seeds,
                "examples": 2 * BATCH if small else EXAMPLES,
            }
            report.run(measure, setting, {"kind": kind, "data": name})
    report.finish(COLUMNS)


class Result(NamedTuple):
    """ln p of the test rows, in nats of standardized columns, and the seconds of the fit."""

    log_p: np.ndarray
    seconds: float


def measure(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of each library; those of the peers have our gain on them."""
    yield from compared(setting, LIBRARIES, tables.parts)


def compared(
    setting: dict[str, Any],
    libraries: "Mapping[str, Library]",
    parts: Callable[[str, int], tables.Parts],
) -> Iterator[Row]:
    """What `measure` yields, of rows that `parts` makes of a name and a seed."""
    yield {"facts": {"device": jax.devices()[0].device_kind}}
    log_p: dict[str, np.ndarray] = {}
    for library in setting["libraries"]:
        fit, seeds = libraries[library], range(setting["seeds"])
        fits = [fitted(fit, setting, parts(setting["data"], seed), seed) for seed in seeds]
        log_p[library] = np.concatenate([each.log_p for each in fits])
        nats, error = mean_and_error(log_p[library])
        seconds = float(np.mean([each.seconds for each in fits]))
        row = {"library": library, "nats": nats, "standard_error": error, "seconds": seconds}
        if library != "glowjax":
            gain, gain_error = mean_and_error(log_p["glowjax"] - log_p[library])
            row |= {"gain": gain, "gain_error": gain_error}
        yield row


def fitted(fit: "Library", setting: dict[str, Any], parts: tables.Parts, seed: int) -> Result:
    """One fit."""
    began = time.perf_counter()
    log_prob = fit(setting["kind"], parts, seed, setting["examples"])
    seconds = time.perf_counter() - began
    pieces = np.array_split(parts.test, max(1, len(parts.test) // 4096))
    return Result(np.concatenate([log_prob(piece) for piece in pieces]), seconds)


def by_glowjax(kind: Kind, parts: tables.Parts, seed: int, examples: int) -> LogProb:
    return trained(glowjax.density(MODELS[kind](), parts.train.shape[1:]), parts, seed, examples)


def trained(model: glowjax.Density, parts: tables.Parts, seed: int, examples: int) -> LogProb:
    """By the defaults of `glowjax.fit`."""
    fit = glowjax.fit(
        model,
        parts.train,
        validation=parts.validation,
        steps=examples // BATCH,
        seed=seed,
        show=False,
    )
    return jax.jit(functools.partial(model.log_prob, fit.params))


def by_flowjax(kind: Kind, parts: tables.Parts, seed: int, examples: int) -> LogProb:
    """It splits off validation rows by itself, as many as the others have."""
    import equinox
    from flowjax import bijections, distributions, flows, train

    key = jax.random.key(seed)
    base = distributions.Normal(jnp.zeros(parts.train.shape[1]))
    if kind == "maf":
        flow = flows.masked_autoregressive_flow(key, base_dist=base)
    else:
        spline = bijections.RationalQuadraticSpline(knots=8, interval=4)
        transformer = spline if kind == "spline" else None
        flow = flows.coupling_flow(key, base_dist=base, transformer=transformer)
    rows = np.concatenate([parts.train, parts.validation])
    flow, _ = train.fit_to_data(
        jax.random.fold_in(key, 1),
        flow,
        data=jnp.asarray(rows),
        max_epochs=min(100, -(-examples // len(parts.train))),
        val_prop=len(parts.validation) / len(rows),
        show_progress=False,
    )
    log_prob = equinox.filter_jit(lambda flow, x: flow.log_prob(x))
    return functools.partial(log_prob, flow)


def by_zuko(kind: Kind, parts: tables.Parts, seed: int, examples: int) -> LogProb:
    import torch
    from zuko import flows

    torch.manual_seed(seed)
    kinds = {"maf": flows.MAF, "affine": flows.RealNVP, "spline": flows.NSF}
    flow = kinds[kind](parts.train.shape[1])
    return trained_by_torch(flow, lambda x: flow().log_prob(x), parts, examples)


def trained_by_torch(flow, log_prob, parts: tables.Parts, examples: int) -> LogProb:
    """By Adam(1e-3), evaluated as often as `fit` does, to the best step on the validation rows."""
    import torch

    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    train, validation = torch.as_tensor(parts.train), torch.as_tensor(parts.validation)
    steps, lowest, best = examples // BATCH, np.inf, flow.state_dict()
    every = evaluation_interval(None, steps, math.ceil(len(train) / BATCH))
    for step in range(1, steps + 1):
        loss = -log_prob(train[torch.randint(len(train), (BATCH,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every == 0:
            with torch.no_grad():
                value = float(-log_prob(validation).mean())
            if value < lowest:
                lowest, best = value, copy.deepcopy(flow.state_dict())
    flow.load_state_dict(best)

    def evaluated(x):
        with torch.no_grad():
            return log_prob(torch.as_tensor(x)).numpy()

    return evaluated


Library = Callable[[Any, tables.Parts, int, int], LogProb]
LIBRARIES: dict[str, Library] = {
    "glowjax": by_glowjax,
    "flowjax": by_flowjax,
    "zuko": by_zuko,
}
