"""glowjax train | eval | sample | data | launch: the command line."""

import dataclasses
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

import glowjax
from glowjax.checks import require
from glowjax.fitting.optim import at_most_a_tenth
from glowjax.progress import show_what_can_be_shown
from glowjax.runs import config as configs
from glowjax.runs import hosts, launch
from glowjax.runs.signals import Stopped

USAGE = """\
usage: glowjax COMMAND ...

  train EXPERIMENT [options]   train, with pictures, checkpoints and a final test
  eval RUN [options]           bits/dim of a run's weights
  sample RUN [options]         draw images from a run's weights
  data NAME [options]          download or find a data set, and prepare it
  launch N COMMAND ...         train or eval on N processes of this machine

Each takes --help; `glowjax train EXPERIMENT --help` lists every option of the experiment.
`glowjax --version` prints the version.
GLOWJAX_TRACEBACK=1 shows where an error came from.
"""


@dataclass(frozen=True, kw_only=True)
class _Hosts:
    distributed: bool = False
    """Work together with other hosts, each of which runs this same command."""
    coordinator: str | None = None
    """HOST:PORT of process 0; of these three, none in SLURM, Open MPI, Kubernetes, TPU pods."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """Which of them this is, from 0."""

    def connect(self) -> None:
        given = (self.coordinator, self.processes, self.process)
        if self.distributed:
            hosts.connect(*given)
        elif any(g is not None for g in given):
            wanted = "on where coordinator, processes or process is given"
            require(False, "distributed", self.distributed, wanted)


@dataclass(frozen=True, kw_only=True)
class Train(_Hosts):
    """Train an experiment; its options can be overridden one by one."""

    run_dir: Path | None = None
    """Folder for checkpoints, log and pictures; default: runs/EXPERIMENT."""
    resume: bool = False
    """Go on from the last checkpoint in run_dir."""
    config: Annotated[configs.Config, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands]


@dataclass(frozen=True, kw_only=True)
class _Weights:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    checkpoint: Literal["best", "latest"] | int = "best"
    """The best on validation, the latest, or that of a step."""
    weights: Literal["ema", "raw"] | None = None
    """Averaged or raw weights; default: as the run was evaluated."""


@dataclass(frozen=True, kw_only=True)
class Eval(_Weights, _Hosts):
    """Bits per dimension of a run's weights on a whole split."""

    split: Literal["train", "validation", "test"] = "test"
    samples: int | None = None
    """Draws of dequantization noise per image; default: the run's evaluate_samples."""
    batch_size: int | None = None
    """Images at a time, over all devices; default: the run's."""


