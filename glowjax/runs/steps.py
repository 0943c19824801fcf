"""Training and evaluation on devices: the only place that knows how many there are.

Steps are written for one device, with `lax.pmean` and `lax.psum` over the axis "data", and mapped
by `jax.pmap` over all devices of all hosts.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.experimental.multihost_utils import broadcast_one_to_all

from glowjax.compose import chain, passing_by
from glowjax.densities.density import Density
from glowjax.densities.quantization import bits_per_dim, check_images
from glowjax.fitting.descent import TrainState, descent
from glowjax.fitting.optim import learning_rate_schedule, make_optimizer
from glowjax.flow import Flow
from glowjax.nets.layers import ZeroDense
from glowjax.runs.config import Config
from glowjax.runs.likelihood import (
    DROPOUT,
    EVALUATION_NOISE,
    LABELS,
    TRAIN_NOISE,
    Likelihood,
    noise_keys,
    step_key,
)
from glowjax.runs.models import dequantizer, label_dropout, without_dropout
from glowjax.runs.parts import NO_LABEL

AXIS = "data"


class Params(NamedTuple):
    """What is trained: the flow's parameters, and the classifier's where there is one."""

    flow: Any
    classifier: Any = None


class Trainer(NamedTuple):
    """The pure functions of an experiment, for one device; `mapped` maps them over all.

    init(batch)                              -> state
    train_step(state, batch)                 -> (state, metrics)
    evaluate_step(params, batch, samples)    -> sums over examples of all devices, of the flow's
                                                params
    check(batch)                             raises ValueError for what is missing or out of range
    """

    density: Density
    conditional: bool
    check: Callable[[dict[str, np.ndarray]], None]
    init: Callable[..., TrainState]
    train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    evaluate_step: Callable[..., dict[str, jax.Array]]


@functools.lru_cache(maxsize=4)  # so that an evaluation after training compiles nothing again
def make_trainer(
    config: Config, *, image_shape: tuple[int, int, int], levels: int, num_classes: int | None
) -> Trainer:
    """Assembles the functions of an experiment on images of `levels` grey levels.

    Raises:
        ValueError: the data have no labels, and a conditional model or a classifier needs them;
            the model has one part, and a classifier needs what comes before the last.
    """
    parts = without_dropout(config.model).parts(num_classes)
    if config.classifier_weight > 0:
        _check_classifier(config, num_classes, len(parts))
    steps = _Steps(config, parts, image_shape, levels, num_classes)
    return Trainer(
        density=steps.density,
        conditional=config.model.conditional,
        check=steps.check,
        init=steps.init,
        train_step=steps.train_step,
        evaluate_step=steps.evaluate_step,
    )


def _check_classifier(config: Config, num_classes: int | None, parts: int) -> None:
    if num_classes is None:
        raise ValueError("classifier_weight must be 0 for data without labels")
    if parts == 1:
        kind = config.model.kind
        raise ValueError(
            f"classifier_weight must be 0 for the model {kind!r}, got {config.classifier_weight}:"
            " it has no top latent that a classifier could see"
        )


class _Steps:
    """The functions of a `Trainer`, of one experiment."""

    def __init__(
        self,
        config: Config,
        parts: dict[str, Flow],
        image_shape: tuple[int, int, int],
        levels: int,
        num_classes: int | None,
    ):
        self.config, self.parts = config, parts
        evaluated = without_dropout(config.model)
        self.likelihood = Likelihood(chain(**parts), levels, dequantizer(evaluated, levels))
        self.in_training = self.likelihood
        self.drops = evaluated != config.model
        if self.drops:
            flow = chain(**config.model.parts(num_classes))
            self.in_training = Likelihood(flow, levels, dequantizer(config.model, levels))
        self.density = self.likelihood.density(image_shape)
        self.levels, self.num_classes = levels, num_classes
        self.classes = num_classes if config.classifier_weight > 0 else None
        run_length = {"batch_size": config.batch_size, "total_steps": config.train_steps}
        optimizer = make_optimizer(config.optimizer, **run_length)
        self.learning_rate = learning_rate_schedule(config.optimizer, **run_length)
        self.descent = descent(self.objective, optimizer, decay=config.ema, axis_name=AXIS)

    def check(self, batch):
        check_images(batch["image"], self.levels)
        if self.num_classes is not None and (self.config.model.conditional or self.classes):
            _check_labels(batch.get("label"), self.num_classes)

    def init(self, batch):
        key, images = jax.random.key(self.config.seed), batch["image"]
        keys = noise_keys(self.config.seed, TRAIN_NOISE, 0, jnp.arange(len(images)))
        context = self._context(batch)
        params = Params(self.likelihood.init(key, images, keys, context))
        if self.classes is not None:
            z, _ = self.likelihood.encode(params.flow, images, keys, context)
            h = self._features(params, z, batch)
            params = params._replace(classifier=classifier_init(key, h, self.classes))
        return self.descent.init(params)

    def objective(self, params, batch, step):
        size = len(batch["image"])
        index = lax.axis_index(AXIS) * size + jnp.arange(size)
        keys = noise_keys(self.config.seed, TRAIN_NOISE, step, index)
        z, log_prob = self.in_training.encode(
            params.flow,
            batch["image"],
            keys,
            self._context_in_training(batch, step, index),
            self._dropout_key(step),
        )
        loss = jnp.mean(self._bits(log_prob, batch))
        metrics = {"train_bits_per_dim": loss}
        if self.classes is not None:
            h = self._features(params, z, batch)
            cross_entropy, accuracy = classifier_loss(params.classifier, h, batch["label"])
            metrics |= {"train_cross_entropy_bits": cross_entropy, "train_accuracy": accuracy}
            loss += self.config.classifier_weight * cross_entropy
        return loss, metrics

    def train_step(self, state, batch):
        stepped, metrics = self.descent.step(state, batch)
        stepped = halted(state, stepped, metrics)
        return stepped, metrics | {"learning_rate": self.learning_rate(state.step)}

    def evaluate_step(self, params, batch, samples):
        def sample_bits(sample):
            keys = noise_keys(self.config.seed, EVALUATION_NOISE, sample, batch["index"])
            context = self._context(batch)
            _, log_prob = self.likelihood.encode(params, batch["image"], keys, context)
            return self._bits(log_prob, batch)

        mean = jnp.mean(lax.map(sample_bits, jnp.arange(samples)), axis=0)
        weight = batch["weight"]
        sums = {"count": weight, "bits": weight * mean, "squares": weight * jnp.square(mean)}
        return lax.psum(jax.tree.map(jnp.sum, sums), AXIS)

    def _dropout_key(self, step):
        """A device's key for one step; of several devices, other numbers than one drops."""
        if not self.drops:
            return None
        return jax.random.fold_in(step_key(self.config.seed, DROPOUT, step), lax.axis_index(AXIS))

    def _context(self, batch):
        return batch["label"] if self.config.model.conditional else None

    def _context_in_training(self, batch, step, index):
        labels, rate = self._context(batch), label_dropout(self.config.model)
        if not rate:
            return labels
        keys = noise_keys(self.config.seed, LABELS, step, index)
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)
        return jnp.where(dropped, NO_LABEL, labels)

    def _bits(self, log_prob, batch):
        return bits_per_dim(log_prob, batch["image"].shape[1:], levels=self.levels)

    def _features(self, params, z, batch):
        """The top latent before the last part has whitened it, which the classifier sees."""
        name, last = [*self.parts.items()][-1]
        (*_, h), _ = passing_by(last).inverse(params.flow[name], z, self._context(batch))
        return h


