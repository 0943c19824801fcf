"""The training run: data, steps, log, progress, checkpoints and pictures."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from glowjax import data
from glowjax.checks import require
from glowjax.data.transform import pair
from glowjax.fitting.descent import TrainState
from glowjax.fitting.optim import warmup_images
from glowjax.progress import CONSOLE, progress
from glowjax.runs.checkpoints import METRIC
from glowjax.runs.config import Config, flat, to_json
from glowjax.runs.failed import save_failed
from glowjax.runs.folder import Run, check_new
from glowjax.runs.hosts import check_same, host_shard, in_turn, is_first_host, on_first_host
from glowjax.runs.pictures import pictures
from glowjax.runs.results import evaluate
from glowjax.runs.signals import Stopped, deferred
from glowjax.runs.sources import Sources, load_split, size_of, warn_of_others, whole
from glowjax.runs.steps import (
    Mapped,
    Params,
    Trainer,
    check_batch_size,
    make_trainer,
    mapped,
    on_one_device,
    replicate,
)
from glowjax.runs.tensorboard import board
from glowjax.runs.trained import image_model

MOVABLE = ("data.data_dir", "data.archives")  # may differ when a run is resumed


def train(
    config: Config, run_dir: Path, *, resume: bool = False, sources: Sources | None = None
) -> dict[str, float]:
    """Trains an experiment and evaluates its best weights on the test split.

    Leaves in `run_dir`: config.json, checkpoints/, metrics.jsonl, tensorboard/, samples.png,
    curves.png, results.json.

    Args:
        config: the experiment.
        run_dir: a new or empty folder; with `resume`, that of the run to go on with.
        resume: goes on from the last checkpoint, exactly as if the run had not stopped.
        sources: images of your own in memory, by split: "train", "validation" and "test"; default:
            the data set that `config.data` names.

    Returns:
        The test split's bits_per_dim with its standard_error and count.

    Raises:
        ValueError: a bad config, or a bad folder.
        FloatingPointError: a loss or gradient is not finite; the last checkpoint stays as it was,
            and failed/ gets the batch and the state of the step.
        OSError: a checkpoint cannot be written; the one before stays as it was.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    check_batch_size(config.batch_size)
    fields = flat(to_json(config))
    check_same(resume=resume, **{name: fields[name] for name in fields if name not in MOVABLE})
    with contextlib.ExitStack() as stack:
        if resume:
            run = stack.enter_context(contextlib.closing(Run.open(run_dir)))
            in_turn(lambda: _check_resumes(run, config))
        else:
            on_first_host(lambda: check_new(run_dir))
        source, validation = in_turn(
            lambda: [load_split(config, split, sources) for split in ("train", "validation")]
        )
        test = in_turn(lambda: load_split(config, "test", sources).fingerprint())  # not kept
        fingerprints = {
            "train": source.fingerprint(),
            "validation": validation.fingerprint(),
            "test": test,
        }
        check_same(**fingerprints)
        images = {
            "image_shape": config.data.transform.image_shape(source),
            "levels": config.data.transform.levels(source),
            "num_classes": source.num_classes,
        }
        trainer = make_trainer(config, **images)
        _check_fits(config, source, images["image_shape"])
        _check_whole(trainer, config, source, validation)
        first = data.batch(source, 0, **_stream(config))
        trainer.check(first)
        shapes = jax.eval_shape(trainer.init, first)  # refuses what does not fit, before any work
        if resume:
            _check_same_images(run, images, fingerprints)
            run.go_on_with(config)
        else:
            run = stack.enter_context(
                contextlib.closing(
                    Run.create(run_dir, config, images, fingerprints, source.class_names)
                )
            )
        on_devices = mapped(trainer)
        summarise(config, source, shapes.params)
        if resume and run.checkpoints.step() is not None:
            state = replicate(run.checkpoints.restore(shapes))
        else:
            state = on_devices.init(first)
        start = int(on_one_device(state.step))
        run.forget_after(start)
        if start:
            CONSOLE.print(f"resumed after step {start:,}")
        with deferred() as stopped:
            _steps(run, trainer, on_devices, source, validation, state, start, stopped)
    return evaluate(run_dir, sources=sources)


