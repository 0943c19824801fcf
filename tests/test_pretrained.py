"""The weights in `pretrained/`: they load, and they are of the model that their card tells of."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

pytestmark = [pytest.mark.slow, pytest.mark.float32, pytest.mark.xdist_group("runs")]

FOLDER = Path(__file__).parents[1] / "pretrained" / "mnist_conditional"


def test_digits_drawn_of_a_class_are_likeliest_under_that_class():
    model, params = glowjax.load(FOLDER)
    classes = jnp.arange(10)
    images = model.sample(params, jax.random.key(0), 10, temperature=0.7, labels=classes)
    bits = [model.bits_per_dim(params, images, labels=jnp.full(10, label)) for label in classes]
    assert np.sum(np.argmin(bits, axis=0) == classes) >= 9
    own = np.diagonal(bits)
    assert 0.4 < own.mean() < 0.8  # a little below the 0.79 of test images, which vary more


def test_the_card_says_how_many_parameters_there_are():
    _, params = glowjax.load(FOLDER)
    told = re.search(r"([\d,]+) parameters", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert told and int(told[1].replace(",", "")) == sum(map(jnp.size, jax.tree.leaves(params)))
