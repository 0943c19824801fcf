"""The step at which a run went wrong, saved for inspection in the run's folder failed/."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from glowjax.runs.checkpoints import shapes_of, this_host
from glowjax.runs.hosts import on_first_host


def save_failed(run: Path, state: Any, batch: dict[str, np.ndarray]) -> Path:
    """Saves the state before a step that went wrong, and its batch; all hosts call it.

    Returns:
        The folder that they lie in.

    Raises:
        OSError: it cannot be written.
        ValueError: so on another host.
    """
    folder = run / "failed"

    def write():
        folder.mkdir(exist_ok=True)
        np.savez(folder / "batch.npz", **batch)  # ty: ignore
        with ocp.StandardCheckpointer(multiprocessing_options=this_host()) as saver:
            saver.save((folder / "state").absolute(), jax.device_get(state), force=True)

    on_first_host(write)
    return folder


def read_failed(run: Path, like: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The state, in the structure of `like`, and the batch that `save_failed` saved."""
    folder = run / "failed"
    with ocp.StandardCheckpointer(multiprocessing_options=this_host()) as saver:
        state = saver.restore((folder / "state").absolute(), shapes_of(like))
    with np.load(folder / "batch.npz") as batch:
        return state, dict(batch)
