"""glowjax score."""

import csv
import functools
import io
import json
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from sklearn.metrics import roc_auc_score

from glowjax import plots
from glowjax.checks import check_choice, check_positive
from glowjax.commands.options import Images, check_file, in_chunks, parse
from glowjax.densities.quantization import to_uint8
from glowjax.files import write_whole
from glowjax.runs.given import Given, read_split
from glowjax.runs.trained import ImageModel

SHOWN = 12  # images in a row of the sheet


@dataclass(frozen=True, kw_only=True)
class Score(Images):
    """Bits per dimension of each image, as a table, and a sheet of the likeliest and the least."""

    num: int | None = None
    """How many images of the split; default: all."""
    samples: int | None = None
    """Draws of dequantization noise per image; default: the run's evaluate_samples."""
    table: Path | None = None
    """The table, a path that ends in .csv or .json; default: beside the sheet, .csv."""
    against: str | None = None
    """Another data set, whose images ought to be less likely; prints how often one of them is
    (the area under the ROC curve)."""


def score(arguments: list[str]) -> None:
    """Scores images by a run's weights."""
    options = parse(Score, "score", arguments)
    path = options.path(options.out, "scores.png")
    check_file(path)
    table = path.with_suffix(".csv") if options.table is None else options.table.expanduser()
    check_choice("table", table.suffix, (".csv", ".json"))
    model, params = options.load()
    samples = model.config.evaluate_samples if options.samples is None else options.samples
    check_positive(samples=samples)
    given = options.images(model, options.num)
    others = None
    if options.against is not None:
        others = read_split(model, "test", num=options.num, name=options.against)
    bits = bits_of(model, params, given, samples)
    table.parent.mkdir(parents=True, exist_ok=True)
    write_whole(table, _table(table.suffix, given, bits))
    sheet = {"likeliest": np.argsort(bits)[:SHOWN], "least likely": np.argsort(-bits)[:SHOWN]}
    images = np.asarray(to_uint8(given.images, levels=model.levels))
    plots.image_rows(path, {name: images[index] for name, index in sheet.items()})
    lowest, mean, highest = (f"{b:.4f}" for b in (bits.min(), bits.mean(), bits.max()))
    print(f"{len(bits):,} images: {mean} bits/dim, from {lowest} to {highest}")
    if others is not None:
        against = bits_of(model, params, others, samples)
        area = roc_auc_score([0] * len(bits) + [1] * len(against), [*bits, *against])
        print(f"{options.against}: {len(against):,} images: {against.mean():.4f} bits/dim")
        print(f"they are less likely in {area:.1%} of pairs (AUROC {area:.4f})")
    print(f"{table}\n{path}")


def bits_of(model: ImageModel, params, given: Given, samples: int) -> np.ndarray:
    """Bits/dim of each image, the mean of several draws of noise."""

    def one(key, images, labels):
        return model.bits_per_dim(params, images, key, labels)

    labels = given.labels if model.conditional else None
    keys = jax.random.split(jax.random.key(model.config.seed), samples)
    draws = [
        in_chunks(f"draw {i} of {samples}", functools.partial(one, key), given.images, labels)
        for i, key in enumerate(keys, 1)
    ]
    return np.mean(draws, axis=0)


def _table(kind: str, given: Given, bits: np.ndarray) -> str:
    """The scores as CSV or JSON."""
    labels = [None] * len(bits) if given.labels is None else [int(i) for i in given.labels]
    rows = [
        {"image": name, "label": label, "bits_per_dim": round(float(b), 6)}
        for name, label, b in zip(given.names, labels, bits, strict=True)
    ]
    if kind == ".json":
        return json.dumps(rows, indent=2) + "\n"
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
