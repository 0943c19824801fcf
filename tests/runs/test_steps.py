"""The training step against the same maths by hand, on any number of devices; evaluation."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from glowjax import data
from glowjax.bijections.logit import logit_forward
from glowjax.densities.density import density
from glowjax.densities.quantization import bits_per_dim, dequantize
from glowjax.fitting import optim
from glowjax.fitting.optim import Optimizer
from glowjax.models.glow import glow, glow_backbone
from glowjax.models.tarflow import tarflow
from glowjax.runs.config import Config
from glowjax.runs.likelihood import EVALUATION_NOISE, LABELS, TRAIN_NOISE, noise_keys, noisy
from glowjax.runs.models import Glow
from glowjax.runs.steps import (
    AXIS,
    Mapped,
    Params,
    Trainer,
    TrainState,
    check_batch_size,
    make_trainer,
    mapped,
    on_one_device,
    replicate,
)
from glowjax.runs.transformers import TarFlow

SHAPE, LEVELS, CLASSES, BATCH, SEED, STEPS = (4, 4, 1), 17, 3, 8, 5, 3
TINY: dict[str, Any] = {"levels": 1, "steps": 1, "width": 4}
PLAIN = Config(
    model=Glow(**TINY),
    optimizer=Optimizer(learning_rate=0.01, warmup_images=16),
    batch_size=BATCH,
    seed=SEED,
)
MUON = dataclasses.replace(
    PLAIN, optimizer=dataclasses.replace(PLAIN.optimizer, name="muon", muon_learning_rate=0.1)
)
CONDITIONAL = dataclasses.replace(
    PLAIN, model=Glow(**TINY, conditional=True, logit=0.05), classifier_weight=0.01
)


def source(n=21):
    rng = np.random.default_rng(0)
    return data.Source(
        name="noise",
        split="train",
        images=rng.integers(0, LEVELS, (n, *SHAPE)).astype(np.uint8),
        labels=rng.integers(0, CLASSES, n).astype(np.int32),
        num_classes=CLASSES,
        levels=LEVELS,
    )


def batch(step):
    return data.batch(source(), step, batch_size=BATCH, seed=SEED)


@functools.cache
def trainer_of(config) -> Trainer:
    return make_trainer(config, image_shape=SHAPE, levels=LEVELS, num_classes=CLASSES)


@functools.cache
def mapped_of(config) -> Mapped:
    return mapped(trainer_of(config))


@functools.cache
def start(config) -> TrainState:
    """An initial state in float64, its parameters off the zeros that would hide errors."""
    rng = np.random.default_rng(1)
    state = jax.jit(trainer_of(config).init)(batch(0))
    state = jax.tree.map(
        lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, state
    )
    params = jax.tree.map(lambda a: a + rng.normal(0, 0.1, a.shape), state.params)
    return state._replace(params=params, average=params)


def noise_by_hand(stream, step, images, index):
    """Dequantized by noise that depends on nothing but seed, stream, step and example."""
    key = jax.random.key(SEED)
    for number in (stream, step):
        key = jax.random.fold_in(key, number)
    keys = jnp.stack([jax.random.fold_in(key, i) for i in index])
    return dequantize(keys, images, levels=LEVELS)


def logit_by_hand(config, x):
    """What the backbone sees, and the log-determinant."""
    alpha = config.model.logit
    return (x, 0.0) if alpha is None else logit_forward(x, alpha)


def bits_by_hand(config, params, x, labels):
    conditional = config.model.conditional
    model = density(glow(**TINY, num_classes=CLASSES if conditional else None), SHAPE)
    parts = {name: params.flow[name] for name in ("backbone", "top")}
    x, log_det = logit_by_hand(config, x)
    log_prob = model.log_prob(parts, x, labels if conditional else None) + log_det
    return bits_per_dim(log_prob, SHAPE, levels=LEVELS)


def objective_by_hand(config, params, x, labels):
    bits = jnp.mean(bits_by_hand(config, params, x, labels))
    if not config.classifier_weight:
        return bits
    options: dict[str, Any] = {"coupling": "affine", "scale": "sigmoid", "mixing": "conv1x1"}
    backbone = glow_backbone(**TINY, **options, ring=True, norm=True)
    (h,), _ = backbone.forward(params.flow["backbone"], logit_by_hand(config, x)[0])
    weights = params.classifier
    logits = h.mean((1, 2)) @ weights["weight"] + weights["bias"]
    logits *= jnp.exp(3 * weights["log_scale"])
    right = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return bits - 0.01 * jnp.mean(right) / math.log(2)


@functools.cache
def by_hand(config):
    """Parameters, average, objective and gradient norm after each step, without devices."""
    optimizer = optim.make_optimizer(config.optimizer, batch_size=BATCH)

    @jax.jit
    def step(params, state, x, labels):
        objective = functools.partial(objective_by_hand, config)
        value, gradients = jax.value_and_grad(objective)(params, x, labels)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value, optax.tree.norm(gradients)

    params, state = start(config).params, start(config).optimizer
    average, rows = params, []
    for i in range(STEPS):
        b = batch(i)
        x = noise_by_hand(TRAIN_NOISE, i, b["image"], range(BATCH))
        params, state, value, norm = step(params, state, x, b["label"])
        average = optim.ema(average, params, i, decay=config.ema)
        rows.append((params, average, value, norm))
    return rows


def leaves(tree):
    return jax.tree.leaves(tree)


def assert_close(got, want):
    # Sums in another order. Gradients that are zero but for that, Adamax divides by 1e-8.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), got, want)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "devices"),
    [(PLAIN, 4), (CONDITIONAL, 1), (CONDITIONAL, 2), (CONDITIONAL, 4)],
    ids=["plain 4", "conditional 1", "conditional 2", "conditional 4"],
)
def test_steps_are_those_by_hand_on_any_number_of_devices(config, devices):
    used = jax.devices()[:devices]
    step = jax.pmap(trainer_of(config).train_step, axis_name=AXIS, devices=used)
    state = jax.tree.map(lambda a: jnp.stack([a] * devices), start(config))
    for i, (params, average, objective, norm) in enumerate(by_hand(config)):
        parts = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in batch(i).items()}
        state, metrics = step(state, parts)
        for device in range(devices):
            one = jax.tree.map(lambda a, d=device: a[d], (state, metrics))
            assert_close((one[0].params, one[0].average), (params, average))
            assert one[0].step == i + 1
        metrics = one[1]
        penalty = config.classifier_weight * metrics.get("train_cross_entropy_bits", 0)
        assert_close(metrics["train_bits_per_dim"] + penalty, objective)
        assert_close(metrics["gradient_norm"], norm)
        assert_close(metrics["learning_rate"], 0.01 * min(1, (i + 1) * BATCH / 16))


def after_20_steps(config, state, devices):
    """State, and sums of an evaluation with an uneven last batch, on so many devices."""
    used, trainer = jax.devices()[:devices], trainer_of(config)
    step = jax.pmap(trainer.train_step, axis_name=AXIS, devices=used)
    evaluate = jax.pmap(
        trainer.evaluate_step, axis_name=AXIS, devices=used, static_broadcasted_argnums=2
    )

    def parts(batch):
        return {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in batch.items()}

    state = jax.tree.map(lambda a: jnp.stack([a] * devices), state)
    for i in range(20):
        state, _ = step(state, parts(batch(i)))
    batches = data.eval_batches(source(21), batch_size=BATCH)
    sums = [on_one_device(evaluate(state.params.flow, parts(b), 1)) for b in batches]
    return jax.device_get((on_one_device(state), jax.tree.map(lambda *s: sum(s), *sums)))


@pytest.mark.slow
def test_20_steps_are_the_same_on_any_number_of_devices():
    state = start(CONDITIONAL)
    one, two, four = (after_20_steps(CONDITIONAL, state, devices) for devices in (1, 2, 4))
    assert one[1]["count"] == 21
    assert_close(two, one)
    assert_close(four, one)


@pytest.mark.exhaustive
@pytest.mark.float32
def test_20_steps_are_the_same_in_single_precision():
    state = jax.jit(trainer_of(CONDITIONAL).init)(batch(0))
    (one, sums), (four, same_sums) = (after_20_steps(CONDITIONAL, state, n) for n in (1, 4))
    # Adamax's steps of 0.01 take the sign of gradients whose rounding may be all there is of them.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), four.params, one.params)
    np.testing.assert_allclose(same_sums["bits"], sums["bits"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, MUON], ids=["glow_adamax", "muon"])
def test_the_loss_goes_down_on_one_batch(config):
    on_devices = mapped_of(config)
    state, losses = on_devices.init(batch(0)), []
    for _ in range(30):
        state, metrics = on_devices.train_step(state, batch(0))
        losses.append(float(metrics["train_bits_per_dim"]))
    assert np.mean(losses[-5:]) < losses[0] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, MUON], ids=["glow_adamax", "muon"])
def test_no_buffer_of_the_state_is_held_twice(config):
    state = mapped_of(config).init(batch(0))
    buffers = [s.data.unsafe_buffer_pointer() for a in leaves(state) for s in a.addressable_shards]
    assert len(set(buffers)) == len(buffers) == 4 * len(leaves(state))
    new, _ = mapped_of(config).train_step(state, batch(0))
    assert not any(a.is_deleted() for a in leaves(new))


@pytest.mark.slow
def test_training_sees_zeros_for_labels_that_are_left_out():
    model = TarFlow(patch=2, steps=1, width=4, blocks=1, heads=1, conditional=True)
    config = dataclasses.replace(PLAIN, model=dataclasses.replace(model, label_dropout=0.5))
    state, first = start(config), batch(0)
    step = jax.vmap(trainer_of(config).train_step, axis_name=AXIS)
    _, metrics = step(*jax.tree.map(lambda a: jnp.asarray(a)[None], (state, first)))

    keys = noise_keys(SEED, LABELS, 0, np.arange(BATCH))
    dropped = np.array([bool(jax.random.bernoulli(key, 0.5)) for key in keys])
    assert 0 < dropped.sum() < BATCH
    context = np.eye(CLASSES, dtype=np.float32)[first["label"]] * ~dropped[:, None]
    x = noise_by_hand(TRAIN_NOISE, 0, first["image"], range(BATCH))
    params = state.params.flow["flow"]["tokens"]
    plain = density(tarflow(patch=2, steps=1, width=4, blocks=1, heads=1), SHAPE)
    expected = [
        jnp.mean(bits_per_dim(plain.log_prob(params, x, c), SHAPE, levels=LEVELS))
        for c in (context, context + dropped[:, None])
    ]
    np.testing.assert_allclose(metrics["train_bits_per_dim"], expected[:1], rtol=1e-5)
    assert abs(expected[1] - expected[0]) > 1e-3


@pytest.mark.slow
def test_the_step_is_compiled_once(caplog):
    on_devices = mapped(trainer_of(dataclasses.replace(PLAIN, seed=6)))
    state = on_devices.init(batch(0))
    with jax.log_compiles(True):
        for i in range(3):
            state, _ = on_devices.train_step(state, batch(i))
    compiled = [r for r in caplog.messages if "XLA compilation of jit(_fun)" in r]
    assert len(compiled) == 1


@pytest.mark.slow
def test_initialisation_sees_the_whole_batch():
    on_four = on_one_device(mapped_of(PLAIN).init(batch(0)))
    on_one = jax.jit(trainer_of(PLAIN).init)(batch(0))
    jax.tree.map(np.testing.assert_array_equal, on_four, on_one)


def test_without_an_average_none_is_kept():
    config = dataclasses.replace(PLAIN, ema=None, evaluate_with="raw")
    state = jax.eval_shape(trainer_of(config).init, batch(0))
    assert state.average is None
    assert state.weights("raw") is state.params


def test_noise_depends_on_seed_stream_step_and_example_alone():
    images = np.full((2, *SHAPE), 3, np.uint8)

    def noise(seed=0, stream=TRAIN_NOISE, step=0, index=(0, 1)):
        return noisy(seed, stream, step, np.array(index), images, LEVELS)

    first = noise()
    np.testing.assert_array_equal(first, noise())
    np.testing.assert_array_equal(first[::-1], noise(index=(1, 0)))
    others = [noise(seed=1), noise(stream=EVALUATION_NOISE), noise(step=1), noise(index=(2, 3))]
    for other in [*others, first[::-1]]:
        assert np.mean(first == other) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "samples"), [(PLAIN, 1), (CONDITIONAL, 3)], ids=["plain 1", "conditional 3"]
)
def test_evaluation_is_a_loop_over_every_image(config, samples):
    images = source(21)  # 8 + 8 + 5
    params = start(config).params
    batches = data.eval_batches(images, batch_size=BATCH)
    got = mapped_of(config).evaluate(replicate(params.flow), batches, samples)
    bits_of = jax.jit(functools.partial(bits_by_hand, config))
    noise = [noise_by_hand(EVALUATION_NOISE, s, images.images, range(21)) for s in range(samples)]
    bits = np.mean([bits_of(params, x, images.labels) for x in noise], axis=0)
    assert got["count"] == 21
    assert_close(got["bits_per_dim"], bits.mean())
    # The root of a difference of sums that nearly cancel.
    np.testing.assert_allclose(got["standard_error"], bits.std() / math.sqrt(21), rtol=1e-6)


def test_ema_or_raw_weights_are_evaluated():
    raw, average = Params(flow=1), Params(flow=2)
    state = TrainState(jnp.zeros(()), raw, average, None)
    assert state.weights("raw") is raw
    assert state.weights("ema") is average


@pytest.mark.parametrize("wrong", [-1, CLASSES])
@pytest.mark.parametrize("function", ["init", "train_step", "evaluate"])
def test_labels_out_of_range_are_refused(function, wrong):
    bad = batch(0)
    bad["label"][3] = wrong
    on_devices = mapped_of(CONDITIONAL)
    calls = {
        "init": lambda: on_devices.init(bad),
        "train_step": lambda: on_devices.train_step(None, bad),
        "evaluate": lambda: on_devices.evaluate(None, [bad]),
    }
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2 .*, got"):
        calls[function]()


def test_labels_that_nothing_needs_may_be_missing_or_out_of_range():
    bad = batch(0) | {"label": np.full(BATCH, 99)}
    trainer_of(PLAIN).check(bad)
    del bad["label"]
    trainer_of(PLAIN).check(bad)


def test_labels_missing_are_refused():
    for config in (CONDITIONAL, dataclasses.replace(PLAIN, classifier_weight=0.01)):
        images_alone = {"image": batch(0)["image"]}
        with pytest.raises(ValueError, match=r"labels must be in 0\.\.2 .*, got none"):
            trainer_of(config).check(images_alone)
        with pytest.raises(ValueError, match="for data without labels"):
            make_trainer(config, image_shape=SHAPE, levels=LEVELS, num_classes=None)


def test_every_device_must_get_as_many_images():
    check_batch_size(8)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 4 devices, got 6"):
        check_batch_size(6)
