"""A second signal ends a run, whatever its main thread waits for."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from glowjax.runs import signals

# A lock taken twice: native code that no signal interrupts and no handler in Python is run in.
STUCK = """
import ctypes
from glowjax.runs.signals import deferred
lock, pthread = ctypes.create_string_buffer(128), ctypes.CDLL(None)
with deferred():
    print("stuck", flush=True)
    pthread.pthread_mutex_lock(lock)
    pthread.pthread_mutex_lock(lock)
"""


@pytest.mark.slow
def test_a_second_signal_ends_a_process_stuck_in_native_code():
    def start():
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", STUCK], stdout=pipe, stderr=pipe, text=True)

    stuck = {signal.SIGTERM: start(), signal.SIGINT: start()}
    try:
        for process in stuck.values():
            assert process.stdout.readline() == "stuck\n"
            for _ in range(2):  # as `timeout` sends one
                process.send_signal(signal.SIGTERM)
        time.sleep(signals.APART + 0.5)
        for number, process in stuck.items():
            assert process.poll() is None
            process.send_signal(number)
        for number, process in stuck.items():
            _, said = process.communicate(timeout=30)
            assert process.returncode == 128 + number
            assert said == f"glowjax: {number.name} again: ended without saving\n"
    finally:
        for process in stuck.values():
            process.kill()


def test_a_second_interrupt_that_the_main_thread_heeds_does_not_end_the_process(monkeypatch):
    monkeypatch.setattr(signals, "APART", 0.0)
    monkeypatch.setattr(signals, "GRACE", 0.2)
    descriptor = signal.set_wakeup_fd(-1)
    with pytest.raises(KeyboardInterrupt), signals.deferred() as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped(1) == signal.SIGTERM
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    assert "second signal" not in [thread.name for thread in threading.enumerate()]
    assert signal.set_wakeup_fd(descriptor) == -1
    time.sleep(0.3)  # here the process would have ended
