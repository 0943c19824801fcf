"""The command line: return codes, messages, and a tiny run from end to end."""

import ast
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from glowjax.cli import main
from glowjax.fitting.optim import learning_rate_schedule
from glowjax.runs.config import experiment

pytestmark = pytest.mark.float32  # as runs are

OPTIONS = tiny.OPTIONS | {
    "train-steps": 2,
    "optimizer.warmup-images": 8,
}
TINY = [f"--{name}={value}" for name, value in OPTIONS.items()]


@pytest.fixture(scope="module")
def run(digits_dir, tmp_path_factory):
    """The folder of a tiny run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    where = ["--run-dir", str(folder), "--data.data-dir", str(digits_dir)]
    assert main(["train", "glow_digits", *where, *TINY]) == 0
    return folder


def fails(capsys, *arguments, code=1):
    """What a command that fails says on stderr, in one message and not a traceback."""
    assert main([str(a) for a in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("glowjax: ")
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_usage(capsys, arguments):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for command in ("train", "eval", "sample", "data"):
        assert f"\n  {command} " in out


@pytest.mark.parametrize("arguments", [["train"], ["train", "--help"]])
def test_experiments_are_listed(capsys, arguments):
    assert main(arguments) == 0
    assert "glow_cifar10  " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train glow_digits", "eval", "sample", "data"])
def test_help(capsys, command):
    with pytest.raises(SystemExit) as exit:
        main([*command.split(), "--help"])
    assert exit.value.code == 0
    assert "usage: glowjax" in capsys.readouterr().out


KINDS = {"glow": "steps", "realnvp": "architecture", "pixel_flow": "components"}


@pytest.mark.parametrize("model", KINDS)
def test_options_are_those_of_the_experiments_model(capsys, model):
    with pytest.raises(SystemExit) as exit:
        main(["train", f"{model}_digits", "--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    given = {name for name in KINDS.values() if f"--model.{name} " in out}
    assert given == {KINDS[model]}
    assert "--model.width INT" in out
    for other in ("--model.kind", "subcommand", "model:"):
        assert other not in out


def test_an_option_of_another_model_than_glow(given):
    options = ["--model.width", "7", "--model.logit", "None"]
    assert main(["train", "realnvp_digits", *options]) == 0
    default = experiment("realnvp_digits")
    model = dataclasses.replace(default.model, width=7, logit=None)
    assert given["config"] == dataclasses.replace(default, model=model)


def test_unknown_command(capsys):
    error = fails(capsys, "trian", code=2)
    assert "command must be one of train, eval, sample, " in error and ", got 'trian'" in error


HOSTS = {
    "alone": ("--coordinator a:1", "distributed must be on where coordinator, processes or proc"),
    "some": ("--distributed --processes 2", "coordinator, processes and process must be given tog"),
    "none": ("--distributed", "coordinator, processes and process must be given: no cluster was"),
    "no port": ("--distributed --coordinator a --processes 2 --process 0", "must be HOST:PORT"),
    "bad port": ("--distributed --coordinator a:0 --processes 2 --process 0", "got 'a:0'"),
    "no process": (
        "--distributed --coordinator a:1 --processes 0 --process 0",
        "processes must be a whole number of at least 1, got 0",
    ),
    "too high": (
        "--distributed --coordinator a:1 --processes 2 --process 2",
        "process must be a whole number in 0..1, got 2",
    ),
}


@pytest.mark.parametrize("case", HOSTS)
def test_bad_hosts(capsys, monkeypatch, case):
    # Initialised already is what JAX would say first, in a program that has run something.
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    arguments, message = HOSTS[case]
    assert main(["train", "glow_digits", *arguments.split()]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["two train", "2 sample", "2", "0 train", "-1 eval"])
def test_bad_launches(capsys, arguments):
    fails(capsys, "launch", *arguments.split())


def test_unknown_experiment(capsys):
    assert "did you mean glow_digits" in fails(capsys, "train", "glow_digit")


def test_options_before_the_experiment(capsys):
    assert "experiment must come first" in fails(capsys, "train", "--resume", "glow_digits")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "glow_digits", "--train-stepz", "3"],
        ["train", "glow_digits", "--train-steps", "many"],
        ["train", "glow_digits", "--model.coupling", "spline"],
        ["train", "glow_digits", "--data.validation", "0"],
        ["eval"],
        ["eval", "somewhere", "--checkpoint", "first"],
        ["sample", "somewhere", "--num", "2.5"],
    ],
)
def test_options_that_do_not_parse(capsys, arguments):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train-steps", "0"], "train_steps must be a whole number of at least 1, got 0"),
        (["--batch-size", "6"], "batch_size must be a multiple of the 4 devices, got 6"),
        (["--ema", "2"], "ema must be None or in [0, 1), got 2.0"),
        (
            ["--model.levels", "4"],
            "divisible by 16 for this model, got 8×8; what would fit: data.tra",
        ),
        (["--data.name", "digitz"], "no data set 'digitz'"),
        (["--optimizer.warmup-images", "1_000_000"], "optimizer.warmup_images must be at most"),
    ],
)
def test_bad_values(capsys, tmp_path, digits_dir, options, message):
    where = ["--run-dir", tmp_path / "run", "--data.data-dir", digits_dir]
    assert message in fails(capsys, "train", "glow_digits", *where, *options)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def given(monkeypatch):
    """What the command line asks of `training.train`, which does nothing."""
    given = {}

    def train(config, run_dir, *, resume):
        given.update(config=config, run_dir=run_dir)
        return {"bits_per_dim": 1.0, "standard_error": 0.1, "count": 1, "step": 1}

    monkeypatch.setattr("glowjax.runs.training.train", train)
    return given


SHORT = {
    "as it is": ("", 100_000),
    "long enough": ("--train-steps 8000", 100_000),
    "a tenth": ("--train-steps 1000", 100 * 128),
    "smaller batches": ("--train-steps 1000 --batch-size 16", 100 * 16),
    "very short": ("--train-steps 6", 0),
    "as asked": ("--train-steps 6 --optimizer.warmup-images 128", 128),
    "as asked, its own number": ("--train-steps 900 --optimizer.warmup-images 100000", 100_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SHORT)
def test_a_shorter_run_warms_up_for_a_tenth_of_it_unless_told(given, case):
    options, images = SHORT[case]
    assert main(["train", "glow_mnist", *options.split()]) == 0
    config = given["config"]
    assert config.optimizer.warmup_images == images
    rate = learning_rate_schedule(
        config.optimizer, batch_size=config.batch_size, total_steps=config.train_steps
    )
    assert np.asarray(rate(0)) > 0


def test_oblong_sizes(given):
    sizes = "--data.resize 48 32 --data.transform.pad 1 2 1 0 --data.transform.crop 44 28"
    assert main(["train", "glow_mnist", *sizes.split()]) == 0
    data = given["config"].data
    assert (data.resize, data.transform.pad) == ((48, 32), ((1, 2), (1, 0)))
    assert data.transform.crop == (44, 28)


def test_a_home_is_found(given, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["train", "glow_mnist", "--run-dir=~/mine"]) == 0
    assert given["run_dir"] == tmp_path / "mine"


# Without UTF-8

LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
}


@pytest.mark.slow
@pytest.mark.parametrize("locale", LOCALES)
def test_output_that_the_locale_lacks_ends_nothing(locale):
    command = [sys.executable, "-m", "glowjax", "train"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}
    done = subprocess.run(command, env=clean | LOCALES[locale], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"digits (8?8, 17 grey levels)" in done.stdout


def test_files_are_read_and_written_as_utf_8():
    """Every call that opens text says so, whatever the locale."""
    root = Path(__file__).parents[2]
    named = {"read_text", "write_text", "open"}
    for path in [*root.glob("glowjax/**/*.py"), *root.glob("experiments/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            where = f"{path.name}:{node.lineno}"
            assert "text" not in keywords or name not in ("run", "Popen"), where
            owner = ast.unparse(getattr(node.func, "value", ast.Name("")))
            binary = any("b" in str(ast.literal_eval(a)) for a in node.args if _is_text(a))
            if name in named and owner not in ("Image", "PIL.Image", "gzip", "tarfile", "Run"):
                assert binary or "encoding" in keywords, where


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.slow
def test_a_finished_run(run):
    assert {"config.json", "metrics.jsonl", "samples.png", "curves.png"} <= {
        f.name for f in run.iterdir()
    }


@pytest.mark.slow
def test_eval(run, capsys):
    assert main(["eval", str(run), "--split", "validation", "--samples", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("validation: ")
    assert "bits/dim, 150 images, weights of step 2" in out


@pytest.mark.slow
def test_sample(run, tmp_path, capsys):
    path = tmp_path / "new" / "sheet.png"
    assert main(["sample", str(run), "--num", "6", "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert len(np.unique(np.asarray(Image.open(path)))) > 2


@pytest.mark.slow
def test_going_on(run, digits_dir, capsys):
    where = ["--run-dir", run, "--data.data-dir", digits_dir]
    assert "holds something already" in fails(capsys, "train", "glow_digits", *where, *TINY)
    other = [*where, "--resume", *TINY, "--seed", "1"]
    assert "differing: seed 0 -> 1" in fails(capsys, "train", "glow_digits", *other)


def test_data(digits_dir, capsys):
    assert main(["data", "digits", "--data-dir", str(digits_dir)]) == 0
    out = capsys.readouterr().out
    assert "train: 1,400 examples" in out
    assert str(digits_dir) in out


def test_missing_archives_are_said_at_once(digits_dir, tmp_path, no_network, capsys):
    where = ["--data.data-dir", tmp_path / "data", "--run-dir", tmp_path / "run"]
    start = time.perf_counter()
    error = fails(capsys, "train", "glow_mnist", *where)
    assert "train-images-idx3-ubyte.gz" in error
    error = fails(capsys, "train", "glow_mnist", *where, "--data.archives", tmp_path)
    assert "archives: missing in" in error
    assert time.perf_counter() - start < 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["eval", "sample"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no config.json"),
        ("{", "config.json is not ours"),
        (json.dumps({"epochs": 3}), "config.json is not ours: 'config' is missing"),
        (json.dumps({"config": {"epochs": 3}, "images": {}}), "Config does not: epochs"),
    ],
)
def test_foreign_folders(capsys, tmp_path, command, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert message in fails(capsys, command, tmp_path)


def test_files_in_place_of_folders(capsys, tmp_path, monkeypatch, digits_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for arguments in (["eval"], ["sample"], ["train", "glow_digits", "--resume", "--run-dir"]):
        assert "file is a file" in fails(capsys, *arguments, "file")
    train = ["train", "glow_digits", "--run-dir"]
    assert "got file, which is a file" in fails(capsys, *train, "file")
    assert "got file/run, where file is a file" in fails(capsys, *train, "file/run")
    assert "there is no such file" in fails(capsys, "train", "mine.py")
    assert "did you mean glow_digits" in fails(capsys, "train", "GLOW_DIGITS")


def test_the_name_of_an_experiment_in_place_of_its_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "did you mean" not in fails(capsys, "eval", "glow_digits")
    (tmp_path / "runs" / "glow_digits").mkdir(parents=True)
    (tmp_path / "runs" / "glow_digits" / "config.json").touch()
    assert "did you mean runs/glow_digits?" in fails(capsys, "eval", "glow_digits")


def test_missing_folders(capsys, tmp_path):
    for arguments in (["eval"], ["sample"], ["train", "glow_digits", "--resume", "--run-dir"]):
        assert "does not exist" in fails(capsys, *arguments, tmp_path / "nowhere")


def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("glowjax.runs.training.train", interrupt)
    assert "interrupted" in fails(capsys, "train", "glow_digits", code=130)


def test_a_traceback_on_demand(monkeypatch, capsys):
    monkeypatch.setenv("GLOWJAX_TRACEBACK", "1")
    assert main(["train", "nothing"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert "ValueError: experiment must be one of" in printed
