"""What a trained model scores on a split, and the record of it."""

import json
from pathlib import Path
from typing import Any

from glowjax.checks import check_positive
from glowjax.files import write_whole
from glowjax.progress import CONSOLE
from glowjax.runs.checkpoints import Which
from glowjax.runs.folder import read_about
from glowjax.runs.hosts import check_same, in_turn, on_first_host
from glowjax.runs.loading import restore
from glowjax.runs.sources import Sources, load_split, warn_of_others, whole
from glowjax.runs.steps import check_batch_size, make_trainer, mapped, replicate

RESULTS = "results.json"  # in a run's folder


def evaluate(
    run_dir: Path,
    *,
    split: str = "test",
    checkpoint: Which | int = "best",
    weights: str | None = None,
    samples: int | None = None,
    batch_size: int | None = None,
    sources: Sources | None = None,
) -> dict[str, Any]:
    """Bits/dim of trained weights on a whole split; kept in their folder's results.json.

    Args:
        run_dir: of the run, or of an exported model.
        split: train, validation or test.
        checkpoint: `"best"` on validation, `"latest"`, or a step.
        weights: `"ema"` or `"raw"`; default: the config's.
        samples: draws of dequantization noise per image; default: the config's.
        batch_size: default: the config's.
        sources: as for `train`.

    Returns:
        bits_per_dim, its standard_error over images, count, step.

    Raises:
        ValueError: an argument is not as above, or the run cannot be read.
    """
    check_same(
        split=split,
        checkpoint=checkpoint,
        weights=weights,
        samples=samples,
        batch_size=batch_size,
    )
    model, params, step, weights = restore(run_dir, checkpoint, weights)
    config = model.config
    batch_size = config.batch_size if batch_size is None else batch_size
    samples = config.evaluate_samples if samples is None else samples
    check_positive(batch_size=batch_size, samples=samples)
    check_batch_size(batch_size)
    trainer = make_trainer(config, **model.images)
    source = in_turn(lambda: load_split(config, split, sources))
    found = source.fingerprint()
    check_same(data=found)
    warn_of_others(split, read_about(Path(run_dir).expanduser())[2].get("data", {}), found)
    batches = whole(source, config, batch_size)
    result = mapped(trainer).evaluate(replicate(params), batches, samples) | {"step": step}
    about = {"split": split, "step": step, "weights": weights, "samples": samples}
    on_first_host(lambda: _keep(Path(run_dir) / RESULTS, about, result))
    return result


def _keep(path: Path, about: dict[str, Any], result: dict[str, Any]) -> None:
    """Writes a result among those kept, in the place of one of the same kind."""
    try:
        others = [kept for kept in kept_results(path.parent) if about.items() - kept.items()]
        write_whole(path, json.dumps([*others, about | result], indent=2) + "\n")
    except (OSError, ValueError) as error:  # others' runs may be looked at, and not written to
        CONSOLE.print(f"warning: the result is not kept in {path}: {error}")


def kept_results(run_dir: Path) -> list[dict[str, Any]]:
    """What evaluations of a run found: split, step, weights, samples, and `evaluate`'s result.

    Raises:
        ValueError: results.json is not ours.
    """
    path = Path(run_dir) / RESULTS
    if not path.exists():
        return []
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        return [dict(result) for result in results]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not ours, remove it: {error}") from error
