"""Runs the tutorials and puts what they show into their pages: `python docs/notebooks.py FOLDER`.

`make docs` calls it after docs/pages.py, with the folder of the pages. A tutorial is a page of
Markdown, and each block of Python in it is the cell of a notebook. Its outputs come below the cell.
The notebook itself, with its outputs, comes beside the page. A comment `<!-- check … -->` is a cell
that readers do not see: it asserts what the text says about the outputs.

What was run is kept under build/notebooks. It is run again when the tutorial's code, glowjax or JAX
has changed.
"""

import asyncio
import base64
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import nbformat
from nbclient import NotebookClient

import glowjax

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "notebooks"
STYLE = ROOT / "docs" / "tutorials" / "matplotlibrc"
PICTURES = {"image/png": "png", "image/gif": "gif"}
SETTINGS = {
    # It halves the time to compile; later versions of JAX have no such flag.
    "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false" * jax.__version__.startswith("0.10."),
    "PYTHONWARNINGS": "ignore:IProgress not found",  # of tqdm: a page shows no widgets
}
CELL = re.compile(r"^(```python|<!-- check)\n(.*?)\n(?:```|-->)$", re.DOTALL | re.MULTILINE)
HIDDEN = "hidden"
AT_ONCE = 2  # tutorials: each compiles on one core most of the time
LINES = 40  # of text that a cell prints: a page has no room for more


def write(folder: Path) -> None:
    """Runs the tutorials of the folder of the pages, and writes their outputs into them."""
    pages = sorted((folder / "tutorials").glob("*.md"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(executed, pages))
    for page, (notebook, seconds) in zip(pages, done, strict=True):
        notebook.cells = [cell for cell in notebook.cells if HIDDEN not in cell.metadata]
        nbformat.write(notebook, page.with_suffix(".ipynb"))
        page.write_text("".join(parts(notebook, page)), "utf-8")
        print(f"{page.stem}: {seconds:.0f} s")


def executed(page: Path) -> tuple[Any, float]:
    """A page as a notebook with its outputs, and the seconds that it ran.

    Raises:
        ValueError: a cell warns, or prints more than a page has room for.
        CellExecutionError: a cell or a check fails.
    """
    notebook = cells_of(page)
    kept = KEPT / f"{page.stem}-{digest(notebook)}.ipynb"
    if kept.exists():
        before = nbformat.read(kept, as_version=4)
        for cell, ran in zip(code(notebook), code(before), strict=True):
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        return notebook, before.metadata.seconds
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "matplotlibrc").write_bytes(STYLE.read_bytes())
        client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": scratch}})
        client.extra_arguments = ["--log-level=ERROR"]
        client.coalesce_streams = True
        asyncio.run(client.async_execute(env=os.environ | SETTINGS))  # closes its loop
    notebook.metadata.seconds = time.perf_counter() - began
    for cell in code(notebook):
        check(page, cell)
    KEPT.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept)
    return notebook, notebook.metadata.seconds


def cells_of(page: Path) -> Any:
    """A page as a notebook: Python is code, and all else, commands of a terminal too, is text."""
    notebook = nbformat.v4.new_notebook()
    text, *rest = CELL.split(page.read_text("utf-8"))
    made = [nbformat.v4.new_markdown_cell(text.strip())]
    for kind, source, text in zip(*[iter(rest)] * 3, strict=True):
        made.append(nbformat.v4.new_code_cell(source.strip()))
        if kind != "```python":
            made[-1].metadata[HIDDEN] = True
        made.append(nbformat.v4.new_markdown_cell(text.strip()))
    notebook.cells = [cell for cell in made if cell.source]
    return notebook


def code(notebook: Any) -> list[Any]:
    """The cells of Python."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook: Any) -> str:
    """Of all that the outputs depend on."""
    package = Path(glowjax.__file__).parent
    content = [cell.source.encode() for cell in code(notebook)]
    content += [path.read_bytes() for path in sorted(package.rglob("*.py"))]
    content += [STYLE.read_bytes(), jax.__version__.encode()]
    return hashlib.sha256(b"\0".join(content)).hexdigest()[:16]


def check(page: Path, cell: Any) -> None:
    """Raises a ValueError if the outputs of a cell are not for readers."""
    for output in cell.outputs:
        text = output.get("text", "")
        if output.get("name") == "stderr":
            raise ValueError(f"{page.stem}: a cell must not write to stderr, got {text}")
        if text.count("\n") > LINES:
            raise ValueError(f"{page.stem}: a cell must print at most {LINES} lines, got {text}")


def parts(notebook: Any, page: Path) -> Iterator[str]:
    """The page with its outputs; their pictures are written beside it."""
    heading, pictures = page.stem, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.*)", cell.source, re.MULTILINE)
            heading = headings[-1] if headings else heading
            yield f"{cell.source}\n\n"
            continue
        yield f"```python\n{cell.source}\n```\n\n"
        for output in cell.outputs:
            data = output.get("data", {})
            kind = next((kind for kind in PICTURES if kind in data), None)
            if kind:
                pictures += 1
                name = f"{page.stem}-{pictures}.{PICTURES[kind]}"
                (page.parent / name).write_bytes(base64.b64decode(data[kind]))
                yield f"![Picture of the section {heading}]({name})\n\n"
            elif text := output.get("text", data.get("text/plain")):
                yield f'```text title="Output"\n{text.rstrip()}\n```\n\n'
    yield f"[This page as a notebook, with its outputs]({page.stem}.ipynb)\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