def _check_labels(labels: Any, num_classes: int) -> None:
    wanted = f"in 0..{num_classes - 1} for a conditional model or a classifier"
    if labels is None:
        raise ValueError(f"labels must be {wanted}, got none")
    labels = np.asarray(labels)
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise ValueError(
            f"labels must be {wanted}, got {labels.min()}..{labels.max()}, that of image"
            f" {wrong[0]} being {labels[wrong[0]]}, the first out of range: labels count from 0"
        )


def halted(before: TrainState, after: TrainState, metrics: dict[str, jax.Array]) -> TrainState:
    """The state `after` a step; from the first step with a metric that is not finite, `before`.

    The host looks at metrics late. Till then the state stays as it was, and says so by a negative
    number of steps, `-1 - step`.
    """
    finite = jnp.all(jnp.isfinite(jnp.stack([*metrics.values()])))
    good = finite & (before.step >= 0)
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    return kept._replace(step=jnp.where(good, after.step, jnp.minimum(before.step, ~before.step)))


def classifier_init(key: jax.Array, h: jax.Array, num_classes: int) -> Any:
    """Parameters of the linear classifier on a top latent `h: [B, H, W, C]`, zero at first."""
    return ZeroDense(num_classes).init(key, jnp.mean(h, axis=(1, 2)))["params"]


