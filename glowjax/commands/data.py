"""glowjax data | suggest."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import tyro

from glowjax.commands.options import parse
from glowjax.runs.suggest import as_arguments, facts_of
from glowjax.runs.suggest import suggest as options_for


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Prepare a data set: digits, mnist, fashion_mnist, cifar10, any of tensorflow-datasets, or
    images of your own."""

    name: tyro.conf.Positional[str]
    """Of the data set, with its config if any: mnist, celeb_a_hq/256, …; or folder:PATH, a folder
    of image files; or PATH.npy or PATH.npz, a file of arrays."""
    data_dir: Path | None = None
    """Folder of prepared data sets; default: that of tensorflow-datasets."""
    archives: Path | None = None
    """Folder that holds the original archives, used instead of a download."""


def data(arguments: list[str]) -> None:
    """Prepares a data set."""
    options = parse(Prepare, "data", arguments)
    from glowjax.data.prepare import prepare

    builder = prepare(
        options.name, data_dir=options.data_dir, archives=options.archives, progress=True
    )
    for split, info in builder.info.splits.items():
        print(f"{split}: {info.num_examples:,} examples")
    print(builder.data_dir)


@dataclass(frozen=True, kw_only=True)
class Suggest:
    """Say which options of `glowjax train` suit images, of your own perhaps, and this machine."""

    name: tyro.conf.Positional[str]
    """As for `glowjax data`."""
    data_dir: Path | None = None
    """Folder of prepared data sets; default: that of tensorflow-datasets."""


def suggest(arguments: list[str]) -> None:
    """Suggests a command that trains on a data set."""
    given = parse(Suggest, "suggest", arguments)
    facts = facts_of(given.name, given.data_dir)
    heights, widths = zip(*facts.sizes, strict=True)
    sides = (f"{min(s)}" + f"–{max(s)}" * (min(s) < max(s)) for s in (heights, widths))
    classes = f", {facts.classes} classes" if facts.classes else ""
    channels = f"{facts.channels} channel{'s' * (facts.channels > 1)}"
    print(
        f"{facts.count:,} images of {'×'.join(sides)}, {channels}{classes};"
        f" {facts.extreme:.0%} of the numbers are black or white"
    )
    if facts.classes:
        print("Add --model.conditional for a model that is given the class of each image.")
    options = {"data.name": given.name}
    if given.data_dir is not None:
        options["data.data-dir"] = str(given.data_dir)
    words = as_arguments(options | options_for(facts))
    print(shlex.join(["glowjax", "train", "glow_folder", *words]))
