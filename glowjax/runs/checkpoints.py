"""A run's checkpoints: states that are proven whole before they are used.

`training.train` resumes from them. Beside each state lies a record: its validation bits/dim, the
metrics that the log lacks, and a digest of the state. So a damaged checkpoint is told from a whole
one, and never used.

Of several hosts, the state being the same on all, the first writes and each reads for itself. They
wait for each other in `hosts` alone, never in orbax, where one that fails would hold up the rest.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp

from glowjax.progress import CONSOLE
from glowjax.runs.hosts import agree, is_first_host, of_first_host, on_first_host

METRIC = "validation_bits_per_dim"
UNLOGGED, STATE, CHECKSUM = "unlogged", "state_sha256", "record_sha256"  # of a record, with METRIC
Which = Literal["best", "latest"]


class Checkpoints:
    """The folder checkpoints/ of a run.

    Attributes:
        run: the run's folder.
    """

    def __init__(self, run: Path, *, read_only: bool = False):
        self.run = run
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LastTwoAndBest(lambda: self.step("best")),
            best_fn=lambda m: m[METRIC],  # without it no record is written
            lightweight_initialize=True,  # a damaged record must not keep the others from use
            create=False,
            # They may be those of a run under way.
            cleanup_tmp_directories=not read_only and is_first_host(),
            multiprocessing_options=this_host(),
        )
        path = (run / "checkpoints").absolute()
        # Else orbax takes it from the first checkpoint that it meets, a damaged one perhaps.
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=this_host())
        self._manager = ocp.CheckpointManager(path, options=options, item_handlers=handler)
        records = {step: _record(self._manager, step) for step in self._manager.all_steps()}
        self._records = {step: record for step, record in records.items() if record}

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
            raise ValueError(f"run {self.run} has no {kind} yet")
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
            state = self._manager.restore(step, args=ocp.args.StandardRestore(shapes_of(like)))
            digest = self._records[step].get(STATE)
            if digest is not None and digest != _digest(state):
                raise ValueError("its numbers are not those that were saved")
        except Exception as error:  # orbax and tensorstore raise all kinds
            failure = ValueError(
                f"checkpoint {step} of run {self.run} cannot be read: {_short(error)}"
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

    def set_aside_after(self, step: int) -> None:
        """Puts later checkpoints, which could not be read, into the run's folder damaged/."""

        def set_aside():
            for later in [s for s in self._manager.all_steps() if s > step]:
                place = self.run / "damaged" / str(later)
                shutil.rmtree(place, ignore_errors=True)  # of an earlier time
                place.parent.mkdir(exist_ok=True)
                (self.run / "checkpoints" / str(later)).rename(place)

        on_first_host(set_aside)
        self._manager.reload()

    def close(self) -> None:
        """Waits for this host's saves."""
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
                f"run {self.run}: {what} cannot be written: {_short(error)}; {self.last_good()}"
            ) from error


def this_host() -> Any:
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


def shapes_of(like: Any) -> Any:
    """Shapes and dtypes of a state, as orbax wants them."""
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
