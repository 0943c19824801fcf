"""Configs: through JSON and back, what they refuse, and the experiments against the recipe."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from glowjax.data.transform import Transform
from glowjax.fitting.optim import Optimizer, learning_rate_schedule, warmup
from glowjax.runs.config import Config, Data, experiment, experiment_files, from_json, to_json
from glowjax.runs.models import KINDS, Autoregressive, FlowPP, Glow, RealNVP
from glowjax.runs.steps import make_trainer
from glowjax.runs.suggest import smoke
from glowjax.runs.transformers import Jet, TarFlow

EXPERIMENTS = sorted(experiment_files())

# Levels, steps, coupling, bits, side; the recipe's table, and our own below it.
TABLE = {
    "glow_cifar10": (3, 32, "affine", 8, 32),
    "glow_imagenet32": (3, 48, "affine", 8, 32),
    "glow_imagenet64": (4, 48, "affine", 8, 64),
    "glow_celebahq256": (6, 32, "additive", 5, 256),
    "glow_cifar10_conditional": (3, 32, "additive", 5, 32),
    "glow_digits": (2, 8, "affine", None, 8),
    "glow_mnist": (3, 16, "affine", 8, 32),
    "glow_fashion_mnist": (3, 16, "affine", 8, 32),
}
# Kind, grey levels, shape.
OTHERS = {
    "flowpp_digits": (FlowPP, 17, (8, 8, 1)),
    "flowpp_cifar10": (FlowPP, 256, (32, 32, 3)),
    "jet_digits": (Jet, 17, (8, 8, 1)),
    "jet_mnist": (Jet, 256, (32, 32, 1)),
    "jet_cifar10": (Jet, 256, (32, 32, 3)),
    "tarflow_digits": (TarFlow, 17, (8, 8, 1)),
    "tarflow_mnist": (TarFlow, 256, (32, 32, 1)),
    "tarflow_cifar10": (TarFlow, 256, (32, 32, 3)),
    "realnvp_digits": (RealNVP, 17, (8, 8, 1)),
    "realnvp_mnist": (RealNVP, 256, (28, 28, 1)),
    "realnvp_cifar10": (RealNVP, 256, (32, 32, 3)),
    "glow_celeba64": (Glow, 32, (64, 64, 3)),
    "glow_cifar10_muon": (Glow, 256, (32, 32, 3)),
    "glow_folder": (Glow, 256, (32, 32, 3)),
    "glow_mnist_conditional": (Glow, 256, (32, 32, 1)),
    "pixel_flow_digits": (Autoregressive, 17, (8, 8, 1)),
    "pixel_flow_mnist": (Autoregressive, 256, (28, 28, 1)),
    "pixel_flow_mnist_binary": (Autoregressive, 2, (28, 28, 1)),
}
OURS = {"glow_digits", "glow_mnist", "glow_fashion_mnist"}
GREY = OURS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_survive_json(name):
    config = experiment(name)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("kind", KINDS)
def test_models_survive_json_as_their_kind(kind):
    config = Config(model=KINDS[kind](width=9, conditional=True))
    plain = json.loads(json.dumps(to_json(config)))
    assert plain["model"]["kind"] == kind
    assert from_json(plain) == config


def test_models_without_a_kind_are_glow():
    assert from_json({"model": {"levels": 2}}) == Config(model=Glow(levels=2))


WARMUP_IMAGES = {
    "flowpp_cifar10": 50_000,
    "flowpp_digits": 6_400,
    "glow_celebahq256": 7_800,
    "glow_cifar10": 500_000,
    "glow_cifar10_conditional": 500_000,
    "glow_celeba64": 25_000,
    "glow_cifar10_muon": 50_000,
    "glow_digits": 6_400,
    "glow_folder": 6_400,
    "glow_imagenet32": 500_000,
    "glow_imagenet64": 125_000,
    "jet_cifar10": 300_000,
    "jet_digits": 6_400,
    "pixel_flow_digits": 6_400,
    "realnvp_cifar10": 50_000,
    "realnvp_digits": 6_400,
    "tarflow_cifar10": 300_000,
    "tarflow_digits": 6_400,
}  # all others: 100,000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_learning_rates_of_experiments(name):
    config = experiment(name)
    size = {"batch_size": config.batch_size, "total_steps": config.train_steps}
    images, optimizer = WARMUP_IMAGES.get(name, 100_000), config.optimizer
    rate = learning_rate_schedule(optimizer, **size)
    wanted = warmup(optimizer.learning_rate, images=images, then=optimizer.decay, **size)
    for step in (0, images // config.batch_size // 2, images // config.batch_size, 2_000):
        assert rate(step) == wanted(step)


@pytest.mark.parametrize("pad", [2, (2, 1), ((1, 2), (0, 1)), (1, (0, 2))])
@pytest.mark.parametrize("size", [4, (44, 28), None])
def test_sizes_survive_json(size, pad):
    data = Data(resize=size, transform=Transform(crop=size, pad=pad))
    plain = json.loads(json.dumps(to_json(Config(data=data))))
    assert from_json(plain) == Config(data=data)
    hash(from_json(plain))


def test_paths_survive_json():
    config = Config(data=Data(data_dir=Path("a/b"), transform=Transform(bits=5)))
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_fields_that_are_missing_are_the_defaults():
    assert from_json({"seed": 3}) == Config(seed=3)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"sed": 3}, "fields that Config does not: sed"),
        ({"model": {"depth": 3}}, "fields that Glow does not: depth"),
        ({"model": {"kind": "realnvp", "steps": 3}}, "fields that RealNVP does not: steps"),
        ({"model": {"kind": "nice"}}, "model.kind must be one of 'glow', .*, got 'nice'"),
        ({"data": {"transform": {"b": 1, "a": 1}}}, "fields that Transform does not: a, b"),
    ],
)
def test_unknown_fields_are_named(plain, message):
    with pytest.raises(ValueError, match=message):
        from_json(plain)


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "train_steps": (Config, {"train_steps": 0}, "train_steps must be a whole number of at least 1"),
    "batch_size": (Config, {"batch_size": 2.5}, "batch_size must be a whole number"),
    "log_every": (Config, {"log_every": 0}, "log_every must be"),
    "evaluate_every": (Config, {"evaluate_every": -1}, "evaluate_every must be"),
    "evaluate_samples": (Config, {"evaluate_samples": 0}, "evaluate_samples must be"),
    "sample_count": (Config, {"sample_count": 0}, "sample_count must be"),
    "evaluate_with": (Config, {"evaluate_with": "best"}, "evaluate_with must be one of 'ema'"),
    "no average": (Config, {"ema": None}, "evaluate_with must be 'raw' where ema is None"),
    "ema": (Config, {"ema": 1.0}, r"ema must be None or in \[0, 1\), got 1.0"),
    "classifier_weight": (
        Config,
        {"classifier_weight": -1},
        r"classifier_weight must be in \[0, inf\)",
    ),
    "temperature": (
        Config,
        {"temperature": math.nan},
        r"temperature must be in \[0, inf\), got nan",
    ),
    "validation": (Data, {"validation": 0}, "validation must be a whole number of at least 1"),
    "crop": (Transform, {"crop": 0}, "crop must be"),
    "resize": (Data, {"resize": (4, 0)}, "resize must be a whole number of at least 1, got 0"),
    "learning_rate": (
        Optimizer,
        {"learning_rate": math.inf},
        r"learning_rate must be in \[0, inf\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case):
    kind, arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


SMALL: dict[Any, dict[str, Any]] = {
    Glow: {"levels": 1, "steps": 2, "width": 4},
    RealNVP: {"width": 4, "blocks": 1},
    Autoregressive: {"width": 4, "depth": 1, "components": 2},
    FlowPP: {
        "steps": (1, 1, 1),
        "components": 2,
        "width": 4,
        "blocks": 1,
        "noise_steps": 1,
        "noise_width": 4,
        "noise_blocks": 1,
    },
    Jet: {"patch": 2, "steps": 1, "channel_couplings": 1, "width": 4, "blocks": 1, "heads": 2},
    TarFlow: {"patch": 2, "steps": 1, "width": 4, "blocks": 1, "heads": 2},
}
BAD_MODELS: list[tuple[Any, dict[str, Any], str]] = [
    (Glow, {"levels": 0}, "levels must be a whole number"),
    (Glow, {"steps": 0}, "must be a whole number of at least 1"),
    (Glow, {"width": 0}, "width must be a whole number"),
    (Glow, {"coupling": "spline"}, "coupling must be one of"),
    (Glow, {"dtype": "float16"}, "dtype must be one of"),
    (Glow, {"backprop": "forget"}, "backprop must be one of"),
    (Glow, {"unroll": 0}, "unroll must be"),
    (RealNVP, {"architecture": "deep"}, "architecture must be one of"),
    (RealNVP, {"blocks": 0}, "blocks must be a whole number"),
    (RealNVP, {"dtype": "float16"}, "dtype must be one of"),
    (RealNVP, {"logit": 0.5}, r"alpha must be in \[0, 0.5\), got 0.5"),
    (Autoregressive, {"transform": "spline"}, "transform must be one of"),
    (Autoregressive, {"components": 1}, "components must be a whole number of at least 2"),
    (Autoregressive, {"kernel": 4}, "kernel must be odd"),
    (Autoregressive, {"depth": 0}, "depth must be a whole number"),
    (FlowPP, {"steps": 4}, "steps must be three whole numbers, got 4"),
    (FlowPP, {"noise_steps": -1}, "steps must be a whole number of at least 1, got -1"),
    (FlowPP, {"dtype": "float16"}, "dtype must be one of"),
    (Jet, {"patch": 3}, "x must have a height divisible by 3 and a width divisible by 6"),
    (Jet, {"heads": 3}, "width must be a multiple of 3, got 4"),
    (Jet, {"dtype": "float16"}, "dtype must be one of"),
    (TarFlow, {"patch": 3}, "x must have height and width divisible by 3 for patch=3"),
    (TarFlow, {"segment": 3}, "segment must be a divisor of 4, got 3"),
    (TarFlow, {"dtype": "bfloat16", "backprop": "invert"}, "backprop must be 'store' or"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), BAD_MODELS)
def test_bad_models_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(Config(model=kind(**(SMALL[kind] | arguments))), (4, 4, 1), 17, None)


@pytest.mark.parametrize("kind", [RealNVP, Autoregressive, FlowPP, Jet, TarFlow])
def test_a_classifier_needs_a_model_of_two_parts(kind):
    config = Config(model=kind(**SMALL[kind]), classifier_weight=0.01)
    with pytest.raises(
        ValueError, match=r"classifier_weight must be 0 for the model '.*', got 0.01"
    ):
        build(config, (4, 4, 1), 17, 10)


def exhaustive(value):
    return pytest.param(value, marks=pytest.mark.exhaustive)


MODELS = [
    Glow(**SMALL[Glow], logit=0.05),
    RealNVP(**SMALL[RealNVP]),
    exhaustive(RealNVP(**SMALL[RealNVP], levels=3, logit=None)),
    RealNVP(**SMALL[RealNVP], architecture="single_scale", dtype="bfloat16"),
    exhaustive(
        RealNVP(**SMALL[RealNVP], architecture="single_scale", logit=None, conditional=True)
    ),
    Autoregressive(**SMALL[Autoregressive]),
    Autoregressive(**SMALL[Autoregressive], transform="affine", logit=None, conditional=True),
    Autoregressive(**SMALL[Autoregressive], transform="gaussian_mixture", kernel=5),
    FlowPP(**SMALL[FlowPP], conditional=True),
    exhaustive(dataclasses.replace(FlowPP(**SMALL[FlowPP]), noise_steps=0, dtype="bfloat16")),
    Jet(**SMALL[Jet], conditional=True, logit=0.05, dtype="bfloat16"),
    TarFlow(**SMALL[TarFlow], conditional=True, logit=0.05, dtype="bfloat16"),
]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_outlines_hold_all_parameters(model):
    flow = build(Config(model=model), (8, 8, 1), 17, 10).params.flow
    rows = model.outline(flow, (8, 8, 1))
    assert all(name for name, _, _ in rows)
    assert sizes([part for _, _, part in rows]) == sizes(flow)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        exhaustive(RealNVP),
        Autoregressive,
        exhaustive(FlowPP),
        exhaustive(Jet),
        exhaustive(TarFlow),
    ],
)
def test_labels_condition(kind):
    flow = kind(**SMALL[kind], conditional=True).parts(3)["flow"]
    x = jax.random.uniform(jax.random.key(0), (4, 4, 4, 1)) - 0.5
    labels = jnp.array([0, 2, 3, -1])  # the last two are not there
    params = flow.init(jax.random.key(1), x, labels[:1].repeat(4))
    keys = iter(jax.random.split(jax.random.key(2), 1000))  # output layers start at zero
    params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(next(keys), a.shape), params)
    same = jnp.repeat(x[:1], 4, axis=0)
    z, log_det = jax.jit(flow.forward)(params, same, labels)
    assert jnp.all(jnp.isfinite(log_det[:2]))
    assert log_det[0] != log_det[1]
    assert jnp.all(jnp.isnan(log_det[2:]))
    back, _ = flow.inverse(params, jax.tree.map(lambda a: a[:2], z), labels[:2])
    assert jnp.allclose(back, same[:2], atol=1e-6)
    for wrong in (None, jnp.array([0, 1]), jnp.eye(4), labels):
        with pytest.raises(
            ValueError, match=r"context must be (integer labels|given, with one row)"
        ):
            flow.forward(params, same, wrong)


def test_an_experiment_may_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from glowjax.runs import Config\n\nconfig = Config(seed=7)\n")
    assert experiment(str(path)) == Config(seed=7)


def test_a_file_without_a_config_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("config = 3\n")
    with pytest.raises(ValueError, match=r"mine.py' must define config, a glowjax.runs.Config"):
        experiment(str(path))


@pytest.mark.parametrize("name", ["glow_digit", "glow_digits.py"])
def test_an_unknown_experiment_gets_a_suggestion(name):
    with pytest.raises(ValueError, match=rf"got '{name}'; .*did you mean glow_digits"):
        experiment(name)


def test_every_experiment_is_in_the_table():
    assert set(TABLE) | set(OTHERS) == set(EXPERIMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_experiments_are_the_recipes_and_can_be_built(name):
    levels, steps, coupling, bits, side = TABLE[name]
    config = experiment(name)
    model = config.model
    assert isinstance(model, Glow)
    assert (model.levels, model.steps, model.coupling) == (levels, steps, coupling)
    if bits is not None:
        assert (config.data.transform.bits or 8) == bits
    if name not in OURS:
        assert (model.width, model.scale, model.mixing) == (512, "sigmoid", "conv1x1")
        assert model.ring
        assert model.norm
        assert (model.dtype, model.backprop) == ("bfloat16", "store")  # as RESULTS measures
        assert config.optimizer.name == "glow_adamax"
        assert config.optimizer.learning_rate == 1e-3
        assert (config.ema, config.evaluate_with) == (None, "raw")
    assert model.conditional == (config.classifier_weight > 0) == name.endswith("_conditional")
    if model.conditional:
        assert config.classifier_weight == 0.01
    shape = (side, side, 1 if name in GREY else 3)
    grey = 17 if name == "glow_digits" else 2 ** (bits or 8)
    assert sizes(build(config, shape, grey, 10).params) > 100_000


def test_our_recipe_for_cifar10_trains_the_papers_function_and_its_crops_end():
    ours, paper = experiment("glow_cifar10_muon"), experiment("glow_cifar10")
    assert ours.model == paper.model
    end = ours.data.transform.first_steps
    assert end is not None and 0 < end < ours.train_steps


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_experiments_can_be_built(name):
    kind, grey, shape = OTHERS[name]
    config = experiment(name)
    assert isinstance(config.model, kind)
    assert (config.data.transform.bits == 1) == (grey == 2)
    assert sizes(build(config, shape, grey, 10).params) > 30_000


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_the_smoke_size_of_other_experiments_can_be_built(name):
    _, grey, shape = OTHERS[name]
    assert build(smoke(experiment(name)), shape, grey, 10).params


def test_the_papers_realnvp():
    config = experiment("realnvp_cifar10")
    model, optimizer = config.model, config.optimizer
    assert isinstance(model, RealNVP)
    assert (model.architecture, model.levels, model.width) == ("multi_scale", 2, 64)
    assert (model.blocks, model.logit) == (8, 0.05)
    assert (optimizer.name, optimizer.learning_rate, config.batch_size) == ("adam", 1e-3, 64)
    assert config.data.transform.flip


@pytest.mark.slow
def test_the_papers_flowpp():
    """It has 31.4 million parameters in the paper, whose last convolutions are 3×3."""
    config = experiment("flowpp_cifar10")
    model = config.model
    assert isinstance(model, FlowPP)
    assert (model.steps, model.components, model.heads) == ((4, 2, 3), 32, 4)
    assert (model.width, model.blocks, model.logit) == (96, 10, 0.05)
    params = build(config, (32, 32, 3), 256, 10).params
    assert sizes(params.flow[0]) == 26_590_728
    assert sizes(params.flow[1]) == 445_832


def sizes(tree):
    """Numbers in all arrays of a tree."""
    return sum(math.prod(a.shape) for a in jax.tree.leaves(tree))


def build(config, shape, levels, num_classes):
    """Shapes of an experiment's state: nothing is computed."""
    trainer = make_trainer(config, image_shape=shape, levels=levels, num_classes=num_classes)
    batch = {
        "image": jax.ShapeDtypeStruct((2, *shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    return jax.eval_shape(trainer.init, batch)


def test_conditional_models_need_labels():
    with pytest.raises(
        ValueError, match=r"model.conditional must be false for data without labels"
    ):
        Glow(conditional=True).parts(None)


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # ty: ignore[invalid-assignment]
