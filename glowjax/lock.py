"""One training process a folder."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Generator
from pathlib import Path

NAME = "lock"


@contextlib.contextmanager
def hold(folder: Path) -> Generator[None, None, None]:
    """Holds a folder against other processes; the system lets go of it however this one ends.

    Raises:
        ValueError: another process holds it.
    """
    with (folder / NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"run_dir must be no other run's, got {folder}, where {file.read()} is training"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
