"""Optimisers: Glow's Adamax against NumPy, schedules at their corners, configs and their errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recipe_numpy import adamax_reference

from glowjax import optim

STEPS = 50
STEADY = optim.Optimizer(warmup_images=0, learning_rate=0.1)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def gradients():
    """STEPS trees of gradients; half of one leaf's entries are exactly 0, the first ones too."""
    rng = np.random.default_rng(0)
    mask = np.array([1.0, 0.0, 1.0, 0.0])
    return [{"a": rng.normal(size=(3, 2)), "b": [rng.normal(size=4) * mask]} for _ in range(STEPS)]


def run(optimizer, trees):
    """The updates that an optimiser makes of a sequence of gradients, at fixed parameters."""
    params = trees[0]
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    updates = []
    for tree in trees:
        update, state = step(tree, state, params)
        updates.append(update)
    return updates


def dtypes(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


def assert_trees_close(got, want, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-300), got, want)


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.9898), (0.0, 0.5), (0.5, 0.0)])
def test_glow_adamax_is_the_recipes(b1, b2):
    trees = gradients()
    got = run(optim.scale_by_glow_adamax(b1=b1, b2=b2), trees)
    per_leaf = zip(*map(jax.tree.leaves, trees), strict=True)
    want = zip(*(adamax_reference(leaf, 1.0, b1, b2) for leaf in per_leaf), strict=True)
    for a, b in zip(got, want, strict=True):
        assert_trees_close(jax.tree.leaves(a), list(b))


def test_glow_adamax_is_textbook_adamax_times_a_square_root():
    b2, trees = 0.9, [tree["a"] for tree in gradients()]  # no zeros: 0 / 0 without eps
    ours = run(optim.scale_by_glow_adamax(b2=b2, eps=0.0), trees)
    textbook = run(optax.scale_by_adamax(b2=b2, eps=0.0), trees)
    for t, (a, b) in enumerate(zip(ours, textbook, strict=True), start=1):
        assert_trees_close(a, np.sqrt(1 - b2**t) * b)


def test_glow_adamax_jits_and_keeps_dtypes():
    params = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(3, jnp.float32)}
    optimizer = optim.scale_by_glow_adamax()
    state = optimizer.init(params)
    update, new_state = jax.jit(optimizer.update)(params, state)
    assert dtypes(update) == dtypes(params)
    assert dtypes(new_state) == dtypes(state)
    eager, _ = optimizer.update(params, state)
    assert_trees_close(update, eager, rtol=1e-2)  # bfloat16 has 8 bits


def test_the_first_state_can_be_donated():
    params = {"a": jnp.ones(3)}
    optimizer = optim.make_optimizer(STEADY, batch_size=512)
    state = optimizer.init(params)
    update, _ = jax.jit(optimizer.update, donate_argnums=1)(params, state)
    assert jnp.all(jnp.isfinite(update["a"]))


def test_make_optimizer_is_the_whole_recipe():
    config, batch_size, trees = optim.Optimizer(warmup_images=20 * 512), 512, gradients()
    got = run(optim.make_optimizer(config, batch_size=batch_size), trees)
    steps = adamax_reference([tree["a"] for tree in trees], 1e-3, beta2=1 - 1 / 98)
    for t, update in enumerate(got):
        assert_trees_close(update["a"], -min(1, (t + 1) / 20) * steps[t])


@pytest.mark.parametrize(("step", "share"), [(0, 512 / 5e5), (487, 0.499712), (976, 1), (10**7, 1)])
def test_warmup_then_constant(step, share):
    rate = optim.warmup(1e-3, images=500_000, batch_size=512)
    np.testing.assert_allclose(rate(step), 1e-3 * share, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(rate)(jnp.int32(step)), 1e-3 * share, rtol=1e-12)


# 1,000 images in batches of 300: rates 0.3, 0.6, 0.9, 1; a cosine over the 100 steps from 4 on.
@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.3), (2, 0.9), (3, 1), (4, 1), (54, 0.5), (104, 0), (200, 0)]
)
def test_warmup_then_cosine(step, share):
    rate = optim.warmup(2.0, images=1000, batch_size=300, then="cosine", total_steps=104)
    np.testing.assert_allclose(rate(step), 2 * share, rtol=1e-12, atol=1e-12)


