"""docs/notebooks.py, with which `make docs` runs the tutorials, shows and checks their outputs."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_each_tutorial_checks_what_it_says(page):
    checks = re.findall(
        r"^<!-- check\n(.*?)^-->$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert any("assert " in check for check in checks)


@pytest.mark.slow
def test_outputs_come_below_their_cells(tmp_path, monkeypatch):
    pytest.importorskip("ipykernel")  # of the extra docs, as what comes next
    exceptions = pytest.importorskip("nbclient.exceptions")
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    assert spec and spec.loader
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    monkeypatch.setattr(notebooks, "KEPT", tmp_path / "kept")
    page = tmp_path / "tutorials" / "page.md"
    page.parent.mkdir()
    plot = "import matplotlib.pyplot as plt\n\nfigure, axes = plt.subplots()\nfigure.show()"
    text = "# Page\n\n```python\nprint(6, flush=True)\nprint(7)\n```\n\n```sh\nfalse\n```\n\n"
    text += f"## A picture\n\n```python\n{plot}\n```\n"
    for _ in range(2):  # the second time from what was kept
        page.write_text(text)
        notebooks.write(tmp_path)
        shown = page.read_text()
        assert 'print(7)\n```\n\n```text title="Output"\n6\n7\n```' in shown
        assert "![Picture of the section A picture](page-1.png)" in shown
        assert (page.parent / "page-1.png").read_bytes().startswith(b"\x89PNG")
        assert "```sh\nfalse\n```" in shown  # a command is shown, and not run
        assert page.with_suffix(".ipynb").exists()
    page.write_text("# Page\n\n```python\nx = 1\n```\n\n<!-- check\nassert x == 1\n-->\n\nText.\n")
    notebooks.write(tmp_path)
    assert "assert" not in page.read_text() + page.with_suffix(".ipynb").read_text()
    page.write_text("# Page\n\n```python\nx = 1\n```\n\n<!-- check\nassert x == 2\n-->\n")
    with pytest.raises(exceptions.CellExecutionError, match="assert x == 2"):
        notebooks.write(tmp_path)
    page.write_text("# Page\n\n```python\nimport sys\n\nprint(1, file=sys.stderr)\n```\n")
    with pytest.raises(ValueError, match="page: a cell must not write to stderr, got 1"):
        notebooks.write(tmp_path)
