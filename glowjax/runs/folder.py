"""A run's folder: what was asked for, checkpoints of the state, and the log.

Beside each state lies a record: its validation bits/dim, metrics that the log lacks, and a digest
of the state. So a damaged checkpoint is told from a whole one, and never used.

Of several hosts, the state being the same on all, the first writes and each reads for itself. They
wait for each other in `hosts` alone, never in orbax, where one that fails would hold up the rest.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import jax
import numpy as np
import orbax.checkpoint as ocp

from glowjax.files import write_whole
from glowjax.progress import CONSOLE
from glowjax.runs.config import Config, from_json, to_json
from glowjax.runs.hosts import agree, in_turn, is_first_host, of_first_host, on_first_host
from glowjax.runs.lock import NAME, hold

METRIC = "validation_bits_per_dim"
FORMAT = 2  # of a run's folder: 1 had parameters without names
UNLOGGED, STATE, CHECKSUM = "unlogged", "state_sha256", "record_sha256"  # of a record, with METRIC
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
        with contextlib.ExitStack() as stack:
            if not read_only:
                token = of_first_host(lambda: uuid4().hex)
                in_turn(lambda: _take(folder, stack, token))
            options = ocp.CheckpointManagerOptions(
                preservation_policy=_LastTwoAndBest(lambda: self.step("best")),
                best_fn=lambda m: m[METRIC],  # without it no record is written
                lightweight_initialize=True,  # a damaged record must not keep the others from use
                create=False,
                # They may be those of a run under way.
                cleanup_tmp_directories=not read_only and is_first_host(),
                multiprocessing_options=_this_host(),
            )
            path = (folder / "checkpoints").absolute()
            # Else orbax takes it from the first checkpoint that it meets, a damaged one perhaps.
            handler = ocp.StandardCheckpointHandler(multiprocessing_options=_this_host())
            self._manager = ocp.CheckpointManager(path, options=options, item_handlers=handler)
            records = {step: _record(self._manager, step) for step in self._manager.all_steps()}
            self._records = {step: record for step, record in records.items() if record}
            self._held = stack.pop_all()

    @classmethod
    def create(cls, folder: Path, config: Config, images: dict[str, Any]) -> "Run":
        """Starts a run in a new or empty folder, which all hosts share.

        Raises:
            ValueError: the folder holds something already, or another process, or is not shared.
        """
        folder = Path(folder)
        on_first_host(lambda: _make_new(folder))
        run = cls(folder, config, images)
        run.go_on_with(config)
        return run

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> "Run":
        """Opens a run that exists; with `read_only`, one that may be training meanwhile.

        Raises:
            ValueError: the folder is not there, or is not one of ours, or cannot be read, or,
                without `read_only`, another process is training in it.
        """
        folder = Path(folder)
        config, images = in_turn(lambda: _read_config(folder))
        return cls(folder, config, images, read_only=read_only)

    def go_on_with(self, config: Config) -> None:
        """Makes `config`, of more steps perhaps, the run's."""
        self.config = config
        on_first_host(lambda: _write_config(self.folder, config, self.images))

    def save(
        self,
        step: int,
        state: Any,
        validation: float | None = None,
        unlogged: Sequence[dict[str, float]] = (),
    ) -> None:
        """Saves the state of one device after `step` steps, in the background; all hosts call it.

        Args:
            step: how many were done.
            state: what to resume from.
            validation: its bits/dim; None: not measured, so it is never the best.
            unlogged: metrics of the last steps, those that no row of the log tells of yet.

        Raises:
            OSError: this checkpoint, or the one before, cannot be written.
            ValueError: so on another host.
        """
        state = jax.device_get(state)
        record: dict[str, Any] = {UNLOGGED: list(unlogged), STATE: _digest(state)}
        if validation is not None:
            record[METRIC] = validation
        self._records[step] = record
        item, metrics = ocp.args.StandardSave(state), record | {CHECKSUM: _checksum(record)}
        on_first_host(lambda: self._write(self._manager.save, step, args=item, metrics=metrics))

    def save_failed(self, state: Any, batch: dict[str, np.ndarray]) -> Path:
        """Saves for inspection, in the folder failed/ that it returns, a step that went wrong.

        All hosts call it.

        Raises:
            OSError: it cannot be written.
            ValueError: so on another host.
        """
        folder = self.folder / "failed"

        def write():
            folder.mkdir(exist_ok=True)
            np.savez(folder / "batch.npz", **batch)  # ty: ignore
            with ocp.StandardCheckpointer(multiprocessing_options=_this_host()) as saver:
                saver.save((folder / "state").absolute(), jax.device_get(state), force=True)

        on_first_host(write)
        return folder

    def failed(self, like: Any) -> tuple[Any, dict[str, np.ndarray]]:
        """The state, in the structure of `like`, and the batch that `save_failed` saved."""
        folder = self.folder / "failed"
        with ocp.StandardCheckpointer(multiprocessing_options=_this_host()) as saver:
            state = saver.restore((folder / "state").absolute(), _shapes(like))
        with np.load(folder / "batch.npz") as batch:
            return state, dict(batch)

    def step(self, which: Which | int = "latest") -> int | None:
        """The step of a checkpoint, None where there is none yet.

        Raises:
            ValueError: there are checkpoints, but not of that step.
        """
        steps = self._manager.all_steps()
        if which == "latest":
            return max(steps, default=None)
        if which == "best":
            validated = [step for step in steps if METRIC in self._records.get(step, {})]
            return min(validated, key=lambda step: self._records[step][METRIC], default=None)
        if which not in steps:
            raise ValueError(f"checkpoint must be best, latest or one of {steps}, got {which}")
        return which

    def restore(self, like: Any, which: Which | int = "latest") -> Any:
        """A saved state, in the structure of `like` (arrays or their shapes).

        Where the latest cannot be read, that is printed, and the one before it is used.

        Raises:
            ValueError: there is no checkpoint, or it does not fit or cannot be read.
        """
        errors = []
        for step in of_first_host(lambda: self._candidates(which)):
            try:
                state = self._restore(step, like)
            except ValueError as error:
                errors.append(error)
                continue
            for error in errors:
                CONSOLE.print(f"warning: {error}; that of step {step} is used instead")
            return state
        raise errors[0]

    def _candidates(self, which):
        """Steps whose checkpoints will do, the next where one cannot be read."""
        step = self.step(which)
        if step is None:
            kind = "checkpoint" if self.step() is None else "validated checkpoint"
            raise ValueError(f"run {self.folder} has no {kind} yet")
        if which == "latest":
            return sorted(self._manager.all_steps(), reverse=True)
        if which == "best":
            for other in set(self._manager.all_steps()) - self._records.keys():
                CONSOLE.print(f"warning: checkpoint {other} is damaged; it may have been the best")
        return [step]

    def _restore(self, step, like):
        state = failure = None
        try:
            if step not in self._records:
                raise ValueError("its record is damaged")
            state = self._manager.restore(step, args=ocp.args.StandardRestore(_shapes(like)))
            digest = self._records[step].get(STATE)
            if digest is not None and digest != _digest(state):
                raise ValueError("its numbers are not those that were saved")
        except Exception as error:  # orbax and tensorstore raise all kinds
            failure = ValueError(
                f"checkpoint {step} of run {self.folder} cannot be read: {_short(error)}"
            )
        agree(failure)  # so that no host uses another checkpoint than the rest
        return state

    def last_good(self) -> str:
        """Says what there is to go on from."""
        step = self.step()
        return f"the checkpoint of step {step} is the last good one" if step else "none is saved"

    def unlogged(self, step: int) -> list[dict[str, float]]:
        """Metrics of the last steps before a checkpoint, those that no row of the log tells of."""
        return list(self._records.get(step, {}).get(UNLOGGED, ()))

    def wait(self) -> None:
        """Waits until the last save is on disk; all hosts call it.

        Raises:
            OSError: it cannot be written.
            ValueError: so on another host.
        """
        on_first_host(lambda: self._write(self._manager.wait_until_finished))
        self._manager.reload()  # the other hosts' knew of no save

    def close(self) -> None:
        """Waits for this host's saves, and lets go of the folder."""
        with self._held:
            self._write(self._manager.close)

    def _write(self, function, *args, **kwargs):
        with self.writing("a checkpoint", Exception):  # all kinds again, and of an earlier save
            function(*args, **kwargs)

    @contextlib.contextmanager
    def writing(self, what: str, kind: type[Exception] = OSError) -> Generator[None]:
        """Makes an error of this kind an `OSError` that says what cannot be written, and where."""
        try:
            yield
        except kind as error:
            raise OSError(
                f"run {self.folder}: {what} cannot be written: {_short(error)}; {self.last_good()}"
            ) from error

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.jsonl."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line cut off by a kill is left out."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return list(_rows(lines))

    def forget_after(self, step: int) -> None:
        """Drops later rows of the log, and puts later checkpoints, which could not be read, into
        the folder damaged/: a resumed run makes both again.
        """

        def forget():
            kept = [json.dumps(row) + "\n" for row in self.history() if row["step"] <= step]
            write_whole(self.folder / "metrics.jsonl", "".join(kept))
            for later in [s for s in self._manager.all_steps() if s > step]:
                place = self.folder / "damaged" / str(later)
                shutil.rmtree(place, ignore_errors=True)  # of an earlier time
                place.parent.mkdir(exist_ok=True)
                (self.folder / "checkpoints" / str(later)).rename(place)

        on_first_host(forget)
        self._manager.reload()


