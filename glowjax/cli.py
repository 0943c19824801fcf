"""glowjax COMMAND: the command line."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable

import glowjax
from glowjax.progress import show_what_can_be_shown
from glowjax.runs import hosts
from glowjax.runs.signals import Stopped

USAGE = """\
usage: glowjax COMMAND ...

  train EXPERIMENT [options]   train, with pictures, checkpoints and a final test
  eval RUN [options]           bits/dim of a run's weights
  sample RUN [options]         draw images from a run's weights
  score RUN [FILES]            bits/dim of each image; the likeliest and the least likely
  interpolate RUN [FILES]      draw the way from one image to another
  reconstruct RUN [FILES]      draw what each level of the model holds
  edit RUN --attribute NAME    draw images with more and less of an attribute
  report RUN [options]         write one page on a run: figures, curves, pictures
  compress RUN [FILES]         write images to one file, as small as their bits/dim say
  decompress RUN FILE          read them back, bit for bit
  export RUN [options]         write a model to hand on: safetensors, programs, a card
  data NAME [options]          download or find a data set, and prepare it
  suggest NAME [options]       say which options suit images of your own
  launch N COMMAND ...         train or eval on N processes of this machine

Each takes --help; `glowjax train EXPERIMENT --help` lists every option of the experiment.
`glowjax --version` prints the version.
GLOWJAX_TRACEBACK=1 shows where an error came from.
"""


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
        status = _status(_command(name), rest)
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


def _command(name: str) -> Callable[[list[str]], None]:
    """A command's function; what the others need is not imported."""
    module, function = COMMANDS[name]
    return getattr(importlib.import_module(f"glowjax.commands.{module}"), function)


COMMANDS = {  # where each is
    "train": ("train", "train"),
    "eval": ("evaluate", "evaluate"),
    "sample": ("sample", "sample"),
    "data": ("data", "data"),
    "suggest": ("data", "suggest"),
    "score": ("score", "score"),
    "interpolate": ("latents", "interpolate"),
    "reconstruct": ("latents", "reconstruct"),
    "edit": ("latents", "edit"),
    "report": ("report", "report"),
    "compress": ("compress", "compress"),
    "decompress": ("compress", "decompress"),
    "export": ("export", "export"),
    "launch": ("train", "launch"),
}
