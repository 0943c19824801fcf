"""Learned noise and dropout in runs: what is trained, what is evaluated, what is exported."""

import dataclasses
import functools

import jax
import jax.export
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import safetensors.numpy

import glowjax
from glowjax.densities.dequantizers import dequantized
from glowjax.runs import training
from glowjax.runs.config import Config
from glowjax.runs.exporting import export
from glowjax.runs.given import read_split
from glowjax.runs.likelihood import TRAIN_NOISE, Likelihood, noise_keys, noisy
from glowjax.runs.models import FlowPP
from glowjax.runs.steps import AXIS, Params, make_trainer
from glowjax.testing import moved

pytestmark = pytest.mark.slow

SHAPE, LEVELS, SEED = (4, 4, 1), 17, 5
TINY = FlowPP(
    steps=(1, 1, 1),
    components=2,
    width=4,
    blocks=1,
    noise_steps=1,
    noise_width=4,
    noise_blocks=1,
)
IMAGES = np.random.default_rng(0).integers(0, LEVELS, (6, *SHAPE)).astype(np.uint8)
INDEX = np.arange(len(IMAGES))


def trainer_of(model):
    config = Config(model=model, batch_size=len(IMAGES), seed=SEED)
    return make_trainer(config, image_shape=SHAPE, levels=LEVELS, num_classes=None)


@functools.cache
def start(model):
    state = jax.jit(trainer_of(model).init)({"image": IMAGES})
    return state._replace(params=Params(moved(state.params.flow, 0.1)))


def test_the_likelihood_with_learned_noise_is_the_bound():
    learned, flow = TINY.dequantizer(LEVELS), glowjax.chain(**TINY.parts(None))
    assert learned is not None
    model, keys = glowjax.density(flow, SHAPE), noise_keys(SEED, TRAIN_NOISE, 1, INDEX)

    @jax.jit
    def measure(params, keys):
        bound = dequantized(model, learned).log_prob(params, IMAGES, None, keys)
        z, got = Likelihood(flow, LEVELS, learned).encode(params, IMAGES, keys)
        x, log_q = learned.sample(params[1], keys, IMAGES)
        by_hand = model.log_prob(params[0], x) - log_q
        uniform = Likelihood(flow, LEVELS).encode(params[0], IMAGES, keys)[1]
        x = noisy(SEED, TRAIN_NOISE, 1, INDEX, IMAGES, LEVELS)
        return (got, bound, by_hand), (uniform, model.log_prob(params[0], x)), z

    (got, bound, by_hand), (uniform, flat), z = measure(start(TINY).params.flow, keys)
    np.testing.assert_allclose(got, bound, rtol=1e-9)
    np.testing.assert_allclose(got, by_hand, rtol=1e-9)
    np.testing.assert_allclose(uniform, flat, rtol=1e-9)
    assert z.shape == (6, 2, 2, 4)
    assert jnp.min(jnp.abs(got - uniform)) > 1e-3


def test_training_drops_numbers_and_evaluation_does_not():
    dropping = dataclasses.replace(TINY, dropout=0.5)
    state, trainer = start(dropping), trainer_of(dropping)
    batch = {"image": IMAGES[None]}  # of one device
    step = jax.vmap(trainer.train_step, in_axes=(None, 0), axis_name=AXIS)

    @jax.jit
    def measure(state):
        keys = noise_keys(SEED, TRAIN_NOISE, 0, INDEX)
        evaluated = trainer.density.log_prob(state.params.flow, IMAGES, None, keys)
        whole = trainer_of(TINY).density.log_prob(state.params.flow, IMAGES, None, keys)
        return step(state, batch)[1]["train_bits_per_dim"][0], evaluated, whole

    trained, evaluated, whole = measure(state)
    np.testing.assert_array_equal(evaluated, whole)
    bits = jnp.mean(glowjax.bits_per_dim(evaluated, SHAPE, levels=LEVELS))
    assert abs(trained - bits) > 1e-4


@pytest.mark.float32
@pytest.mark.xdist_group("runs")
def test_an_exported_model_keeps_its_noise(config, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    training.train(dataclasses.replace(config, model=TINY, train_steps=1), folder)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it knows no symbolic sizes
    export(folder, tmp_path / "exported")
    model, params = glowjax.load(tmp_path / "exported")
    images = read_split(model, "test", num=5)
    assert model.learned_noise
    weights = safetensors.numpy.load_file(tmp_path / "exported" / "model.safetensors")
    program = jax.export.deserialize((tmp_path / "exported/log_prob.stablehlo").read_bytes())
    got = program.call(weights, images.images, np.uint32(3))
    want = model.log_prob(params, images.images, jax.random.key(3))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    other = model.log_prob(params, images.images, jax.random.key(4))
    assert np.max(np.abs(other - want)) > 1e-3