@dataclass(frozen=True, kw_only=True)
class Sample(_Weights):
    """Draw images from a run's weights, as one PNG; of more than 3 channels, the first 3."""

    num: int = 64
    """How many images."""
    temperature: float = 0.7
    """Scale of the latents: 1 samples the model itself, less gives likelier, smoother images."""
    label: int | None = None
    """Class of all images, for a conditional model; default: as many of each,
    class by class: a row each of 10 classes, with 100 images."""
    seed: int = 0
    out: Path | None = None
    """The PNG; default: sampled.png in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Prepare a data set: digits, mnist, fashion_mnist, cifar10, or any of tensorflow-datasets."""

    name: tyro.conf.Positional[str]
    """Of the data set, with its config if any: mnist, celeb_a_hq/256, …"""
    data_dir: Path | None = None
    """Folder of prepared data sets; default: that of tensorflow-datasets."""
    archives: Path | None = None
    """Folder that holds the original archives, used instead of a download."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    show_what_can_be_shown()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if arguments == ["--version"]:
        print(f"glowjax {glowjax.__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        message = f"glowjax: command must be one of {', '.join(COMMANDS)}, got {name!r}"
        print(f"{message}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    status = 1
    try:
        status = _status(COMMANDS[name], rest)
    finally:  # even where what went wrong cannot be said, its log being on a full disk
        hosts.leave(status)
    return status


def _status(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    try:
        command(arguments)
    except Stopped as stopped:
        print(f"glowjax: {stopped}", file=sys.stderr)
        return 128 + stopped.signal  # as shells count it: 143 for SIGTERM, 130 for Ctrl-C
    except KeyboardInterrupt:
        print("glowjax: interrupted; a training run goes on with --resume", file=sys.stderr)
        return 130
    except Exception as error:
        expected = isinstance(error, (ValueError, OSError, ImportError, FloatingPointError))
        if expected and not os.environ.get("GLOWJAX_TRACEBACK"):
            print(f"glowjax: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        return 1
    return 0


def _train(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_experiments())
        return
    experiment, *overrides = arguments
    if experiment.startswith("-"):
        raise ValueError(f"experiment must come first, got {experiment!r}\n\n{_experiments()}")
    default = configs.experiment(experiment)
    options = _parse(Train, f"train {experiment}", overrides, Train(config=default))
    default = _warmed_up(default, options.config)
    options = _parse(Train, f"train {experiment}", overrides, Train(config=default))
    options.connect()
    from glowjax.runs.loop import train

    run_dir = (options.run_dir or Path("runs") / Path(experiment).stem).expanduser()
    result = train(options.config, run_dir, resume=options.resume)
    _report(result, "test")
    if hosts.is_first_host():
        print(f"pictures, log and checkpoints: {run_dir}")


def _warmed_up(default: configs.Config, given: configs.Config) -> configs.Config:
    """An experiment, its warm-up cut to a tenth of the run where `given` makes that shorter."""
    images = default.optimizer.warmup_images
    if images is None or given.train_steps >= default.train_steps:
        return default
    images = at_most_a_tenth(images, batch_size=given.batch_size, total_steps=given.train_steps)
    optimizer = dataclasses.replace(default.optimizer, warmup_images=images)
    return dataclasses.replace(default, optimizer=optimizer)


def _eval(arguments: list[str]) -> None:
    options = _parse(Eval, "eval", arguments)
    options.connect()
    from glowjax.runs.results import evaluate

    result = evaluate(
        options.run,
        split=options.split,
        checkpoint=options.checkpoint,
        weights=options.weights,
        samples=options.samples,
        batch_size=options.batch_size,
    )
    _report(result, options.split)


def _sample(arguments: list[str]) -> None:
    options = _parse(Sample, "sample", arguments)
    from glowjax import plots
    from glowjax.runs.results import sample

    images = sample(
        options.run,
        options.num,
        temperature=options.temperature,
        label=options.label,
        checkpoint=options.checkpoint,
        weights=options.weights,
        seed=options.seed,
    )
    path = (options.out or options.run / "sampled.png").expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.image_grid(images).save(path)
    print(path)


def _data(arguments: list[str]) -> None:
    options = _parse(Prepare, "data", arguments)
    from glowjax.data.prepare import prepare

    builder = prepare(
        options.name, data_dir=options.data_dir, archives=options.archives, progress=True
    )
    for split, info in builder.info.splits.items():
        print(f"{split}: {info.num_examples:,} examples")
    print(builder.data_dir)


def _launch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: glowjax launch N train|eval ...")
        return
    count, *command = arguments
    if not count.isdecimal() or command[:1] not in (["train"], ["eval"]):
        given = " ".join(arguments)
        raise ValueError(f"launch must be followed by a number and train or eval, got {given!r}")
    launch.launch([sys.executable, "-m", "glowjax", *command], int(count))


def _parse(kind, command, arguments, default=None):
    return tyro.cli(kind, prog=f"glowjax {command}", args=arguments, default=default)


def _report(result: dict, split: str) -> None:
    if hosts.is_first_host():
        print(
            f"{split}: {result['bits_per_dim']:.4f} ± {result['standard_error']:.4f} bits/dim,"
            f" {result['count']:,} images, weights of step {result['step']:,}"
        )


def _experiments() -> str:
    lines = ["usage: glowjax train EXPERIMENT [options]", "", "experiments:"]
    for name, path in configs.experiment_files().items():
        lines.append(f"  {name:28}{_first_line(path)}")
    lines += ["", "or the path of a .py file that defines `config`, a glowjax.runs.Config"]
    return "\n".join(lines)


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").lstrip('"').partition("\n")[0].rstrip('"')


COMMANDS = {"train": _train, "eval": _eval, "sample": _sample, "data": _data, "launch": _launch}
