"""Who may import whom: the rooms of the house, from the ground up."""

import ast
import importlib
from graphlib import TopologicalSorter
from pathlib import Path

import glowjax

PACKAGE = Path(glowjax.__file__).parent
GROUND = {"arrays", "checks", "context", "expression", "extras", "files", "progress"}
FLOWS = {"flow", "reversible", "compose", "loops"}
MAY_IMPORT = {
    "checks": set(),
    "extras": set(),
    "files": set(),
    "progress": set(),
    "expression": set(),
    "arrays": {"checks"},
    "context": {"checks"},
    "flow": GROUND,
    "reversible": GROUND | {"flow"},
    "compose": GROUND | {"flow", "reversible"},
    "loops": GROUND | {"flow", "reversible", "compose"},
    "nets": GROUND,
    "bijections": GROUND | {"nets"},
    "preprocess": GROUND | FLOWS,
    "models": GROUND | FLOWS | {"nets", "bijections", "preprocess"},
    "densities": GROUND | FLOWS | {"nets", "bijections"},
    "surjections": GROUND | FLOWS | {"nets", "bijections", "preprocess", "densities", "testing"},
    "data": GROUND,
    "fitting": GROUND | {"densities", "data"},
    "plots": GROUND | {"densities"},
    "timing": GROUND | FLOWS | {"densities"},
    "testing": GROUND | FLOWS | {"bijections"},
}
MAY_IMPORT["runs"] = set(MAY_IMPORT) - {"timing", "testing"}
MAY_IMPORT["interop"] = GROUND | FLOWS | {"nets", "bijections", "preprocess", "models", "densities"}
MAY_IMPORT["codec"] = GROUND | FLOWS | {"nets", "bijections", "models", "densities"}
MAY_IMPORT["commands"] = MAY_IMPORT["runs"] | {"runs", "codec"}
MAY_IMPORT["cli"] = MAY_IMPORT["commands"] | {"commands"}
MAY_IMPORT["__main__"] = {"cli", "extras"}


def modules():
    """Every module's file, by its name without `glowjax.`."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and parts[0] != "configs":
            yield name, path


def imported(path, names):
    """The modules of glowjax that a file imports, at any depth, but for annotations alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports must be absolute"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            short = name.removeprefix("glowjax.")
            if short != name:
                yield short if short in names else short.rpartition(".")[0]


FILES = dict(modules())
IMPORTS = {name: set(imported(path, FILES)) for name, path in FILES.items()}


def test_each_room_imports_those_below_it_alone():
    for name, targets in IMPORTS.items():
        room = name.partition(".")[0]
        for target in targets:
            below = target.partition(".")[0]
            assert below == room or below in MAY_IMPORT[room], f"{name} imports {target}"


def test_no_imports_run_in_a_circle():
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError, with the circle


def test_no_module_is_hidden_by_a_function_of_its_name():
    for name in FILES.keys() - {"__main__"}:
        module = importlib.import_module(f"glowjax.{name}")
        room, _, last = module.__name__.rpartition(".")
        assert getattr(importlib.import_module(room), last, module) is module, name
