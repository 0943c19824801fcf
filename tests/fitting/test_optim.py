"""Optimisers: Glow's Adamax against NumPy, schedules at their corners, configs and their errors."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recipe_numpy import adamax_reference

from glowjax.fitting import optim
from glowjax.runs.models import Glow, Jet, TarFlow

STEPS = 50
STEADY = optim.Optimizer(warmup_images=0, learning_rate=0.1)
MUON = dataclasses.replace(STEADY, name="muon", muon_learning_rate=0.05)


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


def nets(*stacked):
    """Parameters of a coupling net, or of several stacked, and of the 1x1 convolution beside it.

    The net has a transformer's block too.
    """
    rng = np.random.default_rng(1)
    shapes = {"conv1": (3, 3, 2, 5), "conv2": (1, 1, 5, 5), "out": (3, 3, 5, 4)}
    layers: dict[str, Any] = {
        name: {"weight": rng.normal(size=(*stacked, *s))} for name, s in shapes.items()
    }
    layers["blocks"] = {"qkv": {"kernel": rng.normal(size=(*stacked, 1, 4, 12))}}
    return [{"weight": rng.normal(size=(*stacked, 4, 4))}, {"net": layers}]


def net_of(tree):
    """The arrays that are Muon's in a tree like that of `nets`."""
    net = tree[1]["net"]
    return {
        "conv1": net["conv1"]["weight"],
        "conv2": net["conv2"]["weight"],
        "qkv": net["blocks"]["qkv"]["kernel"],
    }


def muon_updates(config, trees, params, steps=None):
    optimizer = optim.make_optimizer(config, batch_size=500, total_steps=steps)
    state, update, updates = optimizer.init(params), jax.jit(optimizer.update), []
    for tree in trees:
        made, state = update(tree, state, params)
        updates.append(made)
    return updates


def muon_paths(model):
    """Paths of the parameters of a model of images 8×8 that are Muon's."""

    def init(x):
        params = {}
        for name, part in model.parts(None).items():
            params[name] = part.init(jax.random.key(0), x)
            x, _ = part.forward(params[name], x)
        return params

    params = jax.eval_shape(init, jnp.zeros((2, 8, 8, 3)))
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    return {jax.tree_util.keystr(path) for path in paths if optim.muon_input_axes(path)}


@pytest.mark.slow
@pytest.mark.parametrize("norm", [True, False])
def test_muon_gets_the_first_two_kernels_of_each_net_of_a_glow(norm):
    got = muon_paths(Glow(levels=2, steps=2, width=4, norm=norm))
    levels = (f"['backbone']['level{level}']['steps']['coupling']" for level in (1, 2))
    assert got == {f"{l}['net']['conv{i}']['weight']" for l in levels for i in (1, 2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "nets"),
    [(TarFlow(steps=1, width=4, blocks=1, heads=1), 2), (Jet(steps=1, width=4, heads=1), 4)],
)
def test_muon_gets_the_kernels_of_a_transformers_blocks(model, nets):
    got = muon_paths(model)
    kernels = {"qkv", "attended", "hidden", "mlp"}
    ends = [path.rsplit("['net']", 1)[1] for path in got]
    assert set(ends) == {f"['blocks']['{name}']['kernel']" for name in kernels}
    assert len(ends) == nets * len(kernels)


def test_muon_makes_nesterov_momentum_orthogonal_and_alike_in_size():
    trees = [jax.tree.map(lambda p, i=i: p * np.cos(i + 7 * p), nets()) for i in range(3)]
    got = muon_updates(MUON, trees, nets())
    for name, shape in [("conv1", (18, 5)), ("conv2", (5, 5)), ("qkv", (4, 12))]:
        momentum = np.zeros(shape)
        for t, (tree, update) in enumerate(zip(trees, got, strict=True), start=1):
            gradient = net_of(tree)[name].reshape(shape)
            momentum = 0.95 * momentum + 0.05 * gradient
            ahead = 0.95 * momentum / (1 - 0.95 ** (t + 1)) + 0.05 * gradient / (1 - 0.95**t)
            left, _, right = np.linalg.svd(ahead, full_matrices=False)
            made = np.reshape(net_of(update)[name], shape)
            made = left.T @ made @ right.T / (-0.05 * 0.2 * np.sqrt(max(shape)))
            np.testing.assert_allclose(made, np.diag(np.diag(made)), atol=1e-6)
            assert 0.6 < np.diag(made).min() <= np.diag(made).max() < 1.3
            assert np.shape(net_of(update)[name]) == np.shape(net_of(tree)[name])


def test_muon_leaves_all_else_to_glow_adamax():
    trees = [jax.tree.map(lambda p, i=i: p * np.cos(i + p), nets(2)) for i in range(3)]
    for a, b in zip(
        muon_updates(MUON, trees, nets(2)), muon_updates(STEADY, trees, nets(2)), strict=True
    ):
        for rest in (lambda t: t[0], lambda t: t[1]["net"]["out"]):
            # Its b2 is by the batch of 500 images in both.
            assert_trees_close(rest(a), rest(b))
        assert not any(np.allclose(net_of(a)[name], net_of(b)[name]) for name in net_of(a))


def test_muon_treats_stacked_nets_one_by_one():
    trees = [jax.tree.map(lambda p, i=i: p * np.cos(i + p), nets(3)) for i in range(2)]
    together = muon_updates(MUON, trees, nets(3))
    for k in range(3):
        one = [jax.tree.map(lambda a, k=k: a[k], tree) for tree in trees]
        alone = muon_updates(MUON, one, jax.tree.map(lambda a, k=k: a[k], nets(3)))
        want = jax.tree.map(lambda a, k=k: a[k], together[-1])
        assert_trees_close(alone[-1], want, rtol=1e-9)


def test_muon_decays_its_kernels_alone_and_both_rates_warm_up_and_fall_to_zero():
    config = optim.Optimizer(
        name="muon",
        learning_rate=0.3,
        muon_learning_rate=0.1,
        weight_decay=0.2,
        warmup_images=2500,
        decay="cosine",
    )
    params, steps = nets(), 20
    still = jax.tree.map(jnp.zeros_like, params)
    got = muon_updates(config, [still] * (steps + 1), params, steps)
    rate = optim.learning_rate_schedule(config, batch_size=500, total_steps=steps)
    np.testing.assert_allclose([rate(5), rate(steps)], [0.3, 0.0])
    for step, update in enumerate(got):
        for name, kernel in net_of(params).items():
            np.testing.assert_allclose(net_of(update)[name], -0.2 * rate(step) / 3 * kernel)
        assert not np.any(update[0]["weight"]) and not np.any(update[1]["net"]["out"]["weight"])


def test_muon_needs_a_kernel():
    optimizer = optim.make_optimizer(MUON, batch_size=512)
    with pytest.raises(ValueError, match=r"^optimizer.name must be another .*, got 'muon'$"):
        optimizer.init({"net": {"out": {"weight": jnp.ones((3, 3, 1, 1))}}})


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
        ("muon_learning_rate", 0.1),  # nor has it two rates
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
