"""TensorBoard's log of a run."""

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # ty: ignore
from tensorboardX.proto.summary_pb2 import Summary  # ty: ignore


@contextlib.contextmanager
def board(folder: Path, first_step: int) -> Generator[Callable[[int, dict[str, float]], None]]:
    """Yields a function that writes a step's numbers by name, at once.

    tensorboardX's SummaryWriter will not do: its thread ends on a full disk, and who writes then
    waits for it for ever.

    Args:
        folder: of the event files; a start makes one.
        first_step: hides what earlier starts wrote of this step and later ones.

    Raises:
        OSError: numbers cannot be written.
    """
    folder.mkdir(exist_ok=True)
    events = EventsWriter(str(folder / "events"))
    events.write_event(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write(step, numbers):
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        events.flush()

    try:
        yield write
    finally:
        with contextlib.suppress(OSError):  # all is written by now, or its error raised
            events.close()
