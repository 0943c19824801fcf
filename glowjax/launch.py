"""Several processes on one machine, and what became of them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator

from glowjax.arrays import check_integer

POLL = 0.05  # seconds
# A CPU device that waits for another process holds a thread of XLA, which starts one a core: with
# few cores, two devices of a process wait for each other for ever.
THREADS = {"NPROC": "16", "PJRT_NPROC": "16"}


def launch(command: list[str], processes: int) -> None:
    """Runs a distributed command as processes of this machine, and ends all when one fails.

    Each gets --distributed, --coordinator, --processes and --process, and of several GPUs one.

    Raises:
        ValueError: `processes` is not at least 1.
        ChildProcessError: a process failed; says which, and how.
    """
    check_integer("processes", processes, 1)
    together = ["--distributed", f"--coordinator=localhost:{_free_port()}"]
    together += [f"--processes={processes}"]
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        running = [
            stack.enter_context(_started([*command, *together, f"--process={i}"], i))
            for i in range(processes)
        ]
        while any(p.poll() is None for p in running):
            _check(running)
            time.sleep(POLL)
        _check(running)


def _check(running: list[subprocess.Popen]) -> None:
    """Raises `ChildProcessError` for the first that failed."""
    failed = [(p.returncode, i) for i, p in enumerate(running) if p.poll()]
    if failed:
        code, i = min(failed)  # killed by 9 before 6, JAX's abort of those that are left
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed ({code})"
        raise ChildProcessError(
            f"process {i} of {len(running)} {how}; the others were ended. What it said is above;"
            " a training run goes on with --resume"
        )


@contextlib.contextmanager
def _started(command: list[str], i: int) -> Generator[subprocess.Popen]:
    environment = THREADS | os.environ | {"JAX_LOCAL_DEVICE_IDS": str(i)}
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        process.kill()  # no less: JAX keeps SIGTERM for announcements of preemption
        process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
