"""Several processes on one machine, and what became of them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator

from glowjax.checks import check_integer

POLL = 0.05  # seconds
# A CPU device that waits for another process holds a thread of XLA, which starts one a core: with
# few cores, two devices of a process wait for each other for ever.
THREADS = {"NPROC": "16", "PJRT_NPROC": "16"}


def launch(command: list[str], processes: int) -> None:
    """Runs a distributed command as processes of this machine, and ends all when one fails.

    Each gets --distributed, --coordinator, --processes and --process, and of several GPUs one. When
    it is told to stop, by SIGTERM, Ctrl-C or the end of its terminal, it tells them, and waits for
    what they save; told again, it ends them at once.

    Raises:
        ValueError: `processes` is not at least 1.
        ChildProcessError: a process failed; says which, and how.
        SystemExit: it was told to stop; with 128 and the signal's number.
    """
    check_integer("processes", processes, 1)
    together = ["--distributed", f"--coordinator=localhost:{_free_port()}"]
    together += [f"--processes={processes}"]
    running: list[subprocess.Popen] = []
    signals: list[int] = []

    def tell(number, frame):
        signals.append(number)
        if len(signals) > 1:
            sys.exit(128 + number)
        for process in running:
            process.terminate()

    with contextlib.ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, tell))
        for i in range(processes):
            process = stack.enter_context(_started([*command, *together, f"--process={i}"], i))
            running.append(process)
            if signals:  # perhaps while it was started
                process.terminate()
        while any(p.poll() is None for p in running):
            check(running, signals)
            time.sleep(POLL)
        check(running, signals)
    if signals:
        sys.exit(128 + signals[0])


def check(running: list[subprocess.Popen], signals: list[int]) -> None:
    """Raises `ChildProcessError` for the first that failed, other than by what it was told."""
    stopped = (-signal.SIGTERM, 128 + signal.SIGTERM) if signals else ()
    failed = [(p.returncode, i) for i, p in enumerate(running) if p.poll()]
    failed = [(code, i) for code, i in failed if code not in stopped]
    if failed:
        # First those that did not end by JAX's abort of whoever is left.
        code, i = min(failed, key=lambda f: f[0] == -signal.SIGABRT)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed ({code})"
        raise ChildProcessError(
            f"process {i} of {len(running)} {how}; the others were ended. What it said is above;"
            " a training run goes on with --resume"
        )


@contextlib.contextmanager
def _started(command: list[str], i: int) -> Generator[subprocess.Popen]:
    environment = THREADS | os.environ | {"JAX_LOCAL_DEVICE_IDS": str(i)}
    # A group of its own: a terminal's Ctrl-C reaches the launcher alone.
    process = subprocess.Popen(command, env=environment, process_group=0)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
