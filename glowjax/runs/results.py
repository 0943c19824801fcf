"""What a run has learned: its weights read back, scored, sampled and drawn."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glowjax import data, plots
from glowjax.checks import NON_NEGATIVE, check_choice, check_in, check_integer, check_positive
from glowjax.densities.discrete_images import to_uint8
from glowjax.files import write_whole
from glowjax.fitting.descent import TrainState
from glowjax.progress import CONSOLE
from glowjax.runs.config import Config
from glowjax.runs.folder import Run
from glowjax.runs.hosts import check_same, host_shard, in_turn, on_first_host
from glowjax.runs.steps import Params, Trainer, check_batch_size, make_trainer, mapped, replicate
from glowjax.runs.trained import ImageModel

SAMPLE_CHUNK = 64  # images sampled at a time
RESULTS = "results.json"  # in a run's folder


Sources = Mapping[str, data.Source]  # splits of data by name


def load(config: Config, split: str, sources: Sources | None = None) -> data.Source:
    """A split of the experiment's data, or of `sources` if they are given."""
    if sources is not None:
        check_choice("split", split, sources)
        return sources[split]
    d = config.data
    return data.load(
        d.name,
        split,
        data_dir=d.data_dir,
        archives=d.archives,
        validation=d.validation,
        resize=d.resize,
        progress=sys.stderr.isatty(),
    )


def evaluate(
    run_dir: Path,
    *,
    split: str = "test",
    checkpoint: str | int = "best",
    weights: str | None = None,
    samples: int | None = None,
    batch_size: int | None = None,
    sources: Sources | None = None,
) -> dict[str, Any]:
    """Bits/dim of a run's weights on a whole split; kept in the run's results.json.

    Args:
        run_dir: of the run.
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
    with contextlib.closing(Run.open(run_dir, read_only=True)) as run:
        config = run.config
        batch_size = config.batch_size if batch_size is None else batch_size
        samples = config.evaluate_samples if samples is None else samples
        check_positive(batch_size=batch_size, samples=samples)
        check_batch_size(batch_size)
        weights = weights or config.evaluate_with
        trainer, params, step = restore_weights(run, checkpoint, weights)
    source = in_turn(lambda: load(config, split, sources))
    check_same(data=source.fingerprint())
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


def sample(
    run_dir: Path,
    num: int,
    *,
    temperature: float = 0.7,
    label: int | None = None,
    checkpoint: str | int = "best",
    weights: str | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draws images from a run's weights: uint8 `[num, H, W, C]`.

    Args:
        run_dir: of the run.
        num: how many.
        temperature: of the latents.
        label: for a conditional model: the class of all; default: as many of each, class by class.
        checkpoint, weights: as for `evaluate`.
        seed: same seed, same images.

    Raises:
        ValueError: an argument is not as above, or the run cannot be read.
    """
    check_positive(num=num)
    check_integer("seed", seed, 0, 2**32 - 1)
    check_in(NON_NEGATIVE, temperature=temperature)
    with contextlib.closing(Run.open(run_dir, read_only=True)) as run:
        weights = weights or run.config.evaluate_with
        trainer, params, _ = restore_weights(run, checkpoint, weights)
    model = image_model(trainer, run.config, run.images)
    return _draw(model, params.flow, num, _labels(model, label, num), temperature, seed)


def pictures(run: Run, trainer: Trainer, params: Params, source: data.Source) -> None:
    """Draws samples.png (real above, sampled below) and curves.png."""
    config, model = run.config, image_model(trainer, run.config, run.images)
    count = min(config.sample_count, len(source))
    real = config.data.transform(source.images[np.arange(count)])
    labels = _labels(model, None, count)
    sampled = _draw(model, params.flow, count, labels, config.temperature, config.seed)
    title = f"{config.data.name}, temperature {config.temperature:g}"
    plots.sample_sheet(
        run.folder / "samples.png",
        real=np.asarray(to_uint8(real, levels=model.levels)),
        samples=sampled,
        title=title,
    )
    plots.curves(run.folder / "curves.png", run.history(), title=run.folder.name)


def _draw(model, params, num, labels, temperature, seed) -> np.ndarray:
    drawn = []
    key = jax.random.key(seed)
    chunk = min(num, SAMPLE_CHUNK)
    for start in range(0, num, chunk):
        context = None if labels is None else np.resize(labels[start:], chunk)
        images = model.sample(params, jax.random.fold_in(key, start), chunk, temperature, context)
        drawn.append(to_uint8(images, levels=model.levels))
    return np.concatenate(drawn)[:num]


def _labels(model, label, num):
    if not model.conditional:
        if label is not None:
            raise ValueError(f"label must be left out: the model is not conditional, got {label}")
        return None
    if label is None:
        return np.sort(np.arange(num, dtype=np.int32) % model.num_classes)
    if not 0 <= label < model.num_classes:
        raise ValueError(f"label must be in 0..{model.num_classes - 1}, got {label}")
    return np.full(num, label, np.int32)


def whole(source: data.Source, config: Config, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """This host's part of every example of a split, once."""
    return data.eval_batches(
        source, batch_size=batch_size, transform=config.data.transform, shard=host_shard()
    )


def image_model(trainer: Trainer, config: Config, images: dict[str, Any]) -> ImageModel:
    """The model of a run, for those who have images of whole numbers."""
    return ImageModel(density=trainer.density, config=config, **images)


def restore_weights(run: Run, which: Any, weights: str) -> tuple[Trainer, Params, int]:
    """A run's functions and the weights of a checkpoint, for evaluation and sampling.

    Raises:
        ValueError: there is no such checkpoint, or there are no such weights in it.
    """
    check_choice("weights", weights, ("ema", "raw"))
    if weights == "ema" and run.config.ema is None:
        raise ValueError("weights must be 'raw': the run kept no average")
    trainer = make_trainer(run.config, **run.images)
    state = run.checkpoints.restore(abstract_state(trainer, run.images), which)
    return trainer, state.weights(weights), int(state.step)


def abstract_state(trainer: Trainer, images: dict[str, Any]) -> TrainState:
    """Shapes and dtypes of the state of a run on such images."""
    batch = {
        "image": jax.ShapeDtypeStruct((2, *images["image_shape"]), jnp.uint8),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    return jax.eval_shape(trainer.init, batch)
