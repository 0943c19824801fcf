"""A run's folder: what was asked for, checkpoints of the state, and the log."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from glowjax.config import Config, from_json, to_json
from glowjax.hosts import in_turn, is_first_host, on_first_host

METRIC = "validation_bits_per_dim"
Which = Literal["best", "latest"]


class Run:
    """A folder with config.json, checkpoints/, metrics.jsonl and pictures.

    Attributes:
        folder: its path.
        config: the experiment's.
        images: what the data turned out to be: image_shape, levels, num_classes.
    """

    def __init__(
        self, folder: Path, config: Config, images: dict[str, Any], *, read_only: bool = False
    ):
        self.folder, self.config, self.images = folder, config, images
        # The last two to resume from, and the best to use.
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(2),
                checkpoint_managers.BestN(get_metric_fn=lambda m: m[METRIC], reverse=True, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=lambda m: m[METRIC],
            best_mode="min",
            create=not read_only,
            cleanup_tmp_directories=not read_only,  # they may be those of a run under way
        )
        try:
            self._manager = ocp.CheckpointManager(
                (folder / "checkpoints").absolute(), options=options
            )
        except (ValueError, KeyError) as error:  # of the checkpoints' own JSON
            raise ValueError(f"run {folder}: its checkpoints cannot be read: {error}") from error

    @classmethod
    def create(cls, folder: Path, config: Config, images: dict[str, Any]) -> "Run":
        """Starts a run in a new or empty folder, which all hosts share.

        Raises:
            ValueError: the folder holds something already, or is not shared.
        """
        folder = Path(folder)
        in_turn(lambda: _begin(folder, config, images))
        return cls(folder, config, images)

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> "Run":
        """Opens a run that exists; with `read_only`, one that may be training meanwhile.

        Raises:
            ValueError: the folder is not there, or is not one of ours, or cannot be read.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            what = "has no config.json" if folder.is_dir() else "does not exist"
            raise ValueError(f"run must be a folder that glowjax train made; {folder} {what}")
        try:
            about = json.loads(path.read_text())
            config, images = from_json(about["config"]), about["images"]
            images = {name: images[name] for name in ("image_shape", "levels", "num_classes")}
            images["image_shape"] = tuple(images["image_shape"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"run {folder}: its config.json is not ours: {reason}") from error
        return cls(folder, config, images, read_only=read_only)

    def go_on_with(self, config: Config) -> None:
        """Makes `config`, of more steps perhaps, the run's."""
        self.config = config
        on_first_host(lambda: _write_config(self.folder, config, self.images))

    def save(self, step: int, state: Any, validation: float) -> None:
        """Saves the state of one device after `step` steps, with its validation bits/dim.

        All hosts call it: orbax lets the first write, and the others wait for it.
        """
        self._manager.save(
            step, args=ocp.args.StandardSave(jax.device_get(state)), metrics={METRIC: validation}
        )

    def step(self, which: Which | int = "latest") -> int | None:
        """The step of a checkpoint, None where there is none yet.

        Raises:
            ValueError: there are checkpoints, but not of that step.
        """
        if which == "latest":
            return self._manager.latest_step()
        if which == "best":
            return self._manager.best_step()
        steps = self._manager.all_steps()
        if which not in steps:
            raise ValueError(f"checkpoint must be best, latest or one of {steps}, got {which}")
        return which

    def restore(self, like: Any, which: Which | int = "latest") -> Any:
        """A saved state, in the structure of `like` (arrays or their shapes).

        Raises:
            ValueError: there is no checkpoint, or it does not fit or cannot be read.
        """
        step = self.step(which)
        if step is None:
            raise ValueError(f"run {self.folder} has no checkpoint yet")
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(like))
        except Exception as error:  # orbax and tensorstore raise all kinds
            raise ValueError(
                f"checkpoint {step} of run {self.folder} cannot be read: {error}"
            ) from error

    def close(self) -> None:
        """Waits until the last save is on disk."""
        self._manager.close()

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.jsonl."""
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line cut off by a kill is left out."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return list(_rows(lines))

    def forget_after(self, step: int) -> None:
        """Drops the log's rows of later steps, which a resumed run does again."""
        if is_first_host():
            kept = [json.dumps(row) + "\n" for row in self.history() if row["step"] <= step]
            write_atomically(self.folder / "metrics.jsonl", "".join(kept))


def check_new(folder: Path) -> None:
    """Raises `ValueError` unless a run can be started in `folder`."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"run_dir must be a new or empty folder, got {folder}, which is a file")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"run_dir must be a new or empty folder, got {folder}, which holds something"
            " already: go on with it by --resume, or name another"
        )


def _begin(folder: Path, config: Config, images: dict[str, Any]) -> None:
    """Makes the folder, on the first host; on the others, sees whether it is there."""
    if is_first_host():
        check_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write_config(folder, config, images)
    elif not (folder / "config.json").is_file():
        raise ValueError(f"run_dir must be a folder that all hosts share, got {folder}")


def _write_config(folder: Path, config: Config, images: dict[str, Any]) -> None:
    about = {"config": to_json(config), "images": images}
    write_atomically(folder / "config.json", json.dumps(about, indent=2))


def write_atomically(path: Path, text: str) -> None:
    """Writes a file wholly or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    os.replace(temporary, path)


def _rows(lines: list[str]) -> Iterable[dict[str, Any]]:
    for i, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            if i < len(lines) - 1:
                raise ValueError(f"metrics.jsonl: line {i + 1} is not JSON") from None
