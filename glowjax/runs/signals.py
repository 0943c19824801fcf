"""Stopping when asked: SIGTERM (preemption) and Ctrl-C wait until the state is saved."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)
APART = 1.0  # seconds: `timeout` and launchers of jobs send one signal twice
GRACE = 2.0  # seconds that a second signal leaves to the main thread


class Stopped(Exception):
    """A run was asked to stop, and did after a step that is saved.

    Attributes:
        signal: what asked.
    """

    def __init__(self, signal: signal.Signals, step: int):
        super().__init__(
            f"stopped by {signal.name} after step {step:,}, which is saved; go on with --resume"
        )
        self.signal = signal


@contextlib.contextmanager
def deferred() -> Generator[Callable[[int], signal.Signals | None], None, None]:
    """Yields a function of the step that says which of SIGTERM and Ctrl-C has come, if any.

    A second Ctrl-C interrupts at once. If the run goes on for seconds after a second signal, as it
    does while compiled code waits for ever, the process ends, with status 143 or 130. Several hosts
    answer SIGTERM to any of them at the same step, by JAX's preemption service; each must ask after
    every step. Only a main thread gets signals: elsewhere nothing is deferred.
    """
    if jax.process_count() > 1:  # JAX has a handler for SIGTERM, which must stay
        reached = multihost_utils.reached_preemption_sync_point
        yield lambda step: signal.SIGTERM if reached(step) else None
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: None
        return
    received: list[signal.Signals] = []

    def note(number, frame):
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        with _second_signal_ends():
            yield lambda step: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _second_signal_ends() -> Generator[None, None, None]:
    """Ends the process if this context is not left within seconds after a second signal.

    Handlers in Python run in the main thread, between two steps of its Python code; so a thread
    reads the numbers of the signals, which the interpreter writes to a socket as they come.
    """
    reader, writer = socket.socketpair()
    left = threading.Event()

    def watch():
        first = None
        while number := reader.recv(1):  # nothing: the other end is closed
            if number[0] not in SIGNALS:
                continue
            first = first or time.monotonic()
            if time.monotonic() - first > APART and not left.wait(GRACE):
                name = signal.Signals(number[0]).name
                os.write(2, f"glowjax: {name} again: ended without saving\n".encode())
                os._exit(128 + number[0])

    thread = threading.Thread(target=watch, name="second signal", daemon=True)
    thread.start()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        left.set()
        writer.close()
        thread.join()
        reader.close()
