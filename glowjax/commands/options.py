"""Options that several commands share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from glowjax.checks import require
from glowjax.progress import progress
from glowjax.runs import hosts
from glowjax.runs.given import Given, read_files, read_split
from glowjax.runs.loading import load
from glowjax.runs.trained import ImageModel

CHUNK = 64  # images at a time
PAUSE = 10  # seconds between lines of progress


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

    def load(self) -> tuple[ImageModel, Any]:
        """The model and its weights."""
        return load(self.run, checkpoint=self.checkpoint, weights=self.weights)

    def path(self, out: Path | None, name: str) -> Path:
        """Where a command writes: `out`, whose folder is made, or `name` in the run's folder."""
        if out is None:
            return self.run.expanduser() / name
        path = out.expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


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


@dataclass(frozen=True, kw_only=True)
class Images(Weights):
    """Which images are shown to a run's weights."""

    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Image files; default: images of the run's data."""
    split: Literal["train", "validation", "test"] = "test"
    """Of the run's data, where no files are given."""
    out: Path | None = None
    """The picture; default: one in the run's folder that is named as the command."""

    def images(self, model: ImageModel, num: int | None) -> Given:
        """The files, or the first `num` images of the split."""
        if self.files:
            given = read_files(model, self.files)
            unlabelled = model.conditional
            require(not unlabelled, "files", len(given.names), "left out: the model wants labels")
            return given
        return read_split(model, self.split, num=num)


def in_chunks(doing: str, function: Callable[..., Any], *arrays: Any) -> Any:
    """`function` of arrays, or None, a number of rows at a time, so that they fit into memory.

    Args:
        doing: what a bar says meanwhile, such as "encoding".
        function: of `arrays`.
        arrays: a row for each image.
    """
    parts = []
    count = len(jax.tree.leaves(arrays)[0])
    with progress(count, what="image", text=f"{doing}: compiling", pause=PAUSE) as advance:
        for start in range(0, count, CHUNK):
            rows = np.minimum(np.arange(start, start + min(CHUNK, count)), count - 1)
            part = function(*jax.tree.map(lambda a, rows=rows: np.asarray(a)[rows], arrays))
            parts.append(jax.tree.map(lambda a, s=start: np.asarray(a)[: count - s], part))
            advance(min(start + CHUNK, count), doing)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def is_folder(path: Path) -> bool:
    """Whether images are to be written into a folder, a file for each."""
    return path.is_dir() or not path.suffix


def check_file(path: Path) -> None:
    """Refuses what is a folder or has no suffix: a file could not be written there."""
    require(not is_folder(path), "out", str(path), "a file with a suffix, such as .png")


def check_out(path: Path, *suffixes: str) -> None:
    """Refuses what is no file of one of the suffixes, and a folder that holds something."""
    if is_folder(path):
        ok = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    else:
        ok = path.suffix in suffixes
    wanted = "".join(f"a {suffix}, " for suffix in suffixes)
    require(ok, "out", str(path), f"{wanted}or a new or empty folder")
