"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from glowjax.checks import require
from glowjax.runs import hosts


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """How this process works together with others."""

    distributed: bool = False
    """Work together with other hosts, each of which runs this same command."""
    coordinator: str | None = None
    """HOST:PORT of process 0; of these three, none in SLURM, Open MPI, Kubernetes, TPU pods."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """Which of them this is, from 0."""

    def connect(self) -> None:
        given = (self.coordinator, self.processes, self.process)
        if self.distributed:
            hosts.connect(*given)
        elif any(g is not None for g in given):
            wanted = "on where coordinator, processes or process is given"
            require(False, "distributed", self.distributed, wanted)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Which weights of which run."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    checkpoint: Literal["best", "latest"] | int = "best"
    """The best on validation, the latest, or that of a step."""
    weights: Literal["ema", "raw"] | None = None
    """Averaged or raw weights; default: as the run was evaluated."""


def parse(kind: Any, command: str, arguments: list[str], default: Any = None) -> Any:
    """The options of a command; help and mistakes end the program."""
    return tyro.cli(kind, prog=f"glowjax {command}", args=arguments, default=default)


def report(result: dict[str, Any], split: str) -> None:
    """Prints what an evaluation found, on the first host."""
    if hosts.is_first_host():
        print(
            f"{split}: {result['bits_per_dim']:.4f} ± {result['standard_error']:.4f} bits/dim,"
            f" {result['count']:,} images, weights of step {result['step']:,}"
        )