def test_no_warmup_starts_at_the_peak():
    assert optim.warmup(0.1, images=0, batch_size=8)(0) == 0.1
    rate = optim.warmup(0.1, images=0, batch_size=8, then="cosine", total_steps=10)
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], [0.1, 0.05, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("batch_size", "total_steps", "images"),
    [
        (64, 6, 0),
        (64, 10, 64),
        (16, 1000, 1600),
        (512, 180_000, 500_000),  # a tenth would be more
        (64, None, 500_000),
    ],
)
def test_a_warmup_of_no_given_length_is_a_tenth_of_the_run_at_most(batch_size, total_steps, images):
    lengths = {"batch_size": batch_size, "total_steps": total_steps}
    assert optim.warmup_images(optim.Optimizer(), **lengths) == images
    assert optim.warmup_images(optim.Optimizer(warmup_images=7), **lengths) == 7
    rate = optim.learning_rate_schedule(optim.Optimizer(), **lengths)
    steps = -(-images // batch_size)
    np.testing.assert_allclose(rate(steps), 1e-3)
    if steps > 1:
        assert np.asarray(rate(steps - 2)) < 1e-3


@pytest.mark.parametrize("total_steps", [1, 2, 9, 10, 11, 100])
def test_a_cosine_fits_into_a_run_of_any_length(total_steps):
    config = optim.Optimizer(decay="cosine")
    rate = optim.learning_rate_schedule(config, batch_size=64, total_steps=total_steps)
    rates = [np.asarray(rate(step)) for step in range(total_steps + 1)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("images", "fits"), [(320, True), (321, False), (384, False)])
def test_a_given_warmup_is_obeyed_or_refused_by_both_names(images, fits):
    config = optim.Optimizer(decay="cosine", warmup_images=images)
    if fits:
        rate = optim.learning_rate_schedule(config, batch_size=64, total_steps=6)
        np.testing.assert_allclose(rate(0), 1e-3 / 5)
        return
    message = rf"^optimizer.warmup_images must be at most 320, .*train_steps=6.* got {images}$"
    with pytest.raises(ValueError, match=message):
        optim.make_optimizer(config, batch_size=64, total_steps=6)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("glow_adamax", lambda: optim.scale_by_glow_adamax(b2=1 - 1 / 98)),
        ("adamax", lambda: optax.adamax(1.0)),
        ("adam", lambda: optax.adam(1.0)),
        ("adamw", lambda: optax.adamw(1.0)),
    ],
)
def test_each_name_is_its_rule(name, reference):
    trees = gradients()
    config = dataclasses.replace(STEADY, name=name)
    got = run(optim.make_optimizer(config, batch_size=512), trees)
    sign = -0.1 if name == "glow_adamax" else 0.1  # optax's optimisers negate, our rule does not
    want = run(optax.chain(reference(), optax.scale(sign)), trees)
    for a, b in zip(got, want, strict=True):
        assert_trees_close(a, b)


def test_given_b2_and_weight_decay_are_used():
    trees = gradients()
    config = dataclasses.replace(STEADY, name="adamw", b1=0.8, b2=0.95, weight_decay=0.3)
    got = run(optim.make_optimizer(config, batch_size=512), trees)
    want = run(optax.adamw(0.1, b1=0.8, b2=0.95, weight_decay=0.3), trees)
    assert_trees_close(got[-1], want[-1])


def test_clipping_comes_before_the_rule():
    trees = gradients()
    norms = [optax.tree.norm(tree) for tree in trees]
    clipped = [
        jax.tree.map(lambda g, n=norm: g / max(1, n), tree)
        for tree, norm in zip(trees, norms, strict=True)
    ]
    assert max(norms) > 1  # or there is nothing to clip
    config = dataclasses.replace(STEADY, clip_norm=1.0)
    got = run(optim.make_optimizer(config, batch_size=512), trees)
    want = run(optim.make_optimizer(STEADY, batch_size=512), clipped)
    assert_trees_close(got[-1], want[-1])


@pytest.mark.parametrize("name", ["glow_adamax", "adamax", "adam", "adamw"])
def test_every_rule_descends(name):
    config = optim.Optimizer(name=name, learning_rate=0.1, warmup_images=5000, decay="cosine")
    optimizer = optim.make_optimizer(config, batch_size=500, total_steps=300)
    target = jnp.array([1.0, -2.0])

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(params - target, state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.zeros(2)
    state = optimizer.init(params)
    for _ in range(300):
        params, state = step(params, state)
    np.testing.assert_allclose(params, target, atol=1e-2)


def test_ema_warms_up_then_decays():
    average = {"a": jnp.zeros(2)}
    params = {"a": jnp.ones(2)}
    for step, kept in [(0, 0.1), (8, 0.5), (10**6, 0.9)]:
        got = jax.jit(optim.ema, static_argnames="decay")(average, params, step, decay=0.9)
        np.testing.assert_allclose(got["a"], 1 - kept, rtol=1e-12)


def test_ema_keeps_dtypes():
    tree = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(2, jnp.bfloat16)}
    got = optim.ema(tree, tree, jnp.int32(3))
    assert dtypes(got) == dtypes(tree)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", "sgd"),
        ("learning_rate", -1e-3),
        ("learning_rate", float("nan")),
        ("b1", 1.0),
        ("b2", -0.1),
        ("weight_decay", 0.1),  # the default rule decays no weights
        ("clip_norm", 0.0),
        ("warmup_images", -1),
        ("decay", "linear"),
    ],
)
def test_config_errors_name_the_argument(argument, value):
    with pytest.raises(ValueError, match=rf"^{argument} must be .*, got {value!r}$"):
        optim.Optimizer(**{argument: value})


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("peak", {"peak": -1.0}),
        ("images", {"images": -1}),
        ("batch_size", {"batch_size": 0}),
        ("then", {"then": "linear"}),
        ("total_steps", {"then": "cosine"}),
        ("total_steps", {"then": "cosine", "total_steps": 9}),  # the warm-up alone takes 9
    ],
)
def test_warmup_errors_name_the_argument(argument, wrong):
    arguments = dict(peak=1.0, images=9, batch_size=1) | wrong
    with pytest.raises(ValueError, match=rf"^{argument} must be .*, got "):
        optim.warmup(**arguments)


@pytest.mark.parametrize(("argument", "value"), [("b1", 1.5), ("b2", 1.0), ("eps", -1.0)])
def test_glow_adamax_errors_name_the_argument(argument, value):
    with pytest.raises(ValueError, match=rf"^{argument} must be .*, got {value!r}$"):
        optim.scale_by_glow_adamax(**{argument: value})


def test_other_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"^batch_size must be .*, got 0$"):
        optim.make_optimizer(optim.Optimizer(), batch_size=0)
    with pytest.raises(ValueError, match=r"^decay must be .*, got 1.0$"):
        optim.ema({}, {}, 0, decay=1.0)
