"""Progress of long work, for people: a bar in a terminal, lines elsewhere."""

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Generator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

CONSOLE = Console(stderr=True, highlight=False)


def show_what_can_be_shown() -> None:
    """Makes standard output write ? for what its encoding lacks (±, ×), where it would raise."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a notebook's has none
    if reconfigure is not None:
        reconfigure(errors="replace")


@contextlib.contextmanager
def progress(
    stop: int, start: int = 0, *, what: str = "step", text: str = "", pause: float = 0.0
) -> Generator[Callable[[int, str], None], None, None]:
    """Yields `advance(step, text)`, which shows how far a loop of `stop` steps has come.

    Args:
        stop: the last step.
        start: steps done before.
        what: a step's name.
        text: what the bar says at first.
        pause: seconds from one line to the next at least, where there is no terminal.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    began = shown = time.perf_counter()
    with Progress(
        *columns, TimeRemainingColumn(), console=CONSOLE, disable=not CONSOLE.is_terminal
    ) as bar:
        task = bar.add_task("", total=stop, completed=start, text=text)

        def advance(step, text):
            nonlocal shown
            bar.update(task, completed=step, text=text)
            now = time.perf_counter()
            if not CONSOLE.is_terminal and now - shown >= pause:
                shown = now
                left = (stop - step) * (now - began) / max(step - start, 1)
                left = datetime.timedelta(seconds=round(left))
                CONSOLE.print(f"{what} {step:,} of {stop:,}: {text}, {left} left")

        yield advance
