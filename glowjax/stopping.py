"""Stopping when asked: SIGTERM (preemption) and Ctrl-C wait until the state is saved."""

import contextlib
import signal
import threading
from collections.abc import Callable, Generator

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


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

    A second Ctrl-C interrupts at once. Several hosts answer SIGTERM to any of them at the same
    step, by JAX's preemption service; each must ask after every step. Only a main thread gets
    signals: elsewhere nothing is deferred.
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
        yield lambda step: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
