"""The commands in README and in docs/: a shell can read them, and programs know their options."""

import functools
import importlib.util
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tyro

from experiments import common
from experiments.bench.__main__ import COMMANDS as BENCHES
from glowjax import cli
from glowjax.commands import train

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/RESULTS.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`((?:glowjax|make|python -m experiments\.\w+)(?: [^`]*)?)`(?!`)")
SKETCH = re.compile(r"…|\[|\b(?:COMMAND|EXPERIMENT|NAME)\b")  # says what commands look like
SET = re.compile(r"[A-Z_]+=\S*")  # of the environment, before a command
PROGRAMS = {"glowjax", "make", "pip", "python", "source", "srun", "gcloud"}


def commands(text):
    """The commands of a page, each as a list of words."""
    inline = [" ".join(found.split()) for found in INLINE.findall(text)]
    blocks = [block.replace("\\\n", " ") for block in BLOCK.findall(text)]
    for lines in [*blocks, *(found for found in inline if not SKETCH.search(found))]:
        for line in lines.splitlines():
            words = shlex.split(line, comments=True)
            while words and SET.fullmatch(words[0]):
                words = words[1:]
            if words:
                yield words


def of(program, words):
    """The words after the name of a program in a command, which may hold another command."""
    for line in (words, shlex.split(words[-1])):
        if program in line[:1] or (program in line and words[0] in ("srun", "gcloud")):
            return line[line.index(program) + 1 :]
    return None


TEXTS = [page.read_text("utf-8") for page in PAGES]
PRINTED = sorted({tuple(words) for text in TEXTS for words in commands(text)})


def arguments(program):
    """The arguments of each printed command of a program, for `pytest.mark.parametrize`."""
    found = {tuple(after) for words in PRINTED if (after := of(program, words)) is not None}
    return [pytest.param(list(after), id=" ".join(after)) for after in sorted(found)]


class Understood(BaseException):
    """The options of a command were read; it ends here."""


@pytest.fixture
def read_only(monkeypatch):
    """Commands read their options, and do nothing."""
    read = tyro.cli

    def cli_(*args, **options):
        read(*args, **options)
        raise Understood

    monkeypatch.setattr(tyro, "cli", cli_)
    monkeypatch.setattr(train.several, "launch", lambda command, count: cli.main(command[3:]))


def understood(words):
    """Whether `glowjax` knows a command and its options."""
    if len(words) < 2:  # the name of a command, or `glowjax train`, which lists the experiments
        return set(words) <= set(cli.COMMANDS)
    with pytest.raises((Understood, SystemExit)) as ended:
        cli.main(words)
    return ended.type is Understood


@pytest.mark.parametrize("words", arguments("glowjax"))
def test_glowjax_knows_what_is_printed(words, read_only):
    assert understood(words)


@pytest.mark.parametrize("words", [["sampel", "runs/demo"], ["sample", "runs/demo", "--nmu", "3"]])
def test_a_wrong_command_is_found(words, read_only, capsys):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        assert understood(words)


@pytest.mark.parametrize("words", arguments("python"))
def test_experiments_know_what_is_printed(words):
    flag, module, *options = words
    spec = importlib.util.find_spec(module)
    assert flag == "-m" and spec
    if module == "experiments.bench":
        silent: dict[str, Any] = {
            name: functools.wraps(f)(lambda *a, **k: None) for name, f in BENCHES.items()
        }
        tyro.extras.subcommand_cli_from_dict(silent, args=options)
    elif "common.run(" in Path(str(spec.origin)).read_text("utf-8"):
        tyro.cli(common.Run, args=options, default=common.Run(folder=Path("runs")))


@pytest.mark.parametrize("words", arguments("make"))
def test_make_knows_what_is_printed(words):
    command = ["make", "--dry-run", "--question", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode < 2, done.stderr


def test_the_extras_that_pages_install_are_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {name for text in TEXTS for name in re.findall(r"install '?[.\w]+\[([\w,]+)\]", text)}
    assert named and {extra for name in named for extra in name.split(",")} <= {
        *project["optional-dependencies"]
    }


def test_a_shell_can_read_all_blocks():
    blocks = [block for text in TEXTS for block in BLOCK.findall(text)]
    for block in blocks:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True, capture_output=True)
    assert len(blocks) > 10 and {words[0] for words in PRINTED} <= PROGRAMS


def test_every_block_says_what_it_is():
    block = re.compile(r"^```(.*)\n(?:.*\n)*?```$", re.MULTILINE)
    kinds = {kind for text in TEXTS for kind in block.findall(text)}
    assert kinds == {"python", "sh", "text", "bibtex"}
    indented = [text for text in TEXTS if re.search(r"\n\n    \S", block.sub("", text))]
    assert not indented  # such blocks say nothing of their kind
