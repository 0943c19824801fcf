"""The tutorials run from top to bottom, and find what they say; their outputs get into the site."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
NOTEBOOKS = all(importlib.util.find_spec(name) for name in ("nbformat", "nbclient", "ipykernel"))

# What the text of each says about its outputs.
CLAIMS = {
    "plane": """
assert scores["linear"] < min(scores[name] for name in scores if name != "linear") - 0.2
assert max(scores, key=scores.get) == "spline couplings"
""",
    "glow": """
assert np.mean(bits) < 3
assert [latent.shape[1:] for latent in z] == [(4, 4, 2), (2, 2, 4), (1, 1, 16)]
""",
    "inference": """
assert kl < 0.15
assert all(abs(np.mean(shares <= c) - c) < 0.06 for c in (0.5, 0.9))
assert np.all(narrower < 0.9)
""",
    "constants": """
estimates = {
    name: glowjax.importance_sampling(model, params[name], target.log_prob, jax.random.key(2), N)
    for name, model in models.items()
}
assert abs(estimates["splines"].log_z - truth) < 0.03
assert estimates["splines"].effective_sample_size > 0.7 * N
assert estimates["any Gaussian"].effective_sample_size < 0.7 * N
""",
    "samplers": """
ess = {name: effective_sample_size(np.asarray(draws["v"])) for name, draws in panels.items()
       if name != "exact"}
assert ess["NUTS through the flow"] > 3 * ess["plain NUTS"]
assert abs(np.mean(through_flow["v"] < -5) - 0.048) < 0.02 < 0.048 - np.mean(plain["v"] < -5)
assert np.mean(info.is_accepted) > 0.6 and abs(np.mean(by_flow[:, 0] > 0) - 0.5) < 0.1
""",
    "images": """
assert np.max(np.abs(np.subtract(one, two))) < 1e-2 and one[-1] < one[0] - 1
assert min(bits) == bits[0]
""",
}

RUN = """
import sys
import matplotlib
matplotlib.use("agg")
from matplotlib.figure import Figure
Figure.show = lambda figure: figure.canvas.draw()
names = {}
for part in sys.stdin.read().split("# ---"):
    exec(part, names)
"""


def cells(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_each_tutorial_has_its_claims():
    assert {page.stem for page in TUTORIALS.glob("*.md")} == set(CLAIMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_a_tutorial_runs_and_finds_what_it_says(name, tmp_path):
    for needed in {"samplers": ("blackjax", "numpyro")}.get(name, ()):
        pytest.importorskip(needed)
    older = jax.__version__.startswith("0.10.")  # later versions have no such flag
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    env["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false" * older
    code = [cell for cell in cells(TUTORIALS / f"{name}.md") if "IPython" not in cell]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input="\n# ---\n".join([*code, CLAIMS[name]]),
        cwd=tmp_path,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not NOTEBOOKS, reason="the extra docs is not installed")
def test_outputs_come_below_their_cells(tmp_path, monkeypatch):
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
    page.write_text("# Page\n\n```python\nimport sys\n\nprint(1, file=sys.stderr)\n```\n")
    with pytest.raises(ValueError, match="page: a cell must not write to stderr, got 1"):
        notebooks.write(tmp_path)
