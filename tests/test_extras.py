"""A light installation: what it lacks is named, with the extra that holds it."""

import subprocess
import sys

import pytest

import glowjax
from glowjax.extras import extra

WITHOUT = """
import sys
for name in {missing}:
    sys.modules[name] = None
sys.argv[1:] = {arguments}
{program}
"""


def without(missing, program, arguments=()):
    """What a program says that runs where packages are missing: (status, stdout, stderr)."""
    code = WITHOUT.format(missing=missing, program=program, arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


TRAIN = ["array_record", "grain", "matplotlib", "orbax", "PIL", "sklearn", "tensorboardX",
         "tensorflow_datasets", "tyro"]  # fmt: skip


@pytest.mark.slow
def test_functions_need_no_extra():
    program = """
import jax, glowjax
x = jax.random.normal(jax.random.key(0), (16, 3))
model = glowjax.density(glowjax.realnvp_mlp(steps=1, width=4), (3,))
fitted = glowjax.fit(model, x, steps=2, show=False)
assert model.sample(fitted.params, jax.random.key(1), 2).shape == (2, 3)
"""
    status, _, error = without(TRAIN, program)
    assert status == 0, error


def test_the_command_says_what_to_install():
    program = "import runpy; runpy.run_module('glowjax', run_name='__main__')"
    status, _, error = without(TRAIN, program, ["train", "glow_digits"])
    expected = "the command line needs tyro, which is not installed: pip install 'glowjax[train]'"
    assert (status, error.strip()) == (1, f"glowjax: {expected}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("from glowjax import plots", "glowjax.plots needs matplotlib"),
        ("from glowjax import data; data.load('digits', 'train')", "loading a data set needs"),
    ],
)
def test_other_doors_say_so_too(program, said):
    status, _, error = without(TRAIN, program)
    assert status == 1 and said in error and "pip install 'glowjax[train]'" in error


def test_other_errors_pass():
    with pytest.raises(ValueError, match="mine"), extra("train", "this"):
        raise ValueError("mine")


def test_the_version_is_told():
    done = subprocess.run(
        [sys.executable, "-m", "glowjax", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"glowjax {glowjax.__version__}\n"
