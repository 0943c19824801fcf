"""python -m experiments.bench train | sample | compile | memory | scale | …: a table each."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from experiments.bench import (
    angles,
    codec,
    compile,
    defaults,
    exactness,
    fits,
    flows,
    many,
    memory,
    planar,
    precision,
    sample,
    scale,
    train,
)

COMMANDS: dict[str, Callable[..., Any]] = {
    "angles": angles.main,
    "train": train.main,
    "sample": sample.main,
    "compile": compile.main,
    "memory": memory.main,
    "exactness": exactness.main,
    "defaults": defaults.main,
    "fits": fits.main,
    "flows": flows.main,
    "many": many.main,
    "precision": precision.main,
    "planar": planar.main,
    "scale": scale.main,
    "codec": codec.main,
}

if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS)
    except ValueError as error:
        sys.exit(f"experiments.bench: {error}")
