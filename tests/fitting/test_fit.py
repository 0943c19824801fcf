"""`fit`: learns, is repeatable, keeps the best, stops early, refuses what it cannot do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import SMALL_MLP

import glowjax
from glowjax.fitting.descent import descent
from glowjax.fitting.fit import averaging, evaluation_interval

NORMAL = glowjax.density(glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)), (2,))
FAST = optax.adam(0.05)


def data(n=600, seed=0):
    return 3 + 0.5 * np.random.default_rng(seed).normal(size=(n, 2))


def start():
    """Parameters far from the data: ActNorm initialised on them would be right at once."""
    return {"bias": jnp.zeros(2), "log_scale": jnp.zeros(2)}


def fitted(**options):
    options: Any = {"steps": 300, "optimizer": FAST, "params": start(), "show": False} | options
    return glowjax.fit(NORMAL, options.pop("data", data()), **options)


def test_maximum_likelihood():
    x = data()
    result = fitted(data=x, validation=0)
    np.testing.assert_allclose(-result.params["bias"], x.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(jnp.exp(-result.params["log_scale"]), x.std(axis=0), rtol=0.1)
    assert result.step == 300 and [row["step"] for row in result.history] == [*range(15, 301, 15)]
    assert result.history[-1]["loss"] < result.history[0]["loss"] - 1


def test_the_average_is_for_held_out_data():
    """A target leaves nothing to overfit, and an average would lag behind."""
    assert (averaging(None, ()), averaging(None, "some"), averaging(0.0, "some")) == (
        None,
        0.99,
        None,
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        fitted(validation=0, decay=0.0).params,
        fitted(validation=0).params,
    )


@pytest.mark.parametrize(
    "steps, one_pass, every", [(2000, 5, 20), (2000, 60, 60), (2000, 500, 100), (10, 3, 1)]
)
def test_evaluations_are_as_frequent_as_passes(steps, one_pass, every):
    assert evaluation_interval(None, steps, one_pass) == every


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result_and_params_stay_the_callers():
    params = start()
    a, b = (fitted(steps=30, params=params, seed=3, evaluate_every=n) for n in (30, 7))
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-12), a.params, b.params)
    jax.tree.map(np.testing.assert_array_equal, params, start())
    other = fitted(steps=30, seed=4)
    assert np.any(other.params["bias"] != a.params["bias"])


def test_the_best_on_validation_is_kept_and_patience_ends_the_run():
    """The training data pull away from the held-out ones, which lie on the way."""
    held_out = 1 + 0.5 * np.random.default_rng(1).normal(size=(200, 2))
    result = fitted(validation=held_out, evaluate_every=1, patience=3)
    values = [row["validation"] for row in result.history]
    best = int(np.argmin(values))
    assert 0 < best < len(values) - 1
    assert result.step == best + 1 and len(values) == best + 4
    score = -np.mean(NORMAL.log_prob(result.params, jnp.asarray(held_out)))
    np.testing.assert_allclose(score, values[best], rtol=1e-9)


def test_a_fraction_is_held_out_of_training():
    x = data(10)
    seen = []

    def loss(params, batch, key, step):
        jax.debug.callback(lambda a: seen.append(np.asarray(a)), batch.x)
        return glowjax.forward_kl(NORMAL, params, batch.x)

    fitted(data=x, loss=loss, validation=0.3, batch_size=7, steps=2, evaluate_every=1)
    jax.effects_barrier()
    rows = {tuple(row) for batch in seen for row in batch}
    assert len(rows) == 7 and rows < {tuple(row) for row in x}


def test_average_is_evaluated_and_returned():
    raw, averaged = (fitted(steps=20, validation=0, decay=d) for d in (None, 0.9))
    assert np.all(averaged.params["bias"] > raw.params["bias"])  # behind, on the way to -3


@pytest.mark.slow
def test_towards_a_target_without_data():
    step = glowjax.chain(
        glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0)),
        glowjax.as_flow(glowjax.AffineCoupling(SMALL_MLP)),
    )
    model = glowjax.density(glowjax.invert(glowjax.repeat(step, 2)), (2,))

    def target(x):
        return -0.5 * jnp.sum(jnp.square((x - 1) / 0.5), axis=-1)

    def loss(params, batch, key, step):
        assert batch is None
        return glowjax.reverse_kl(model, params, target, key, 64)

    result = glowjax.fit(model, loss=loss, steps=400, optimizer=optax.adam(0.01), show=False)
    log_z = np.log(2 * np.pi * 0.25)
    np.testing.assert_allclose(result.history[-1]["loss"], -log_z, atol=0.1)
    assert result.history[0]["loss"] > -log_z + 0.3


@pytest.mark.slow
def test_towards_a_target_given_a_context_without_data():
    model = glowjax.density(glowjax.iaf(steps=1, width=16), (1,))
    context = np.random.default_rng(0).uniform(-2, 2, (500, 1))

    def loss(params, batch, key, step):
        assert batch.x is None and batch.weights is None
        mean, n = batch.context, len(batch.context)

        def target(x):
            return -0.5 * jnp.sum(jnp.square((x - mean) / 0.5), axis=-1)

        return glowjax.reverse_kl(model, params, target, key, n, context=mean)

    result = glowjax.fit(
        model, context=context, loss=loss, steps=800, optimizer=optax.adam(0.01), show=False
    )
    for mean in (-1.0, 1.5):
        given = np.full((2000, 1), mean)
        x = model.sample(result.params, jax.random.key(0), 2000, context=given)
        np.testing.assert_allclose([x.mean(), x.std()], [mean, 0.5], atol=0.06)


@pytest.mark.slow
def test_context_goes_with_its_examples():
    flow = glowjax.as_flow(glowjax.Coupling(glowjax.affine(), SMALL_MLP))
    model = glowjax.density(flow, (2,))
    context = np.random.default_rng(0).normal(size=(500, 1))
    x = np.concatenate([np.zeros((500, 1)), 5 * context], axis=1)
    x = x + 0.1 * np.random.default_rng(1).normal(size=x.shape)
    result = glowjax.fit(
        model, x, context=context, steps=300, optimizer=optax.adam(0.02), show=False
    )
    right = model.log_prob(result.params, jnp.asarray(x), jnp.asarray(context))
    wrong = model.log_prob(result.params, jnp.asarray(x), jnp.asarray(context[::-1]))
    assert np.mean(right) > np.mean(wrong) + 2


def test_watch_sees_every_evaluation():
    steps = []
    fitted(steps=10, evaluate_every=4, watch=lambda step, params: steps.append(step))
    assert steps == [0, 4, 8, 10]


def test_further_fits_of_a_density_compile_nothing():
    traced = []

    def forward(params, x, context=None, key=None):
        traced.append(1)
        return glowjax.as_flow(glowjax.Planar()).forward(params, x)

    planar = glowjax.as_flow(glowjax.Planar())
    model = glowjax.density(glowjax.Flow(planar.init, forward, planar.inverse), (2,))
    fits = []
    for seed in range(3):
        x = (1 + seed) * data(seed=seed)  # in other units, too
        fits.append(glowjax.fit(model, x, steps=20, seed=seed, show=False))
        if not seed:
            first = len(traced)
    assert first and len(traced) == first
    alone = glowjax.fit(
        glowjax.density(planar, (2,)), 3 * data(seed=2), steps=20, seed=2, show=False
    )
    jax.tree.map(np.testing.assert_array_equal, fits[-1].params, alone.params)


def test_a_loss_that_cannot_be_hashed_is_taken():
    class Loss:
        __hash__ = None

        def __call__(self, params, batch, key, step):
            return glowjax.forward_kl(NORMAL, params, batch.x)

    assert fitted(steps=20, loss=Loss()).step == 20


def test_progress_is_shown(capsys):
    fitted(steps=4, evaluate_every=2, show=True)
    shown = capsys.readouterr().err
    assert "step 2 of 4: loss" in shown and "validation" in shown and "steps/s" in shown


def test_a_loss_that_is_not_finite_names_its_step():
    def loss(params, batch, key, step):
        return jnp.where(step == 5, jnp.nan, jnp.sum(params["bias"]))

    with pytest.raises(FloatingPointError, match="step 6: loss nan"):
        fitted(loss=loss, steps=9, evaluate_every=3)


def test_a_loss_that_was_never_finite_is_not_blamed_on_training():
    def loss(params, batch, key, step):
        return jnp.where(step >= 3, jnp.inf, jnp.sum(params["bias"]))

    with pytest.raises(FloatingPointError, match="step 4: loss inf, and so before training"):
        fitted(loss=loss, steps=9)


def test_a_training_that_explodes_is_told_from_data_that_are_wrong():
    with pytest.raises(FloatingPointError, match="before training: a lower learning rate"):
        fitted(optimizer=optax.sgd(1e200), validation=0, steps=20)


PLANAR = glowjax.density(glowjax.as_flow(glowjax.Planar()), (2,))


def spoiled(value, n=200, rows=(7,)):
    x = data(n)
    x[list(rows), 1] = value
    return x


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("model", [NORMAL, PLANAR])
def test_numbers_that_are_not_finite_are_named(model, value):
    options: Any = {"steps": 2, "show": False}
    with pytest.raises(ValueError, match=rf"data must be finite .* got {value} at \[7, 1\] \(1 of"):
        glowjax.fit(model, spoiled(value), **options)
    with pytest.raises(ValueError, match=r"validation must be finite"):
        glowjax.fit(model, data(), validation=spoiled(value), **options)
    with pytest.raises(ValueError, match=r"context must be finite"):
        glowjax.fit(model, data(200), context=spoiled(value), **options)
    with pytest.raises(ValueError, match=r"weights must be finite"):
        glowjax.fit(model, data(200), weights=spoiled(value)[:, 1], **options)


@pytest.mark.slow
def test_a_held_out_row_outside_the_support_is_refused_before_training():
    flow = glowjax.chain(
        glowjax.as_flow(glowjax.Logit()), glowjax.as_flow(glowjax.GlowActNorm(log_scale_factor=1.0))
    )
    inside = np.random.default_rng(0).uniform(-0.49, 0.49, (300, 2))
    outside = inside[:40].copy()
    outside[5] = 0.5  # the edge
    for held_out, row in [(outside, 5), (np.where(inside > 0.48, 0.7, inside), None)]:
        with pytest.raises(ValueError, match=rf"validation must have a density.* row {row or ''}"):
            glowjax.fit(
                glowjax.density(flow, (2,)), inside, validation=held_out, steps=5, show=False
            )
    uniform = glowjax.density(glowjax.as_flow(glowjax.Reverse()), (2,), glowjax.uniform(-0.5, 0.4))
    with pytest.raises(ValueError, match="data must have a density, got log p = -inf for row"):
        glowjax.fit(uniform, inside, params={}, validation=0, steps=5, show=False)


@pytest.mark.slow
def test_a_label_out_of_range_is_the_datas_fault():
    model = glowjax.density(
        glowjax.as_flow(glowjax.Planar()), (2,), glowjax.class_conditional_normal(3)
    )
    labels = np.arange(300) % 3 + 1
    for validation in (0.1, 0):
        with pytest.raises(ValueError, match=r"row \d+"):
            glowjax.fit(
                model, data(300), context=labels, validation=validation, steps=5, show=False
            )


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["data", "validation"])
def test_a_category_out_of_range_is_found_in_its_row_and_column(wrong):
    rows = np.random.default_rng(0)
    table = np.stack([rows.normal(size=200), rows.integers(3, size=200)], axis=1)
    given = {"data": table, "validation": table[:50].copy()}
    given[wrong] = given[wrong].copy()
    given[wrong][7, 1] = 3
    model = glowjax.surjections.mixed_density(glowjax.maf(steps=1, width=8), (None, 3))
    message = f"row 7 of {wrong}: column 1: v must be whole numbers in 0..2, got 3"
    with pytest.raises(ValueError, match=message):
        glowjax.fit(model, **given, steps=5, show=False)
    with pytest.raises(ValueError, match=message):
        glowjax.fit_many(model, **given, steps=5, seeds=[0, 1], show=False)


@pytest.mark.slow
def test_weights_count_in_training_initialisation_and_validation():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(400, 2)) - 3, rng.normal(size=(200, 2)) + 3])
    weights = np.repeat([0.0, 5.0], [400, 200])
    for model in (glowjax.density(glowjax.as_flow(glowjax.ActNorm()), (2,)), PLANAR):
        result = glowjax.fit(model, x, weights=weights, steps=30, show=False)
        drawn = model.sample(result.params, jax.random.key(0), 500)
        np.testing.assert_allclose(np.mean(drawn, axis=0), 3, atol=0.4)
    assert result.history[-1]["validation"] < 4  # of the right half: the left is 6 off


def test_weights_of_validation_may_be_given_beside_it():
    held_out = np.stack([data(50), 50 + data(50)]).reshape(100, 2)
    weights = np.repeat([1.0, 0.0], 50)
    weighted = fitted(validation=(held_out, None, weights), steps=4, evaluate_every=4)
    alone = fitted(validation=held_out[:50], steps=4, evaluate_every=4)
    np.testing.assert_allclose(
        weighted.history[0]["validation"], alone.history[0]["validation"], rtol=1e-12
    )


@pytest.mark.slow
def test_a_key_takes_the_place_of_a_seed():
    a, b, c = (fitted(steps=5, key=jax.random.key(k), params=None) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    assert np.any(a.params["bias"] != c.params["bias"])
    fitted(steps=5, key=jax.random.PRNGKey(0))


def test_a_schedule_that_looks_at_the_loss_sees_it():
    def loss(params, batch, key, step):  # never gets better
        return 1.0 + 0 * jnp.sum(params["bias"])

    plateau = optax.chain(
        optax.sgd(1.0), optax.contrib.reduce_on_plateau(factor=0.5, patience=2, rtol=0.0, atol=0.01)
    )
    step = descent(lambda params, batch, step: (loss(params, None, None, step), {}), plateau)
    state, _ = jax.lax.scan(step.step, step.init(start()), np.zeros((9, 1)))
    assert float(state.optimizer[1].scale) < 0.3
    fitted(optimizer=plateau, steps=6)


@pytest.mark.slow
@pytest.mark.float32
def test_line_searches_work():
    result = glowjax.fit(
        NORMAL,
        data(),
        optimizer=optax.lbfgs(),
        steps=15,
        batch_size=500,
        params=start(),
        show=False,
    )
    np.testing.assert_allclose(-result.params["bias"], 3, atol=0.1)


@pytest.mark.parametrize("given", [data(40).tolist(), data(40).astype(np.float16)])
def test_data_may_be_lists_or_of_other_floats(given):
    assert np.isfinite(fitted(data=given, steps=2).history[0]["loss"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": 1e-3}, "optimizer must be an optax optimizer"),
        ({"optimizer": "adam"}, "optimizer must be an optax optimizer"),
        ({"seed": 1, "key": jax.random.key(0)}, "seed must be None where key is given"),
        ({"key": 7}, "key must be a JAX key"),
        ({"data": data(4)}, "validation must be a fraction that holds out at least one of 4"),
        ({"weights": -np.ones(600)}, "weights must be"),
        ({"weights": np.zeros(600)}, "weights must be"),
        ({"weights": np.ones(3)}, r"weights must be of shape \(600,\)"),
        ({"data": np.array([["a", "b"]] * 30)}, "data must be numbers"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"evaluate_every": 0}, "evaluate_every must be"),
        ({"seed": -1}, "seed must be"),
        ({"data": None}, "data must be given where no loss is"),
        ({"data": np.zeros((40, 2), int)}, "must be floating point"),
        ({"data": np.zeros(4)}, "data must be batched"),
        ({"data": np.zeros((0, 2))}, "data must be of at least one example"),
        ({"context": np.zeros((3, 1))}, "context must be one row for each of 600"),
        ({"validation": 1.5}, "validation must be arrays, or a fraction"),
        ({"data": np.ma.masked_less(data(40), 3)}, "data must be an array without masked numbers"),
        ({"data": None, "context": data(9)}, "data must be given where no loss is"),
        ({"data": None, "weights": np.ones(9)}, "weights must be None without data and context"),
        ({"data": None, "context": data(9), "validation": data(9)}, "validation must be None"),
        ({"context": data(), "validation": data(9)}, r"validation must be \(x, context\)"),
        ({"loss": lambda p, batch, *_: NORMAL.log_prob(p, batch.x)}, "loss must give one number"),
        ({"validation": None, "patience": 2}, "patience must be None without validation"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        fitted(**options)
