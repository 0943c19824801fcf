"""Pages of docs/ whose examples run as printed, from top to bottom."""

import functools
import importlib.util
import re
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

DOCS = Path(__file__).parents[1] / "docs"


def examples(path: Path) -> list[str]:
    """The Python of a page."""
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def run(monkeypatch):
    """The names that the examples of a page leave."""
    monkeypatch.setattr(glowjax, "fit", functools.partial(glowjax.fit, steps=20, show=False))

    def run(page: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        exec("\n".join(examples(DOCS / page)), names)
        return names

    return run


@pytest.mark.slow
@pytest.mark.float32
def test_a_flow_of_ones_own(run):
    names = run("own-flow.md")
    assert names["message"].startswith("inverse's log_det must be minus forward's")
    assert names["new"].shape == (10, 3) and jnp.all(jnp.isfinite(names["new"]))


@pytest.mark.float32
def test_the_template_of_a_flow_is_a_flow(capsys):
    runpy.run_path(str(DOCS / "flow_template.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("The flow is right")


@pytest.mark.slow
@pytest.mark.float32
def test_small_flows(run):
    names = run("small-flows.md")
    assert names["log_p"].shape == (4, 2000) and names["log_mean"].shape == (2000,)
    assert np.all(names["log_mean"] >= names["log_p"].mean(axis=0))  # by Jensen's inequality


@pytest.mark.slow
@pytest.mark.float32
def test_flow_matching(run):
    names = run("flow-matching.md")
    assert names["log_p"].shape == (200,) and jnp.all(jnp.isfinite(names["log_p"]))
    np.testing.assert_allclose(names["quick"], names["samples"], atol=1)
    assert not np.allclose(names["samples"], names["z"])
    params, x = names["fitted"].params, names["x"][:8]
    regularized = jax.jit(names["regularized"])(params, glowjax.Batch(x), None, 0)
    likelihood = glowjax.forward_kl(names["model"], params, x)
    assert likelihood < regularized < likelihood + 1


@pytest.mark.slow
@pytest.mark.float32
def test_the_change_of_variables(run):
    names = run("change-of-variables.md")
    np.testing.assert_allclose(names["integral"], 1, rtol=1e-5)
    np.testing.assert_allclose(names["back"], names["x"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(names["inverse_log_det"], -names["log_det"], atol=1e-4)
    np.testing.assert_allclose(names["by_autodiff"], names["log_det"], atol=1e-4)
    likelihood = names["base"] + names["log_det"]
    np.testing.assert_allclose(names["log_likelihood"], likelihood, rtol=1e-5)
    assert jnp.std(names["log_det"]) > 0


def test_the_example_of_the_home_page_is_readmes():
    (example,), (readme, *_) = examples(DOCS / "index.md"), examples(DOCS.parent / "README.md")
    assert readme.startswith(example)  # which tests/test_two_cores.py runs


VERSIONED = ["docs/index.md", "docs/comparison.md", "docs/mkdocs.yml", "CITATION.cff"]


@pytest.mark.parametrize("page", VERSIONED)
def test_pages_name_the_version(page):
    text = (DOCS.parent / page).read_text("utf-8")
    assert set(re.findall(r"(?<!-)\bversion\W+(\d+\.\d+\.\d+)", text)) == {glowjax.__version__}


COMPARED = {  # column of docs/comparison.md -> its packages
    2: ["zuko"],
    3: ["flowjax"],
    4: ["normflows"],
    5: ["nflows"],
    6: ["distrax", "tensorflow_probability"],
}


def compared(column: int) -> list[str]:
    """The names in a column of the tables that compare libraries."""
    page = (DOCS / "comparison.md").read_text("utf-8")
    cells = [line.split("|")[1 + column] for line in page.splitlines() if line.startswith("|")]
    return [name for cell in cells for name in re.findall(r"`([a-zA-Z_][\w.]*)`", cell)]


def test_the_comparison_names_what_glowjax_has():
    names = compared(1)
    for name in names:
        module, _, last = f"glowjax.{name}".rpartition(".")
        interop = module == "glowjax.interop" and importlib.util.find_spec(f"{module}.{last}")
        found = interop or hasattr(importlib.import_module(module), last)
        assert found or name == "context", name
    assert len(names) > 40


@pytest.mark.slow
@pytest.mark.parametrize("column", COMPARED)
def test_the_comparison_names_what_others_have(column):
    """Where they are installed; their code is read and not imported."""
    names = set(compared(column)) - {"context", "cond_dim"}
    defined = {name for package in COMPARED[column] for name in definitions(package)}
    assert len(names) > 10 and not names - defined


def definitions(package: str) -> set[str]:
    """The names of the classes and functions of an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    files = Path(spec.origin).parent.rglob("*.py")
    code = "\n".join(path.read_text("utf-8") for path in files)
    return set(re.findall(r"^ *(?:class|def) (\w+)", code, re.MULTILINE))


@pytest.fixture
def trained_demo(config, tmp_path, monkeypatch):
    """A folder, the working one, with a small model in runs/demo, where pages expect it."""
    from glowjax.runs.training import train

    monkeypatch.chdir(tmp_path)
    train(config, tmp_path / "runs" / "demo")


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.xdist_group("runs")
def test_ten_minutes(run, tmp_path, trained_demo):
    names = run("ten-minutes.md")
    assert len([*(tmp_path / "pictures").glob("*.png")]) == 1797
    np.testing.assert_array_equal(names["again"], names["images"])
    assert names["log_p"].shape == (5000,) and names["new"].shape == (100, 4)


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.xdist_group("runs")
def test_compression(run, trained_demo):
    names = run("compression.md")
    np.testing.assert_array_equal(names["again"], names["images"])
    assert sum(names["codec"].sizes(names["data"])) == pytest.approx(8 * len(names["data"]))


ENDLESS = {"lapack-hang.md"}  # its program never ends, and that is what the page is about
PARTS = [  # by which tests/interop, or tests/test_readme.py, picks the examples of one page
    *("import distrax", "import numpyro", "import blackjax", "(2, 6)"),
    *("class NNXNet(", "class EquinoxNet(", "class HaikuNet("),
    *("import from_nflows", "import from_normflows", "import from_torch_glow"),
]


def test_the_python_of_every_page_is_run_by_a_test():
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.rglob("*.py"))
    pages = {page.name for page in DOCS.glob("*.md") if examples(page)}
    assert len(pages) > 10 and not [p for p in pages - ENDLESS if f'"{p}"' not in tests]
    for page in ENDLESS:
        for example in examples(DOCS / page):
            compile(example, page, "exec")


def test_each_example_of_other_libraries_is_picked_once():
    found = [[part for part in PARTS if part in e] for e in examples(DOCS / "other-libraries.md")]
    assert sorted(found) == sorted([part] for part in PARTS)


@pytest.mark.slow
@pytest.mark.float32
def test_questions(run):
    names = run("faq.md")
    assert names["log_p"].shape == (5, 100) and names["new"].shape == (2, 4, 3)
    log_p = names["again"].log_prob(names["same"], names["x"])
    np.testing.assert_allclose(log_p, names["log_p"].ravel(), rtol=1e-4)
    assert all(jax.tree.leaves(names["unchanged"]))