def _this_host() -> Any:
    """For orbax: this host alone."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})


@dataclass
class _LastTwoAndBest:
    """Preserves the last two checkpoints, to resume from, and the best, to use."""

    best: Callable[[], int | None]

    def should_preserve(self, checkpoints, *, context):
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-2:], self.best()}
        return [step in kept for step in steps]


def _record(manager: ocp.CheckpointManager, step: int) -> dict[str, Any] | None:
    """What was saved beside a state; None where it is damaged."""
    try:
        record = dict(manager.metrics(step) or {})
    except (ValueError, TypeError):
        return None
    if record.keys() == {METRIC}:  # of a run made before there were digests
        return record
    return record if record.pop(CHECKSUM, None) == _checksum(record) else None


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _digest(state: Any) -> str:
    """SHA-256 of all arrays with their places, types and shapes."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(state):
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _short(error: Exception) -> str:
    return str(error).partition(" [tensorstore_spec=")[0]


def _shapes(like: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, like)


def check_new(folder: Path) -> None:
    """Raises `ValueError` unless a run can be started in `folder`."""
    folder = Path(folder)
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            where = "which" if path == folder else f"where {path}"
            raise ValueError(
                f"run_dir must be a new or empty folder, got {folder}, {where} is a file"
            )
    if folder.exists() and not _holds_no_run(folder):
        raise ValueError(
            f"run_dir must be a new or empty folder, got {folder}, which holds something"
            " already: go on with it by --resume, or name another"
        )


