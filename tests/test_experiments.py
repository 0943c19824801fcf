"""Experiments: all are described, scripts run in their smoke size, pictures make a page."""

import ast
import importlib
import json
import math

import pytest

from experiments import catalogue as listing
from experiments import common, gallery
from glowjax.runs.config import experiment_files

ENTRIES = {entry.name: entry for entry in listing.entries()}
SCRIPTS = [name for name, e in ENTRIES.items() if e.command.startswith("python -m experiments.")]
NEEDS = dict.fromkeys(
    (
        "annealing_wells",
        "bayesian_average",
        "latent_sampling_2d",
        "lennard_jones",
        "wells_annealed",
    ),
    "blackjax",
)
LONG = (  # a minute each, even so: run with -m exhaustive
    "annealing_wells",
    "bayesian_average",
    "conditional_1d",
    "continuous_2d",
    "dequantization_digits",
    "flow_matching_2d",
    "funnel_nuts",
    "gaussianization_2d",
    "latent_sampling_2d",
    "latents_digits",
    "lennard_jones",
    "torus_sphere",
    "mixed_table",
    "monotone_2d",
    "peers_2d",
    "surjections_2d",
    "tarflow_guidance",
    "tarflow_inverse",
    "convolutions_digits",
    "wavelet_digits",
    "wells_annealed",
)


def test_every_experiment_is_listed():
    scripts = {
        path.stem
        for path in listing.FOLDER.glob("*.py")
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "main" and node.args.args
            and ast.unparse(node.args.args[0].annotation or ast.Constant(None)) == "common.Run"
            for node in ast.parse(path.read_text()).body
        )
    }  # fmt: skip
    assert scripts == set(SCRIPTS)
    assert set(experiment_files()) | scripts == set(ENTRIES)


@pytest.mark.parametrize("name", sorted(path.stem for path in listing.MEASURED.glob("*.json")))
def test_measured_figures_say_how(name):
    measured = json.loads((listing.MEASURED / f"{name}.json").read_text())
    assert name in ENTRIES and measured["figures"]
    assert set(measured) == {
        "figures", "seconds", "command", "hardware", "commit", "date", "versions"
    }  # fmt: skip
    assert "--smoke" not in measured["command"]


@pytest.mark.slow
@pytest.mark.float32
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.exhaustive] * (n in LONG)) for n in SCRIPTS]
)
def test_runs_in_smoke_size(name, tmp_path):
    pytest.importorskip(NEEDS.get(name, "glowjax"))
    module = importlib.import_module(f"experiments.{name}")
    figures = module.main(common.Run(folder=tmp_path, smoke=True))
    assert figures
    assert all(isinstance(v, str) or math.isfinite(v) for v in figures.values())
    assert gallery.pictures(tmp_path.parent, ENTRIES[name]._replace(name=tmp_path.name))


def test_a_docstring_without_its_parts_is_refused():
    with pytest.raises(ValueError, match="experiment x: its docstring lacks Source, command"):
        listing.entry("x", "Title.\n\nTime: 1 s.\nExpected: 2.")


def test_an_entry_is_read_from_its_docstring():
    doc = "Title.\n\n    python -m x\n\nTime: 1 s.\nExpected: two\nlines.\nSource: me.\n\nMore."
    entry = listing.entry("x", doc)
    assert entry[:6] == ("x", "Title.", "python -m x", "1 s.", "two lines.", "me.")


def test_gallery_shows_what_was_run(tmp_path):
    folder = tmp_path / SCRIPTS[0]
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    common.write(folder / "figures.json", {
        "figures": {"KL, nats": 0.0123}, "seconds": 3, "hardware": "1 × cpu", "date": "2026-01-01",
    })  # fmt: skip
    page = gallery.main(gallery.Gallery(folder=tmp_path, run=False)).read_text()
    assert f'src="{SCRIPTS[0]}/a.png"' in page and "KL, nats: 0.0123" in page
    assert SCRIPTS[1] not in page
