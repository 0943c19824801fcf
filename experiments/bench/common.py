"""What the benchmarks share: the model's size, subprocesses, the table and the JSON beside it."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
OUT_OF_MEMORY = "out of memory"
Row = dict[str, Any]
Columns = dict[str, Callable[[Row], str]]
Measurement = Callable[[dict[str, Any]], Iterator[Row]]


@dataclass(frozen=True)
class Problem:
    """The Glow that is measured, and its images."""

    levels: int = 3
    """L."""
    steps: int = 32
    """K, per level."""
    width: int = 512
    """Hidden channels of the coupling nets."""
    size: int = 32
    """Height and width of the images, of 3 channels."""
    coupling: Literal["affine", "additive"] = "affine"

    def setting(self, **options: Any) -> dict[str, Any]:
        """The problem and options of one measurement, as a subprocess gets them."""
        return asdict(self) | options


def forward_flops(setting: dict[str, Any]) -> int:
    """Of one image: twice the multiply-adds of the nets' convolutions, as the paper has them.

    Fixed by the model, whatever rings, padding or recomputation an implementation adds; of a
    training step, three times as many.
    """
    width, channels, positions, total = setting["width"], 3, setting["size"] ** 2, 0
    for _ in range(setting["levels"]):
        channels, positions = 4 * channels, positions // 4
        into, out = channels // 2, channels if setting["coupling"] == "affine" else channels // 2
        total += setting["steps"] * positions * (9 * into * width + width**2 + 9 * width * out)
        channels //= 2
    return 2 * total


Flat = Annotated[Problem, tyro.conf.arg(name="")]
"""A `Problem` as a command's options: `--levels`, not `--problem.levels`."""

WithPeers = Annotated[bool, tyro.conf.arg(name="peers")]

SMALL = Problem(levels=2, steps=2, width=8, size=8)
"""What `--small` measures: seconds on a CPU."""


def in_subprocess(
    function: Measurement,
    setting: dict[str, Any],
    env: dict[str, str] | None = None,
) -> Iterator[Row]:
    """Rows of `function(setting)`, run in a process of its own.

    Caches of compiled code, the allocator and its peak start anew there. Running out of memory, or
    another end before its time, makes a last row with an `error`.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # The allocator takes what it needs, not most of the device: peers may share it.
    defaults = {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONPATH": path,
    }
    name = f"{function.__module__}:{getattr(function, '__name__', '')}"
    command = [sys.executable, "-m", "experiments.bench.worker", name, json.dumps(setting)]
    env = os.environ | defaults | (env or {})
    failed = False
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                row = json.loads(line)
                failed = "error" in row
                yield row
    if process.returncode and not failed:
        yield {"error": f"ended with code {process.returncode}"}


def answers(function: Measurement, setting: dict[str, Any]) -> Iterator[Row]:
    """Rows of `function(setting)`; an exception makes a last row with an `error`."""
    try:
        yield from function(setting)
    except Exception as error:
        if is_out_of_memory(error):
            yield {"error": OUT_OF_MEMORY}
        else:
            traceback.print_exc()
            yield {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}


def is_out_of_memory(error: Exception) -> bool:
    """Whether JAX or torch ran out of memory, on the device or the host."""
    words = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or any(
        sign in words for sign in ("RESOURCE_EXHAUSTED", "OutOfMemoryError", "alloc_cpu")
    )


def one_gpu() -> dict[str, str]:
    """The environment of subprocesses that see the first of the GPUs alone, as the peers use it."""
    return {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}


def cache_in(folder: str) -> dict[str, str]:
    """The environment of subprocesses that share a persistent compilation cache."""
    return {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


class Report:
    """Rows of one benchmark: printed one by one, in a table at the end, and kept as JSON."""

    def __init__(self, command: str, output: Path | None):
        """Starts an empty one."""
        self.command = command
        self.output = output or Path("runs/bench") / f"{command}.json"
        self.facts = machine()
        self.rows: list[Row] = []
        self.console = Console()
        self.console.width = max(self.console.width, 180)  # a log file is no narrow terminal

    def run(
        self,
        function: Measurement,
        setting: dict[str, Any],
        label: Row,
        env: dict[str, str] | None = None,
    ) -> list[Row]:
        """Runs a setting in a subprocess and keeps its rows, each with `label`."""
        self.console.print(f"[dim]{self.command}: {words(label)} …", highlight=False)
        rows = []
        for row in in_subprocess(function, setting, env):
            self.facts |= row.pop("facts", {})
            if row:
                rows.append(label | row | self.shares(row))
        self.rows += rows
        self.save()
        return rows

    def shares(self, row: Row) -> Row:
        """Speed as a share of the matmul peak of all devices, where both are known."""
        if "tflops" not in row or "matmul_peak" not in self.facts:
            return {}
        devices = row.get("devices", 1)
        return {"matmul_share": row["tflops"] * 1e12 / self.facts["matmul_peak"] / devices}

    def save(self) -> None:
        """Writes the JSON as far as it is known, so that a run that is cut short leaves it."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.write_text(
            json.dumps(self.facts | {"rows": self.rows}, indent=1) + "\n", encoding="utf-8"
        )

    def finish(self, columns: Columns) -> None:
        """Prints the table, and ends the program with code 1 if a row failed but for memory."""
        self.save()
        failed = [row for row in self.rows if "error" in row]
        if failed:
            columns = columns | {"": lambda r: r.get("error", "")[:40]}  # whole in the JSON
        table = Table(title=f"{self.command}: {self.title()}", title_justify="left")
        for heading in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*[_cell(text, row) for text in columns.values()])
        self.console.print(table)
        self.console.print(str(self.output))
        if any(row["error"] != OUT_OF_MEMORY for row in failed):
            raise SystemExit(1)

    def title(self) -> str:
        """Device and ceilings in words, as far as they are known."""
        facts = self.facts
        parts = [facts.get("device", "device unknown")]
        if "matmul_peak" in facts:
            parts.append(f"bf16 matmul {facts['matmul_peak'] / 1e12:.4g} TFLOP/s")
            parts.append(f"copy {facts['copy_bandwidth'] / 1e9:.4g} GB/s")
        return ", ".join(parts)


def _cell(text: Callable[[Row], str], row: Row) -> str:
    try:
        return text(row)
    except KeyError:
        return "–"  # what a row that failed does not have


def words(label: Row) -> str:
    """A row's label in a line."""
    return ", ".join(f"{name} {value}" for name, value in label.items())


def machine() -> Row:
    """Command line, date and versions of what is installed; the device's own facts come later."""
    packages = ("jax", "jaxlib", "flax", "torch", "flowjax", "zuko", "nflows", "normflows")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join(["python -m experiments.bench", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
    }


def library(row: Row) -> str:
    """Whose row it is; torch may not see the device that JAX sees."""
    return f"{row['library']} on {row['device']}" if "device" in row else row["library"]


def timing_columns() -> Columns:
    """Columns of a row of timings."""
    return {
        "ms": lambda r: f"{r['milliseconds']:.4g}",
        "spread": lambda r: f"{r['least']:.4g}–{r['most']:.4g}",
        "img/s": lambda r: f"{r['images_per_second']:,.0f}",
        "TFLOP/s": lambda r: f"{r['tflops']:.3g}",
        "of peak": lambda r: f"{r['matmul_share']:.1%}",
        "peak memory": lambda r: gigabytes(r["peak_bytes"]),
        "first call": lambda r: f"{r['compile_seconds']:.1f} s",
    }


def gigabytes(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.3g} GB" if abs(count) >= 1e8 else f"{count / 1e6:.3g} MB"