def _holds_no_run(folder: Path) -> bool:
    """Whether a folder is empty but for what a start leaves that ended before its config.json."""
    left = {NAME, "checkpoints", "config.json.part"}
    return {path.name for path in folder.iterdir()} <= left


def _make_new(folder: Path) -> None:
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _take(folder: Path, stack: contextlib.ExitStack, token: str) -> None:
    """Holds the folder, on the first host; on the others, sees whether it is the same one."""
    lock = folder / NAME
    if is_first_host():
        stack.enter_context(hold(folder, token))
        (folder / "checkpoints").mkdir(exist_ok=True)
    elif not lock.is_file() or token not in lock.read_text(encoding="utf-8"):
        raise ValueError(f"run_dir must be a folder that all hosts share, got {folder}")


def _read_config(folder: Path) -> tuple[Config, dict[str, Any]]:
    path = folder / "config.json"
    if not path.is_file():
        what = "is a file" if folder.exists() else "does not exist"
        what = "has no config.json" if folder.is_dir() else what
        usual = "runs" / folder  # where runs are, unless told
        hint = f"; did you mean {usual}?" if (usual / "config.json").is_file() else ""
        raise ValueError(f"run must be a folder that glowjax train made; {folder} {what}{hint}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        made_by = about.get("format", 1) if "config" in about else FORMAT
        if made_by == FORMAT:
            config, images = from_json(about["config"]), about["images"]
            images = {name: images[name] for name in ("image_shape", "levels", "num_classes")}
            images["image_shape"] = tuple(images["image_shape"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"run {folder}: its config.json is not ours: {reason}") from error
    if made_by != FORMAT:
        raise ValueError(
            f"run {folder} is of format {made_by}, and this glowjax reads format {FORMAT} (in"
            " format 1, parameters had no names): use the version that made it"
        )
    return config, images


def _write_config(folder: Path, config: Config, images: dict[str, Any]) -> None:
    about = {"format": FORMAT, "config": to_json(config), "images": images}
    write_whole(folder / "config.json", json.dumps(about, indent=2))


def _rows(lines: list[str]) -> Iterable[dict[str, Any]]:
    for i, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            if i < len(lines) - 1:
                raise ValueError(f"metrics.jsonl: line {i + 1} is not JSON") from None