def summarise(config: Config, source: data.Source, params: Params) -> None:
    """Prints what is trained on what, and the parameters by level."""

    def count(tree):
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

    table = Table("part", "array", "parameters", box=None, header_style="bold")
    shape = config.data.transform.image_shape(source)
    for part, array, weights in config.model.outline(params.flow, shape):
        table.add_row(part, array, f"{count(weights):,}")
    if params.classifier is not None:
        table.add_row("classifier", "", f"{count(params.classifier):,}")
    table.add_row("total", "", f"{count(params):,}", style="bold")
    CONSOLE.print(
        f"{len(source):,} training images of {config.data.name}, "
        f"{config.data.transform.levels(source)} grey levels; {config.train_steps:,} steps of"
        f" {config.batch_size} on {jax.device_count()} × {jax.devices()[0].device_kind}"
    )
    CONSOLE.print(table)


def _steps(
    run: Run,
    trainer: Trainer,
    on_devices: Mapped,
    source: data.Source,
    validation: data.Source,
    state: TrainState,
    start: int,
    stopped: Callable[[int], signal.Signals | None],
) -> None:
    """Trains from step `start` to the end, or until `stopped`."""
    config = run.config
    stop = config.train_steps
    pending: list[dict[str, Any]] = run.checkpoints.unlogged(start)
    since, timed = time.perf_counter(), start
    with _writer(run, start) as write, progress(stop, start) as advance:
        batches = data.batches(source, start, stop, **_stream(config), shard=host_shard())
        for step, batch in enumerate(batches, start + 1):
            state, metrics = on_devices.train_step(state, batch)
            pending.append(metrics)
            asked = stopped(step)
            evaluates = step % config.evaluate_every == 0 or step == stop
            logs = evaluates or step % config.log_every == 0
            if logs or asked:
                pending = _finite(pending, step, run, source, state)
            if logs:
                row = _row(config, step, pending, (time.perf_counter() - since) / (step - timed))
                write(row)
                bits, speed = row["train_bits_per_dim"], row["images_per_second"]
                advance(step, f"{bits:.3f} bits/dim, {speed:,.0f} images/s")
                pending, since, timed = [], time.perf_counter(), step
            if evaluates:
                _evaluate_and_save(run, trainer, on_devices, source, validation, state, step, write)
                since = time.perf_counter()
            elif asked:
                run.checkpoints.save(step, on_one_device(state), unlogged=pending)
            if asked:
                run.checkpoints.wait()
                raise Stopped(asked, step)
        run.checkpoints.wait()
        if asked := stopped(stop + 1):  # during the last evaluation
            raise Stopped(asked, stop)


def _row(config, step, metrics, seconds) -> dict[str, float]:
    """The log's row: means since the last one, over steps of `seconds` each."""
    means = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
    speed = {"images_per_second": config.batch_size / seconds}
    return {"step": step, "images": step * config.batch_size} | means | speed


def _evaluate_and_save(run, trainer, on_devices, source, validation, state, step, write) -> None:
    config = run.config
    batches = whole(validation, config, config.batch_size)
    weights = state.weights(config.evaluate_with).flow
    bits = on_devices.evaluate(weights, batches)["bits_per_dim"]
    if not np.isfinite(bits):  # a step of finite gradients may still have led too far
        raise _not_finite(run, source, step, f"{METRIC} {bits}", "after", on_one_device(state))
    write({"step": step, "images": step * config.batch_size, METRIC: bits})
    CONSOLE.print(f"step {step:,}: validation {bits:.4f} bits/dim")
    run.checkpoints.save(step, on_one_device(state), bits)

    def draw():
        with run.checkpoints.writing("a picture"):
            model = image_model(trainer, config, run.images, run.class_names)
            pictures(run, model, on_one_device(weights), source)

    on_first_host(draw)


def _stream(config: Config) -> dict[str, Any]:
    return {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "transform": config.data.transform,
    }


def _finite(pending, step, run, source, state) -> list[dict[str, Any]]:
    """Metrics of the last steps as numbers; stops the run at the first that is not finite."""
    rows = [{k: float(v) for k, v in row.items()} for row in jax.device_get(pending)]
    for number, row in enumerate(rows, step - len(rows) + 1):
        bad = [f"{name} {value}" for name, value in row.items() if not np.isfinite(value)]
        if bad:
            done = np.array(number - 1, np.int32)  # the state has a mark there: train.halted
            before = on_one_device(state)._replace(step=done)
            raise _not_finite(run, source, number, ", ".join(bad), "before", before)
    return rows


