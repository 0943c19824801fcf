"""glowjax eval."""

import json
from dataclasses import dataclass
from typing import Literal

from glowjax.commands.options import Hosts, Weights, parse, report
from glowjax.runs import hosts, results


@dataclass(frozen=True, kw_only=True)
class Eval(Weights, Hosts):
    """Bits per dimension of a run's weights on a whole split."""

    split: Literal["train", "validation", "test"] = "test"
    samples: int | None = None
    """Draws of dequantization noise per image; default: the run's evaluate_samples."""
    batch_size: int | None = None
    """Images at a time, over all devices; default: the run's."""
    json: bool = False
    """Print the result as JSON."""


def evaluate(arguments: list[str]) -> None:
    """Evaluates a run's weights."""
    options = parse(Eval, "eval", arguments)
    options.connect()
    result = results.evaluate(
        options.run,
        split=options.split,
        checkpoint=options.checkpoint,
        weights=options.weights,
        samples=options.samples,
        batch_size=options.batch_size,
    )
    if options.json and hosts.is_first_host():
        print(json.dumps({"split": options.split} | result))
    elif not options.json:
        report(result, options.split)
