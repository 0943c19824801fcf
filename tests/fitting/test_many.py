"""`fit_many`: each seed's fit is that of `fit`, side by side with the others'."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glowjax

MODEL = glowjax.density(glowjax.as_flow(glowjax.Planar()), (2,))
SEEDS = [3, 0, 7]


def data(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)).astype(np.float32) * [3.0, 0.5] + [10.0, 0.0]


def alike(many, alone):
    assert [row["step"] for row in many.history] == [row["step"] for row in alone.history]
    for name in alone.history[0]:
        values = [[row[name] for row in each.history] for each in (many, alone)]
        np.testing.assert_allclose(*values, rtol=2e-4, err_msg=name)
    assert many.step == alone.step
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
        many.params,
        alone.params,
    )


@pytest.mark.parametrize("options", [{}, {"validation": None}, {"decay": 0.9, "weights": True}])
def test_each_seed_has_the_fit_that_it_has_alone(options: dict[str, Any]):
    x = data()
    if "weights" in options:
        options = options | {"weights": np.random.default_rng(1).uniform(size=len(x))}
    options = {"steps": 40, "batch_size": 32, "show": False} | options
    many = glowjax.fit_many(MODEL, x, seeds=SEEDS, **options)
    for seed, each in zip(SEEDS, many, strict=True):
        alike(each, glowjax.fit(MODEL, x, seed=seed, **options))


def test_context_goes_with_its_examples():
    flow = glowjax.realnvp_mlp(steps=2, width=8, depth=1)
    model, x = glowjax.density(flow, (2,)), data()
    options: dict[str, Any] = {"context": x[:, :1], "steps": 8, "batch_size": 32, "show": False}
    many = glowjax.fit_many(model, x, seeds=SEEDS, **options)
    for seed, each in zip(SEEDS, many, strict=True):
        alike(each, glowjax.fit(model, x, seed=seed, **options))


def test_a_seed_that_is_done_no_longer_changes():
    x = data(60)
    options: dict[str, Any] = {
        "steps": 200,
        "evaluate_every": 5,
        "batch_size": 8,
        "patience": 2,
        "show": False,
    }
    many = glowjax.fit_many(MODEL, x, seeds=range(4), **options)
    lengths = [len(each.history) for each in many]
    assert len(set(lengths)) > 1
    for seed, each in enumerate(many):
        alike(each, glowjax.fit(MODEL, x, seed=seed, **options))


def test_fits_towards_a_target():
    target = glowjax.targets.circular_gaussians(2)

    def loss(params, batch, key, step):
        return glowjax.reverse_kl(MODEL, params, target.log_prob, key, 16)

    options: dict[str, Any] = {"loss": loss, "steps": 10, "show": False}
    many = glowjax.fit_many(MODEL, seeds=[0, 1], **options)
    for seed, each in enumerate(many):
        alike(each, glowjax.fit(MODEL, seed=seed, **options))


def test_fits_of_contexts_without_data():
    context = np.linspace(0, 1, 50)[:, None]
    model = glowjax.density(glowjax.iaf(steps=1, width=8), (2,))

    def loss(params, batch, key, step):
        n = len(batch.context)
        return glowjax.reverse_kl(
            model, params, lambda x: -jnp.sum(x**2, -1), key, n, context=batch.context
        )

    options: dict[str, Any] = {"loss": loss, "steps": 5, "context": context, "show": False}
    many = glowjax.fit_many(model, seeds=[0, 1], **options)
    for seed, each in enumerate(many):
        alike(each, glowjax.fit(model, seed=seed, **options))


def test_further_fits_compile_nothing():
    traced = []
    planar = glowjax.as_flow(glowjax.Planar())

    def forward(params, x, context=None, key=None):
        traced.append(1)
        return planar.forward(params, x)

    model = glowjax.density(glowjax.Flow(planar.init, forward, planar.inverse), (2,))
    glowjax.fit_many(model, data(), seeds=[0, 1], steps=20, show=False)
    first = len(traced)
    glowjax.fit_many(model, data(seed=1), seeds=[5, 6], steps=20, show=False)
    assert first and len(traced) == first


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [0.5]])
def test_seeds_are_checked(seeds):
    with pytest.raises(ValueError, match="seeds must be"):
        glowjax.fit_many(MODEL, data(), seeds=seeds)


def test_a_failure_names_its_seed():
    def loss(params, batch, key, step):
        bad = (key == jax.random.fold_in(jax.random.key(7), step)) & (step == 3)
        return glowjax.forward_kl(MODEL, params, batch.x) + jnp.where(bad, jnp.nan, 0.0)

    with pytest.raises(FloatingPointError, match="seed 7: step 4: loss nan"):
        glowjax.fit_many(MODEL, data(), seeds=SEEDS, loss=loss, steps=20, show=False)


def test_examples_without_a_density_are_named():
    model = glowjax.density(glowjax.as_flow(glowjax.Logit()), (2,))
    x = np.linspace(-0.3, 0.3, 100).reshape(50, 2)
    x[7] = 2.0
    with pytest.raises(ValueError, match="row 7"):
        glowjax.fit_many(model, x, seeds=[0, 1], steps=4, validation=x, show=False)
