"""One training process a folder."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Generator
from pathlib import Path

NAME = "lock"


@contextlib.contextmanager
def hold(folder: Path, token: str = "") -> Generator[None, None, None]:
    """Holds a folder against other processes; the system lets go of it however this one ends.

    Args:
        folder: where a file `NAME` says who holds it.
        token: the file's second line, by which other hosts see that theirs is this folder.

    Raises:
        ValueError: another process holds it.
    """
    with (folder / NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.readline().strip()
            raise ValueError(
                f"run_dir must be no other run's, got {folder}, where {other} is training"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n{token}\n")
        file.flush()
        os.fsync(file.fileno())  # on a network's file system others see it only then
        yield
