"""glowjax train | launch."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from glowjax.commands.options import Hosts, parse, report
from glowjax.fitting.optim import at_most_a_tenth
from glowjax.runs import config as configs
from glowjax.runs import hosts
from glowjax.runs import launch as several
from glowjax.runs.suggest import smoke


@dataclass(frozen=True, kw_only=True)
class Train(Hosts):
    """Train an experiment; its options can be overridden one by one."""

    run_dir: Path | None = None
    """Folder for checkpoints, log and pictures; default: runs/EXPERIMENT."""
    resume: bool = False
    """Go on from the last checkpoint in run_dir."""
    smoke: bool = False
    """Try the experiment at a size that ends in about a minute on two cores, in
    runs/EXPERIMENT-smoke: few steps of a small model on the same data."""
    config: Annotated[configs.Config, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands]


def train(arguments: list[str]) -> None:
    """Trains an experiment."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_experiments())
        return
    experiment, *overrides = arguments
    if experiment.startswith("-"):
        raise ValueError(f"experiment must come first, got {experiment!r}\n\n{_experiments()}")
    default = configs.experiment(experiment)
    options = parse(Train, f"train {experiment}", overrides, Train(config=default))
    default = smoke(default) if options.smoke else _warmed_up(default, options.config)
    options = parse(Train, f"train {experiment}", overrides, Train(config=default))
    options.connect()
    from glowjax.runs import training

    name = Path(experiment).stem + ("-smoke" if options.smoke else "")
    run_dir = (options.run_dir or Path("runs") / name).expanduser()
    result = training.train(options.config, run_dir, resume=options.resume)
    report(result, "test")
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


def launch(arguments: list[str]) -> None:
    """Runs a command on several processes."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: glowjax launch N train|eval ...")
        return
    count, *command = arguments
    if not count.isdecimal() or command[:1] not in (["train"], ["eval"]):
        given = " ".join(arguments)
        raise ValueError(f"launch must be followed by a number and train or eval, got {given!r}")
    several.launch([sys.executable, "-m", "glowjax", *command], int(count))


def _experiments() -> str:
    lines = ["usage: glowjax train EXPERIMENT [options]", "", "experiments:"]
    for name, path in configs.experiment_files().items():
        lines.append(f"  {name:28}{_first_line(path)}")
    lines += ["", "or the path of a .py file that defines `config`, a glowjax.runs.Config"]
    return "\n".join(lines)


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").lstrip('"').partition("\n")[0].rstrip('"')
