"""Densities that flows of angles reach in each library, on rows that training never saw."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

import glowjax
from experiments.bench import fits, tables
from experiments.bench.common import Report, Row
from experiments.bench.flow_peers import BINS, DEPTH, WIDTH, check_installed
from glowjax.checks import check_choice, check_positive

Kind = Literal["maf", "coupling"]
LAYERS = 4, 8  # of normflows, autoregressive layers and couplings, as many as glowjax has for D = 2
SPACES = {
    "three peaks": ("circle",) * 2,
    "ridge": ("circle",) * 2,
    "walk": ("circle",) * 5,
    "helix": ("circle", "line"),
}


def main(
    *,
    kinds: tuple[Kind, ...] = ("maf", "coupling"),
    data: tuple[str, ...] = tuple(SPACES),
    peers: tuple[str, ...] = (),
    seeds: int = 3,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Held-out log-likelihood of flows of angles, each made and trained as `fits` says.

    glowjax: `circular_maf` or `circular_spline_flow`. zuko: `NCSF`, which is autoregressive and
    takes angles alone. normflows, which has no default sizes: as many circular spline layers as
    glowjax has on the torus, of the same width and bins, trained as zuko's.

    Args:
        kinds: of flows.
        data: `three peaks` and `ridge` on the torus, `walk` of five angles, of which each is near
            the one before it, and `helix`, an angle and a height.
        peers: zuko, normflows.
        seeds: of data, parameters and order; a gain is the mean over the test rows of all.
        output: the JSON file; default: runs/bench/angles.json.
        small: one set and few examples, to see that it works.
    """
    check_positive(seeds=seeds)
    check_installed(peers)
    for name in data:
        check_choice("data", name, SPACES)
    if small:
        kinds, data, seeds = kinds[:1], data[:1], 1
    report = Report("angles", output)
    for kind in kinds:
        for name in data:
            able = [peer for peer in peers if peer != "zuko" or (kind, name) not in NOT_IN_ZUKO]
            setting = {
                "kind": kind,
                "data": name,
                "libraries": ["glowjax", *able],
                "seeds": seeds,
                "examples": 2 * fits.BATCH if small else fits.EXAMPLES,
            }
            report.run(measure, setting, {"kind": kind, "data": name})
    report.finish(fits.COLUMNS)


NOT_IN_ZUKO = {("maf", "helix"), *(("coupling", name) for name in SPACES)}


def measure(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of each library; those of the peers have our gain on them."""
    functions = {"glowjax": by_glowjax, "zuko": by_zuko, "normflows": by_normflows}
    spaces = SPACES[setting["data"]]
    libraries = {name: functools.partial(f, spaces) for name, f in functions.items()}
    yield from fits.compared(setting, libraries, parts)


def parts(name: str, seed: int) -> tables.Parts:
    """Angles in [-π, π) and standardized heights, drawn by a seed."""
    rng = np.random.default_rng(seed)
    n = sum(tables.PLANE)
    if name == "three peaks":
        middles = np.array([[0.21, 2.85], [1.89, 6.18], [3.77, 1.56]])
        x = rng.vonmises(middles[rng.integers(3, size=n)], 8.0)
    elif name == "ridge":
        first = rng.uniform(-np.pi, np.pi, n)
        x = np.stack([first, rng.vonmises(1.94 - first, 8.0)], axis=1)
    elif name == "walk":
        x = np.cumsum([rng.uniform(-np.pi, np.pi, n), *rng.vonmises(0, 4.0, (4, n))], axis=0).T
    else:
        height = rng.uniform(-1.5, 1.5, n)
        x = np.stack([rng.vonmises(2 * np.pi * height, 8.0), height], axis=1)
    wrapped = np.remainder(x + np.pi, 2 * np.pi) - np.pi
    x = np.where(np.array(SPACES[name]) == "circle", wrapped, x).astype(np.float32)
    return tables.Parts(*np.split(x, np.cumsum(tables.PLANE[:2])))


def by_glowjax(spaces, kind: Kind, parts: tables.Parts, seed: int, examples: int) -> fits.LogProb:
    make = glowjax.circular_maf if kind == "maf" else glowjax.circular_spline_flow
    return fits.trained(glowjax.density(make(spaces), (len(spaces),)), parts, seed, examples)


def by_zuko(spaces, kind: Kind, parts: tables.Parts, seed: int, examples: int) -> fits.LogProb:
    import torch
    from zuko import flows

    torch.manual_seed(seed)
    flow = flows.NCSF(len(spaces))
    return fits.trained_by_torch(flow, lambda x: flow().log_prob(x), parts, examples)


def by_normflows(spaces, kind: Kind, parts: tables.Parts, seed: int, examples: int) -> fits.LogProb:
    import torch
    from normflows import NormalizingFlow, distributions, flows

    torch.manual_seed(seed)
    circles = [column for column, space in enumerate(spaces) if space == "circle"]
    ends = torch.tensor([math.pi if space == "circle" else 5.0 for space in spaces])
    widths = torch.tensor([2 * math.pi if space == "circle" else 1.0 for space in spaces])
    options = {"num_bins": BINS, "tail_bound": ends}
    sizes = len(spaces), DEPTH, WIDTH, circles
    if kind == "maf":
        layer = flows.CircularAutoregressiveRationalQuadraticSpline
        layers = [layer(*sizes, **options) for _ in range(LAYERS[0])]
    else:
        layer = flows.CircularCoupledRationalQuadraticSpline
        layers = [layer(*sizes, reverse_mask=bool(i % 2), **options) for i in range(LAYERS[1])]
    base = distributions.UniformGaussian(len(spaces), circles, widths)
    flow = NormalizingFlow(base, layers)
    return fits.trained_by_torch(flow, flow.log_prob, parts, examples)
