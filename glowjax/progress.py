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
def progress(stop: int, start: int = 0) -> Generator[Callable[[int, str], None], None, None]:
    """Yields `advance(step, text)`, which shows how far a loop of `stop` steps has come.

    Args:
        stop: the last step.
        start: steps done before.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    began = time.perf_counter()
    with Progress(
        *columns, TimeRemainingColumn(), console=CONSOLE, disable=not CONSOLE.is_terminal
    ) as bar:
        task = bar.add_task("", total=stop, completed=start, text="")

        def advance(step, text):
            bar.update(task, completed=step, text=text)
            if not CONSOLE.is_terminal:
                left = (stop - step) * (time.perf_counter() - began) / max(step - start, 1)
                left = datetime.timedelta(seconds=round(left))
                CONSOLE.print(f"step {step:,} of {stop:,}: {text}, {left} left")

        yield advance
