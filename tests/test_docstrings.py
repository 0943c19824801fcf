"""Docstrings of public names say what they must, and their examples run as they stand."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import glowjax

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LIBRARY = [
    "models",
    "nets",
    "bijections",
    "compose",
    "loops",
    "flow",
    "densities",
    "fitting",
    "surjections",
    "testing",
]

MAPS = ("_forward", "_inverse")
REFERS = re.compile(r"\b(?:as|see)(?: for| in)? `")  # to another docstring


def public():
    """The public names of the API, each with its definition."""
    path = Path(__file__).parents[1] / "docs" / "pages.py"
    spec = importlib.util.spec_from_file_location("pages", path)
    assert spec and spec.loader
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    for name, path in pages.public_names([m for _, modules in pages.API.values() for m in modules]):
        module, _, short = path.rpartition(".")
        if not short.startswith("from_"):  # whose libraries need not be here
            found = getattr(importlib.import_module(module), short)
            definition = ast.parse(textwrap.dedent(inspect.getsource(found))).body[0]
            assert isinstance(definition, ast.FunctionDef | ast.ClassDef)
            yield name, definition


PUBLIC = dict(public())
FUNCTIONS = {n: d for n, d in PUBLIC.items() if isinstance(d, ast.FunctionDef)}


def docstring(name):
    return ast.get_docstring(PUBLIC[name]) or ""


def refuses(definition):
    """Whether what is defined raises an error, itself or by `glowjax.checks`."""
    for node in ast.walk(definition):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Raise) or called == "require" or called.startswith("check_"):
            return True
    return False


def takes_arrays(definition):
    """Whether a function has arguments that are arrays, besides keys."""
    arguments = [*definition.args.args, *definition.args.kwonlyargs]
    types = [ast.unparse(a.annotation) for a in arguments if a.annotation and a.arg != "key"]
    return any("Array" in annotation for annotation in types)


def gives_several(definition):
    """Whether a function returns a tuple."""
    return bool(definition.returns) and ast.unparse(definition.returns).startswith("tuple")


def has_equation(name, definition):
    """Whether what is defined is one formula: a map, a density, a target or a loss."""
    if isinstance(definition, ast.ClassDef):
        methods = {node.name for node in definition.body if isinstance(node, ast.FunctionDef)}
        return {"forward", "inverse"} <= methods
    returned = ast.unparse(definition.returns) if definition.returns else ""
    formula = returned in ("Base", "Elementwise", "Target") or name.endswith(("_kl", "_divergence"))
    return formula or name.startswith("glowjax.preprocess.") or name.endswith(MAPS)


def equations(text):
    """The equations of a docstring, but for those in its examples."""
    return re.findall(r"(?<![=<>!]) = ", text.partition("Examples:")[0])


def says(name, pattern):
    """Whether a docstring has something, or refers to another one."""
    text = docstring(name)
    return bool(re.search(pattern, text, re.MULTILINE) or REFERS.search(text))


def test_docstrings_say_what_is_refused():
    due = [name for name, definition in PUBLIC.items() if refuses(definition)]
    assert len(due) > 50 and not [name for name in due if not says(name, r"^Raises:|errors")]


def test_docstrings_have_the_shapes_of_arrays():
    due = [name for name, definition in FUNCTIONS.items() if takes_arrays(definition)]
    assert len(due) > 30 and not [name for name in due if not says(name, r"`[^`]*\[[^`]*\]")]


def test_docstrings_say_what_several_results_are():
    due = [name for name, definition in FUNCTIONS.items() if gives_several(definition)]
    assert len(due) > 20 and not [name for name in due if not says(name, r"[Rr]eturns|^`\(")]


def test_docstrings_of_maps_densities_and_losses_have_their_equations():
    due = [name for name, definition in PUBLIC.items() if has_equation(name, definition)]
    assert len(due) > 70 and not [name for name in due if not equations(docstring(name))]


def test_public_names_have_docstrings():
    assert len(PUBLIC) > 150 and not [name for name in PUBLIC if not docstring(name)]


def test_a_docstring_that_says_too_little_is_found():
    (one,) = ast.parse("def f(x: Float[Array, 'B']) -> tuple: require(x, 'x', x, 'x')").body
    assert isinstance(one, ast.FunctionDef)
    assert refuses(one) and takes_arrays(one) and gives_several(one)
    (other,) = ast.parse("def f(key: Array, n: int) -> int: return n").body
    assert isinstance(other, ast.FunctionDef)
    assert not refuses(other) and not takes_arrays(other) and not gives_several(other)
    (module,) = ast.parse("class A:\n def forward(self): 0\n def inverse(self): 0").body
    (base,) = ast.parse("def normal() -> Base: return 0").body
    assert has_equation("a.A", module) and has_equation("a.normal", base)
    assert has_equation("a.planar_forward", one) and not has_equation("a.f", other)
    assert equations("z = x + 1") and not equations("z is x.\n\nExamples:\n    >>> z = x")
    assert not REFERS.search("x as y.") and REFERS.search("Errors as for `maf`.")


def examples():
    """Every docstring with an example; all of them may use glowjax, jax and jnp."""
    names = {"glowjax": glowjax, "jax": jax, "jnp": jnp}
    for found in pkgutil.walk_packages(glowjax.__path__, "glowjax."):
        if found.name.split(".")[1] in LIBRARY:
            module = importlib.import_module(found.name)
            yield from (t for t in doctest.DocTestFinder().find(module, globs=names) if t.examples)


@pytest.mark.slow
@pytest.mark.parametrize("example", [pytest.param(e, id=e.name) for e in examples()])
def test_examples_run(example):
    said: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=said.append)
    assert not said, "".join(said)