def classifier_loss(params: Any, h: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in bits, and accuracy, of a linear map of the spatial mean of `h`."""
    num_classes = params["bias"].shape[0]
    logits: Any = ZeroDense(num_classes).apply({"params": params}, jnp.mean(h, axis=(1, 2)))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses) / jnp.log(2), jnp.mean(jnp.argmax(logits, -1) == labels)


def abstract_state(trainer: Trainer, images: dict[str, Any]) -> TrainState:
    """Shapes and dtypes of the state of a run on such images."""
    batch = {
        "image": jax.ShapeDtypeStruct((2, *images["image_shape"]), jnp.uint8),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    return jax.eval_shape(trainer.init, batch)


class Mapped(NamedTuple):
    """A trainer over all devices.

    init(batch)                               -> replicated state, from a whole global batch
    train_step(state, batch)                  -> (state, metrics), of this host's part
    evaluate(params, batches, samples=1)      -> bits_per_dim, its standard_error, count
    """

    init: Callable[..., TrainState]
    train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    evaluate: Callable[..., dict[str, float]]


@functools.lru_cache(maxsize=4)
def mapped(trainer: Trainer) -> Mapped:
    """Maps the steps of `trainer` over all devices by `jax.pmap`, jit-compiled."""
    step = jax.pmap(trainer.train_step, axis_name=AXIS, donate_argnums=0)
    evaluate_step = jax.pmap(
        trainer.evaluate_step,
        axis_name=AXIS,
        static_broadcasted_argnums=2,
    )

    def init(batch):
        # One device sees the whole first batch: ActNorm's statistics do not depend on how many
        # devices there are. All take the first host's: another's may be rounded otherwise.
        trainer.check(batch)
        return replicate(broadcast_one_to_all(jax.jit(trainer.init)(batch)))

    def train_step(state, batch):
        trainer.check(batch)
        state, metrics = step(state, shard(batch))
        return state, {name: value[0] for name, value in metrics.items()}

    def evaluate(params, batches: Iterable[dict[str, np.ndarray]], samples=1):
        totals = {"count": 0.0, "bits": 0.0, "squares": 0.0}
        for batch in batches:
            trainer.check(batch)
            sums = evaluate_step(params, shard(batch), samples)
            totals = {k: totals[k] + float(v[0]) for k, v in sums.items()}
        count = totals["count"]
        mean = totals["bits"] / count
        variance = max(totals["squares"] / count - mean**2, 0.0)
        return {
            "bits_per_dim": mean,
            "standard_error": (variance / count) ** 0.5,
            "count": int(count),
        }

    return Mapped(init, train_step, evaluate)


def replicate(tree: Any) -> Any:
    """Copies a tree to every device of this host, with a leading axis of devices."""
    devices = jnp.zeros(jax.local_device_count())
    # With the axis of the steps: of another sharding, the first step would be compiled twice.
    return jax.pmap(lambda _, t: t, axis_name=AXIS, in_axes=(0, None))(devices, tree)


def on_one_device(tree: Any) -> Any:
    """The first copy of a replicated tree."""
    return jax.tree.map(lambda a: a[0], tree)


def shard(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits this host's batch among its devices: `[n, ...] -> [devices, n / devices, ...]`."""
    n = jax.local_device_count()
    return {name: a.reshape(n, -1, *a.shape[1:]) for name, a in batch.items()}


def check_batch_size(batch_size: int) -> None:
    """Raises `ValueError` unless all devices get the same number of examples."""
    if batch_size % jax.device_count():
        raise ValueError(
            f"batch_size must be a multiple of the {jax.device_count()} devices, got {batch_size}"
        )
