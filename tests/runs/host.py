"""The command line in float64, with a record of what each host sees; test_hosts.py starts it.

    python host.py RECORDS train|eval ...

In the environment, `KILL=process:step` kills that process before that step, `STOP=process:step` has
it tell the launcher to stop, `FULL=process:step` lets no file of it grow beyond 4 kB from then on
(the log of what it says, too), `BLIND=process:step` is a checkpoint that it fails to read once, and
`ONLY_SECOND` is an option of the second process alone.
"""

import os
import resource
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import CheckpointManager

from glowjax import cli
from glowjax.runs import loading, results, steps, training

restore = CheckpointManager.restore


@contextmanager
def observed(records: Path) -> Generator[None]:
    """Makes runs use float64, and keep initial state and batches of this host in `records`."""
    make_trainer, mapped = steps.make_trainer, steps.mapped
    seen: dict[str, np.ndarray] = {}

    def in_float64(*args, **kwargs):
        trainer = make_trainer(*args, **kwargs)
        return trainer._replace(init=lambda batch: jax.tree.map(to_float64, trainer.init(batch)))

    def recorded(trainer):
        on_devices = mapped(trainer)

        def init(batch):
            state = on_devices.init(batch)
            leaves = jax.tree.leaves(steps.on_one_device(state))
            seen.update({f"state{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)})
            return state

        def train_step(state, batch):
            step = int(state.step[0]) + 1
            now = f"{jax.process_index()}:{step}"
            if os.environ.get("KILL") == now:
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("STOP") == now:
                os.kill(os.getppid(), signal.SIGTERM)
            if os.environ.get("FULL") == now:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
            if os.environ.get("FULL"):
                return on_devices.train_step(state, batch)
            seen[f"batch{step}"] = batch["image"]
            records.mkdir(exist_ok=True)
            np.savez(records / f"{jax.process_index()}.npz", **seen)  # ty: ignore
            return on_devices.train_step(state, batch)

        return on_devices._replace(init=init, train_step=train_step)

    with pytest.MonkeyPatch.context() as patch:
        for module in (steps, training, loading, results):
            patch.setattr(module, "make_trainer", in_float64)
        patch.setattr(training, "mapped", recorded)
        if os.environ.get("FULL"):
            patch.setattr(training, "pictures", lambda *arguments: None)  # they come first
        patch.setattr(CheckpointManager, "restore", restored)
        yield


def restored(manager: CheckpointManager, step: int, **arguments: Any) -> Any:
    if os.environ.get("BLIND") == f"{jax.process_index()}:{step}":
        del os.environ["BLIND"]
        raise OSError("Input/output error")
    return restore(manager, step, **arguments)


def to_float64(a: jax.Array) -> jax.Array:
    return a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a


if __name__ == "__main__":
    only_second = os.environ.get("ONLY_SECOND")
    more = [only_second] if only_second and "--process=1" in sys.argv else []
    with observed(Path(sys.argv[1])):
        sys.exit(cli.main([*sys.argv[2:], *more]))