def _not_finite(run, source, step, what, when, state) -> FloatingPointError:
    try:
        batch = data.batch(source, step - 1, **_stream(run.config))
        folder = save_failed(run.folder, state, batch)
        kept = f"{folder} holds the step's batch and the state {when} it"
    except (OSError, ValueError) as error:  # the disk is full, too
        kept = f"its batch and state are not kept: {error}"
    with contextlib.suppress(OSError, ValueError):  # the last good one, if it can be written
        run.checkpoints.wait()
    return FloatingPointError(
        f"step {step}: {what}; stopped, {run.checkpoints.last_good()}; {kept}. A lower"
        " optimizer.learning_rate, a longer optimizer.warmup_images or optimizer.clip_norm may help"
    )


def _check_fits(config: Config, source: data.Source, shape: tuple[int, int, int]) -> None:
    """Refuses images that the model cannot halve so often, and says what would make them fit."""
    divisor, (height, width) = config.model.divisor, shape[:2]
    if config.data.transform.first_crop is not None:
        crop = pair("first_crop", config.data.transform.first_crop)
        wanted = f"divisible by {divisor} for this model"
        require(not any(side % divisor for side in crop), "data.transform.first_crop", crop, wanted)
    if height % divisor == width % divisor == 0:
        return
    ways = []
    if min(height, width) >= divisor:
        crop = height // divisor * divisor, width // divisor * divisor
        ways.append(f"data.transform.crop={crop}")
    if not config.data.transform.pad and config.data.transform.crop is None:
        more = [-side % divisor for side in (height, width)]
        pad = tuple((m // 2, m - m // 2) for m in more)
        ways.append(f"data.transform.pad={pad}")
    ways.append("fewer levels of the model")
    raise ValueError(
        f"images of {source.name} must have height and width divisible by {divisor} for this model,"
        f" got {height}×{width}; what would fit: {', or '.join(ways)}"
    )


def _check_whole(trainer: Trainer, config: Config, *sources: data.Source) -> None:
    """Refuses, before any work, labels out of range anywhere among those kept in memory."""
    for source in sources:
        if isinstance(source.labels, np.ndarray):
            image = config.data.transform(source.images[np.arange(1)])
            try:
                trainer.check({"image": image, "label": source.labels})
            except ValueError as error:
                raise ValueError(f"{source.name}, split {source.split!r}: {error}") from None


def _check_resumes(run: Run, config: Config) -> None:
    """Refuses to resume with another config; data moved elsewhere are welcome, and so are more
    steps where the learning rate does not depend on their number.
    """
    given, before = _schedule(config), _schedule(run.config)
    may_differ = MOVABLE if config.optimizer.decay == "cosine" else (*MOVABLE, "train_steps")
    both = before | given  # models of two kinds have other fields
    differing = [
        f"{name} {before.get(name, 'absent')} -> {given.get(name, 'absent')}"
        for name in both
        if given.get(name) != before.get(name) and name not in may_differ
    ]
    if differing:
        raise ValueError(
            f"config must be the run's own to resume it; differing: {', '.join(differing)}"
        )
    done = run.checkpoints.step() or 0
    if config.train_steps < done:
        raise ValueError(
            f"train_steps must be at least {done}, the steps that the run has done,"
            f" got {config.train_steps}"
        )


def _schedule(config: Config) -> dict[str, Any]:
    """A config's fields, with the warm-up that it comes to."""
    images = warmup_images(
        config.optimizer, batch_size=config.batch_size, total_steps=config.train_steps
    )
    return flat(to_json(config)) | {"optimizer.warmup_images": images}


def _check_same_images(run: Run, images: dict[str, Any], fingerprints: dict[str, str]) -> None:
    """Refuses to resume on data of another kind or number; they may have moved (`MOVABLE`)."""
    require(images == run.images, "data", images, f"{run.images}, as the run began with")
    for split, found in fingerprints.items():
        before = run.data.get(split, found)
        wanted = f"the images that the run began with ({before})"
        require(size_of(found) == size_of(before), f"{split} data", found, wanted)
        warn_of_others(split, run.data, found)


@contextlib.contextmanager
def _writer(run: Run, start: int) -> Generator[Any, None, None]:
    """Yields a function that logs a row to metrics.jsonl and TensorBoard, on the first host."""
    if not is_first_host():
        yield lambda row: None
        return
    with board(run.folder / "tensorboard", start + 1) as show:

        def write(row):
            numbers = {name: row[name] for name in row if name not in ("step", "images")}
            with run.checkpoints.writing("its log"):
                run.log(row)
                show(row["step"], numbers)

        yield write
