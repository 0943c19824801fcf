"""The hosts of a run: how they meet, which is the first, and how all learn that one failed.

Each host runs the same program on its own devices; what only one may do, the first does.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from glowjax.checks import check_integer, require
from glowjax.progress import CONSOLE

LAST_WORDS = 1.0  # seconds
MESSAGE_BYTES = 2000

T = TypeVar("T")


def connect(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Meets the other hosts, before any other use of JAX; all but the first fall silent.

    Args:
        coordinator: HOST:PORT of process 0, which listens there. Without arguments the cluster says
            it all: SLURM, Open MPI, Kubernetes, or a pod of TPUs.
        processes: how many there are.
        process: which of them this is, from 0.

    Raises:
        ValueError: an argument is not as above, some are missing, or there is no cluster.
    """
    given = (coordinator, processes, process)
    if any(g is not None for g in given):
        _check(*given)
    at = f" at {coordinator}" if coordinator else ""
    CONSOLE.print(f"waiting for the other hosts{at}; without them JAX aborts after 5 minutes")
    try:
        jax.distributed.initialize(
            *given, cluster_detection_method="deactivate" if coordinator else None
        )
    except ValueError as error:  # of detection: what is given is complete
        raise ValueError(
            f"coordinator, processes and process must be given: no cluster was found ({error})"
        ) from error
    CONSOLE.quiet = not is_first_host()
    multihost_utils.sync_global_devices("connect")  # later collectives may wait, the first 30 s


def _check(coordinator: Any, processes: Any, process: Any) -> None:
    given, name = (coordinator, processes, process), "coordinator, processes and process"
    require(None not in given, name, given, "given together, or none of them in a cluster")
    host, _, port = coordinator.rpartition(":")
    known = host and port.isdecimal() and 0 < int(port) < 2**16
    require(known, "coordinator", coordinator, "HOST:PORT")
    check_integer("processes", processes, 1)
    check_integer("process", process, 0, processes - 1)


def leave(status: int) -> None:
    """Ends this process with `status`, where it failed and the other hosts may still wait for it.

    The ordinary way out of a distributed program waits for the others too. They read of the end
    from JAX: at once where it is the first host's, else as its heartbeats are missed for 100 s.
    """
    if status and jax.distributed.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        if is_first_host():
            time.sleep(LAST_WORDS)  # the others may have failed alike, and abort when it goes
        os._exit(status)


def is_first_host() -> bool:
    """Whether this host is the one to write, draw and print."""
    return jax.process_index() == 0


def host_shard() -> tuple[int, int]:
    """This host's place among all: (index, count)."""
    return jax.process_index(), jax.process_count()


def of_first_host(function: Callable[[], Any]) -> Any:
    """`function()` of the first host, something for JSON, on all hosts; raises as `in_turn`."""
    found: list[Any] = []
    on_first_host(lambda: found.append(function()))
    text = json.dumps(found).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = np.frombuffer(text.ljust(size)[:size], np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).tobytes())[0]


def check_same(**values: Any) -> None:
    """Raises `ValueError` on all hosts unless each value prints on all as on the first."""
    own = {name: repr(value) for name, value in values.items()}
    first = of_first_host(lambda: own)
    differing = [
        f"{name}: {own.get(name, 'absent')}, on the first host {first.get(name, 'absent')}"
        for name in first | own
        if own.get(name) != first.get(name)
    ]
    text = f"hosts must have the same of everything; differing: {'; '.join(differing)}"
    agree(ValueError(text) if differing else None)


def in_turn(function: Callable[[], T]) -> T:
    """`function()`, on the first host and then on the others: what they share, it has prepared.

    Raises:
        ValueError: it raised an exception on another host; on the host itself, that exception.
    """
    result: Any = None
    error = None
    for firsts_turn in (True, False):
        if is_first_host() == firsts_turn:
            try:
                result = function()
            except Exception as e:
                error = e
        agree(error)
    return result


def on_first_host(function: Callable[[], Any]) -> None:
    """`function()`, on the first host while the others wait; raises as `in_turn`."""
    in_turn(lambda: function() if is_first_host() else None)


def agree(error: Exception | None) -> None:
    """Raises an error on all hosts where one of them has one; all must call it.

    Raises:
        ValueError: another host has an error; the host itself raises that.
    """
    text = b"" if error is None else f"{error or type(error).__name__}".encode()[:MESSAGE_BYTES]
    texts = multihost_utils.process_allgather(np.frombuffer(text.ljust(MESSAGE_BYTES), np.uint8))
    if error is not None:
        raise error
    for host, encoded in enumerate(texts):
        if text := encoded.tobytes().decode(errors="replace").strip():
            raise ValueError(f"host {host}: {text}")
