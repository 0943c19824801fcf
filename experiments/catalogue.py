"""Every experiment with its command, time, expected and measured figure.

python -m experiments.catalogue
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

FOLDER = Path(__file__).parent
CONFIGS, MEASURED = FOLDER / "configs", FOLDER / "measured"
LABELS = "Time|Expected|Source"
LABELLED = re.compile(rf"^({LABELS}): (.+?)(?=^(?:{LABELS}): |^$|\Z)", re.MULTILINE | re.DOTALL)


class Entry(NamedTuple):
    """What an experiment's docstring says, and what was measured last (or None)."""

    name: str
    title: str
    command: str
    time: str
    expected: str
    source: str
    measured: dict[str, Any] | None


def entries() -> Iterator[Entry]:
    """The experiments in order of their names: the files whose docstring has an `Expected:`."""
    files = [*FOLDER.glob("*.py"), *CONFIGS.glob("*.py")]
    for path in sorted(files, key=lambda path: path.stem):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if "\nExpected: " in doc:
            yield entry(path.stem, doc)


def entry(name: str, doc: str) -> Entry:
    """An experiment from its docstring: title, command (indented), `Time:`, `Expected:`, `Source:`.

    Raises:
        ValueError: one of these is missing.
    """
    parts = {label: " ".join(text.split()) for label, text in LABELLED.findall(doc)}
    if command := re.search(r"^    (.+)$", doc, re.MULTILINE):
        parts["command"] = command[1]
    missing = {"command", "Time", "Expected", "Source"} - set(parts)
    if missing:
        raise ValueError(f"experiment {name}: its docstring lacks {', '.join(sorted(missing))}")
    path = MEASURED / f"{name}.json"
    measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    title = doc.splitlines()[0]
    return Entry(
        name, title, parts["command"], parts["Time"], parts["Expected"], parts["Source"], measured
    )


def figures(measured: dict[str, Any] | None) -> str:
    """Measured figures as one text."""
    if measured is None:
        return "not run"
    values = [
        f"{name}: {value if isinstance(value, str) else f'{value:.4g}'}"
        for name, value in measured["figures"].items()
    ]
    took = f"({measured['seconds']:,.0f} s, {measured['hardware']}, {measured['date']})"
    return "\n".join([*values, took])


def main() -> None:
    """Prints them one below the other."""
    console = Console(highlight=False)
    for e in entries():
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        rows = {"command": e.command, "time": e.time, "expected": e.expected, "source": e.source}
        for label, text in (rows | {"measured": figures(e.measured)}).items():
            table.add_row(label, text)
        console.print(f"{e.name}: {e.title}", style="bold")
        console.print(Padding(table, (0, 0, 1, 2)))


if __name__ == "__main__":
    main()
