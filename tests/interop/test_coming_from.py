"""docs/coming-from.md: both sides run as printed, and what glowjax is said to have is there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glowjax

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
OURS, *OTHERS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {section.partition("\n")[0]: section for section in OTHERS}
NEEDED = {
    "nflows": "nflows",
    "normflows": "normflows",
    "FlowJAX": "flowjax",
    "zuko": "zuko",
    "distrax and TensorFlow Probability": "distrax",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.float32,
    pytest.mark.filterwarnings("ignore"),  # of the other libraries
]


def code(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def check(names):
    log_p = names["log_p"]
    log_p = np.asarray(log_p.detach() if hasattr(log_p, "detach") else log_p)
    assert log_p.shape == (2000,) and tuple(names["new"].shape) == (100, 2)
    assert -3.5 < log_p.mean() < -0.2  # two independent normals have about -2.2


def test_the_example_of_glowjax():
    names: dict[str, Any] = {}
    points, example = code(OURS)
    exec(points + example.replace("steps=200", "steps=200, show=False"), names)
    check(names)


@pytest.mark.parametrize("section", NEEDED)
def test_the_example_of_another_library(section):
    pytest.importorskip(NEEDED[section])
    names: dict[str, Any] = {}
    points, _ = code(OURS)
    (example,) = code(SECTIONS[section])
    exec(points + example, names)
    check(names)


def test_what_is_said_to_be_in_glowjax_is_there():
    assert set(SECTIONS) == {*NEEDED, "OpenAI's Glow"}
    known = {*dir(glowjax.Density), *dir(glowjax.Flow), *dir(glowjax), "params", "context"}
    found = 0
    for section in NEEDED:
        for row in re.findall(r"^\|[^|]*(?:\\\|[^|]*)*\|(.*)\|$", SECTIONS[section], re.MULTILINE):
            for owner, name in re.findall(r"`(?:(\w+)\.)?([A-Za-z_]\w+)", row):
                if owner != "optax" and (owner, name) != ("", "model"):
                    assert name in known
                    found += 1
    assert found > 40
