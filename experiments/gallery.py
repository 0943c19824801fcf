"""One page of all pictures: runs what has not been run yet, and writes runs/gallery.html.

python -m experiments.gallery
"""

import html
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from experiments.catalogue import Entry, entries, figures

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 3rem auto; padding: 0 1rem }
h2 { margin: 3.5rem 0 0.2rem } p { margin: 0.3rem 0 } .source, .figures { color: #777; font-size: 0.9rem }
.figures { white-space: pre-line } img { max-width: 100%; margin-top: 1rem; border: 1px solid #eee }
code { background: #f4f4f4; padding: 0.1rem 0.3rem }
"""  # noqa: E501
PICTURES = (".png", ".gif")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Options of the gallery."""

    folder: Path = Path("runs")
    """The runs."""
    run: bool = True
    """Run the experiments for CPUs that have no folder there yet."""


def main(options: Gallery) -> Path:
    """Writes the page; returns its path."""
    console = Console(highlight=False)
    for entry in entries():
        module = entry.command.startswith(f"python -m experiments.{entry.name}")
        if options.run and module and "CPU" in entry.time and not pictures(options.folder, entry):
            console.print(f"{entry.command}: {entry.time}")
            folder = options.folder / entry.name
            command = [sys.executable, *entry.command.split()[1:], "--folder", str(folder)]
            subprocess.run(command, check=True)
    shown = [entry for entry in entries() if pictures(options.folder, entry)]
    page = options.folder / "gallery.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    body = "\n".join(section(entry, options.folder) for entry in shown)
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>glowjax</title>'
        f"<style>{STYLE}</style><h1>glowjax: normalizing flows in JAX</h1>\n{body}</html>\n",
        encoding="utf-8",
    )
    console.print(f"{len(shown)} experiments: {page}")
    return page


def pictures(folder: Path, entry: Entry) -> list[Path]:
    """An experiment's pictures, in the order of their names."""
    return sorted(p for p in (folder / entry.name).glob("*") if p.suffix in PICTURES)


def section(entry: Entry, folder: Path) -> str:
    """An experiment as HTML: what it is, its command, its figures in this folder, its pictures."""
    path = folder / entry.name / "figures.json"
    text = figures(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ""
    images = "\n".join(
        f'<img src="{entry.name}/{p.name}" alt="{html.escape(p.stem)}">'
        for p in pictures(folder, entry)
    )
    return (
        f'<h2 id="{entry.name}">{html.escape(entry.title)}</h2>'
        f'<p class="source">{html.escape(entry.source)}</p>'
        f"<p><code>{html.escape(entry.command)}</code></p>"
        f'<p class="figures">{html.escape(text)}</p>{images}'
    )


if __name__ == "__main__":
    main(tyro.cli(Gallery, prog="python -m experiments.gallery", description=__doc__))
