"""What every experiment script shares: its options, its folder, and its figures as JSON.

An experiment is a file with a docstring (title; command; `Time:`, `Expected:`, `Source:`) and a
`main(run) -> figures`, which draws its pictures into `run.folder`.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
import tyro
from jax.scipy import stats
from rich.console import Console
from rich.table import Table

import glowjax
from glowjax.densities.objectives import LogProb
from glowjax.files import write_whole

Figures = dict[str, float | str]
MEASURED = Path(__file__).parent / "measured"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Options of an experiment."""

    folder: Path
    """Where pictures and figures.json go."""
    smoke: bool = False
    """Tiny and short, to see that it works; its figures mean nothing."""
    seed: int = 0
    record: bool = False
    """Also keep the figures in experiments/measured, for `python -m experiments.catalogue`."""
    archives: Path | None = None
    """Folder with the data sets' original archives, a sub-folder each; without it
    tensorflow-datasets downloads them."""

    def size(self, default: int, smoke: int) -> int:
        """`default`, or `smoke` in a smoke run."""
        return smoke if self.smoke else default


def run(main: Callable[[Run], Figures]) -> None:
    """Runs an experiment from the command line: prints its figures, and writes figures.json."""
    name = Path(sys.modules["__main__"].__file__ or "").stem
    doc = sys.modules["__main__"].__doc__
    command, default = f"python -m experiments.{name}", Run(folder=Path("runs", name))
    options = tyro.cli(Run, prog=command, description=doc, default=default)
    if options.smoke and options.record:
        raise SystemExit("record must be left out of a smoke run: its figures mean nothing")
    options.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    figures = main(options)
    facts = {"figures": figures} | about_run(name, options, time.perf_counter() - began)
    write(options.folder / "figures.json", facts)
    if options.record:
        write(MEASURED / f"{name}.json", facts)
    show(name, figures, options.folder)


def spread(values: npt.ArrayLike) -> str:
    """Mean and range of one figure of several seeds, as text."""
    values = np.asarray(values)
    return f"{values.mean():.4g} ({values.min():.4g} … {values.max():.4g})"


def mean_and_error(values: npt.ArrayLike) -> tuple[float, float]:
    """Mean and its standard error."""
    values = np.ravel(values)
    return float(values.mean()), float(values.std(ddof=1) / values.size**0.5)


def mean(values: npt.ArrayLike, digits: int = 3, sign: str = "") -> str:
    """Mean ± its standard error, as text; `sign="+"` shows a plus."""
    value, error = mean_and_error(values)
    return f"{value:{sign}.{digits}f} ± {error:.{digits}f}"


class Timed(NamedTuple):
    """What a function gave for each key, and seconds of the processor: of all, and to compile."""

    found: list[Any]
    sampling: float
    compiling: float


def timed(one: Callable[[jax.Array], Any], keys: jax.Array) -> Timed:
    """Calls `one` with each key; with the first twice, to tell what compilation took."""
    seconds, found = [], []
    for key in keys[np.array([0, *range(len(keys))])]:
        began = time.process_time()
        found.append(jax.block_until_ready(one(key)))
        seconds.append(time.process_time() - began)
    return Timed(found[1:], sum(seconds[1:]), max(seconds[0] - seconds[1], 0.0))


def fit_seeds(
    model: glowjax.Density, loss: Callable[..., jax.Array], seeds: range, *, steps: int, rate: float
) -> Any:
    """`glowjax.fit` towards a target from several seeds at once: params, stacked along a new axis.

    One compiled loop for all: `falling` Adam goes by each number's own gradient, so that seeds do
    not touch.
    """
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    params = jax.jit(jax.vmap(lambda key: model.init_from_base(key, 256)))(keys)

    def summed(params, batch, key, step):
        keys = jax.random.split(key, len(seeds))
        return jnp.sum(jax.vmap(lambda p, k: loss(p, batch, k, step))(params, keys))

    optimizer = falling(rate, steps)
    return glowjax.fit(
        model, loss=summed, params=params, steps=steps, optimizer=optimizer, seed=seeds[0]
    ).params


def annealed(log_prob: LogProb, beta: jax.typing.ArrayLike) -> LogProb:
    """The geometric path to a target from N(0, 2²·I): its log p by β, that normal's by 1 - β."""
    beta = jnp.asarray(beta)
    return lambda x: beta * log_prob(x) + (1 - beta) * stats.norm.logpdf(x, 0, 2).sum(-1)


def falling(rate: float, steps: int) -> optax.GradientTransformation:
    """Adam whose learning rate falls to 0 by a cosine."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def clipped(
    rate: float, steps: int, *, norm: float = 10.0, warmup: bool = False
) -> optax.GradientTransformation:
    """Adam on gradients clipped to a norm, its rate falling to 0 by a cosine.

    With `warmup` it rises from 0 over the first twentieth of the steps.
    """
    if warmup:
        schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 20 + 1, steps)
    else:
        schedule = optax.cosine_decay_schedule(rate, steps)
    return optax.chain(optax.clip_by_global_norm(norm), optax.adam(schedule))


def in_units_of(model: glowjax.Density, x: jax.Array, seed: int) -> Any:
    """Parameters for `fit` to start from, which stay the flow's own: it does not standardize x."""
    return jax.jit(model.init)(jax.random.key(seed), x[:1000])


def about_run(name: str, options: Run, seconds: float) -> dict[str, Any]:
    """With what the figures were measured; folders, which differ between machines, unnamed."""
    command = f"python -m experiments.{name}"
    if options.archives is not None:
        command += " --archives FOLDER"
    if options.seed:
        command += f" --seed {options.seed}"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, encoding="utf-8", check=False
    ).stdout.strip()
    device = jax.devices()[0]
    hardware = f"{jax.device_count()} × {device.device_kind}"
    if device.platform == "cpu":
        hardware = f"{os.cpu_count()} CPU cores"
    return {
        "seconds": round(seconds, 1),
        "command": command,
        "hardware": hardware,
        "commit": commit or "unknown",
        "date": datetime.date.today().isoformat(),
        "versions": f"Python {platform.python_version()}, jax {jax.__version__}",
    }


def write(path: Path, facts: dict[str, Any]) -> None:
    """Writes JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def show(name: str, figures: Figures, folder: Path) -> None:
    """Prints the figures as a table."""
    table = Table(title=name, box=None, header_style="bold", title_justify="left")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    for figure, value in figures.items():
        table.add_row(figure, value if isinstance(value, str) else f"{value:.4g}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"pictures and figures.json are in {folder}", style="dim")
