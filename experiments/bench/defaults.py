"""The defaults of small flows and of `fit`, each beside an alternative, on validation rows."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import glowjax
from experiments.bench import tables
from experiments.bench.common import Columns, Report, Row
from experiments.bench.flow_peers import Kind
from experiments.common import mean_and_error
from glowjax.checks import check_choice, check_positive

STEPS, BATCH, RATE = 2000, 256, 3e-3
DATA = ("two_moons", "checkerboard", "rings", "spirals", *tables.TABLES)


class Choice(NamedTuple):
    """What can be chosen of a flow, then of its training; as the defaults are."""

    activation: str = "relu"
    first_weights: float = 1.0
    """Times the default ones."""
    actnorm: bool = True
    reverse: bool = False
    other_map: bool = False
    flow_steps: int = 8
    rises_and_falls: bool = True
    rate: float = RATE
    average: bool = True


DEFAULT = "as it is"
ALTERNATIVES = {
    DEFAULT: Choice(),
    "SiLU": Choice(activation="silu"),
    "first weights as large as LeCun's": Choice(first_weights=3**0.5),  # U(±1/√n) has 1/√(3n)
    "no ActNorm": Choice(actnorm=False),
    "reversals, no riffles": Choice(reverse=True),
    "another map": Choice(other_map=True),
    "5 steps": Choice(flow_steps=5),
    "constant rate of 0.001": Choice(rises_and_falls=False, rate=1e-3),
    "no average": Choice(average=False),
}
MAPS: dict[Kind, tuple[glowjax.Elementwise, glowjax.Elementwise]] = {
    "maf": (glowjax.affine(bound=2.0), glowjax.affine(bound=3.0)),
    "affine": (glowjax.affine(scale="tanh"), glowjax.affine(scale="softplus", least=1e-3)),
    "spline": (glowjax.rational_quadratic(8, bound=5.0), glowjax.rational_quadratic(8, bound=4.0)),
}
"""Of each kind the default map of a number, and the other one."""

COLUMNS: Columns = {
    "flow": lambda r: r["kind"],
    "data": lambda r: r["data"],
    "choice": lambda r: r["choice"],
    "nats a row": lambda r: f"{r['nats']:.3f} ± {r['standard_error']:.3f}",
    "less the default": lambda r: f"{r['gain']:+.3f} ± {r['gain_error']:.3f}",
}


def main(
    *,
    kinds: tuple[Kind, ...] = ("maf", "affine", "spline"),
    data: tuple[str, ...] = DATA,
    seeds: int = 2,
    output: Path | None = None,
    small: bool = False,
) -> None:
    """Log-likelihood of validation rows with the defaults, and with one of them changed at a time.

    `maf`, `realnvp_mlp` or `neural_spline_flow`, trained by 2,000 steps of 256 examples. The rows
    are those that choose the best step; test rows have no part in it.

    Args:
        kinds: of flows.
        data: sets, see `experiments.bench.tables`.
        seeds: of data, parameters and order; a difference is the mean over the rows of all.
        output: the JSON file; default: runs/bench/defaults.json.
        small: one set and few steps, to see that it works.
    """
    check_positive(seeds=seeds)
    for name in data:
        check_choice("data", name, tables.NAMES)
    if small:
        kinds, data, seeds = kinds[:1], data[:1], 1
    report = Report("defaults", output)
    for kind in kinds:
        for name in data:
            setting = {"kind": kind, "data": name, "seeds": seeds, "steps": 2 if small else STEPS}
            report.run(measure, setting, {"kind": kind, "data": name})
    report.finish(COLUMNS)
    report.console.print(summary(report.rows))


def measure(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of each alternative; those of the others have their gain on the defaults."""
    yield {"facts": {"device": jax.devices()[0].device_kind}}
    defaults = np.zeros(0)
    for name, choice in ALTERNATIVES.items():
        log_p = validated(choice, **setting)
        nats, error = mean_and_error(log_p)
        row = {"choice": name, "nats": nats, "standard_error": error}
        if name == DEFAULT:
            defaults = log_p
        else:
            gain, gain_error = mean_and_error(log_p - defaults)
            row |= {"gain": gain, "gain_error": gain_error}
        yield row


def validated(choice: Choice, kind: Kind, data: str, seeds: int, steps: int) -> np.ndarray:
    """ln p of the validation rows of all seeds, in nats."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, choice.rate, steps // 20, steps)
    rate = schedule if choice.rises_and_falls else choice.rate
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate))
    flow, log_p = flow_of(kind, choice), []
    for seed in range(seeds):
        parts = tables.parts(data, seed)
        model = glowjax.density(flow, parts.train.shape[1:])
        fitted = glowjax.fit(
            model,
            parts.train,
            validation=parts.validation,
            steps=steps,
            batch_size=BATCH,
            optimizer=optimizer,
            decay=None if choice.average else 0,
            params=first_params(model, parts.train, choice.first_weights, seed),
            seed=seed,
            show=False,
        )
        log_p.append(jax.jit(model.log_prob)(fitted.params, parts.validation))
    return np.concatenate(log_p)


def flow_of(kind: Kind, choice: Choice) -> glowjax.Flow:
    """`maf`, `realnvp_mlp` or `neural_spline_flow`, where the choice is the default."""
    net = functools.partial(
        glowjax.MADE if kind == "maf" else glowjax.MLP,
        width=64,
        depth=2,
        activation=choice.activation,
    )
    layer = glowjax.Autoregressive if kind == "maf" else glowjax.Coupling
    parts = {
        "actnorm": glowjax.ActNorm(),
        "layer": layer(MAPS[kind][choice.other_map], net),
        "permutation": glowjax.Reverse() if choice.reverse else glowjax.Riffle(),
    }
    if not choice.actnorm:
        del parts["actnorm"]
    step = glowjax.chain(**{name: glowjax.as_flow(part) for name, part in parts.items()})
    return glowjax.repeat(step, choice.flow_steps)


def first_params(model: glowjax.Density, rows: np.ndarray, factor: float, seed: int) -> Any:
    """Initial parameters, with the nets' matrices times a factor."""
    params = jax.jit(model.init)(jax.random.key(seed), rows[:1024])

    def scaled(path, leaf):
        return factor * leaf if path[-1].key in ("kernel", "weight") else leaf

    return jax.tree_util.tree_map_with_path(scaled, params)


def summary(rows: list[Row]) -> str:
    """Of each alternative: on how many sets it is behind and ahead by two standard errors."""
    gains: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if "gain" in row:
            gains.setdefault((row["kind"], row["choice"]), []).append(
                (row["gain"], row["gain_error"])
            )
    return "\n".join(
        f"{kind}, {choice}: behind on {sum(gain < -2 * error for gain, error in each)},"
        f" ahead on {sum(gain > 2 * error for gain, error in each)} of {len(each)}"
        for (kind, choice), each in gains.items()
    )
