"""Benchmarks: what they count and report, never how fast."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import pytest
import tyro

import glowjax
from experiments.bench import ceilings, common, defaults, peers, train
from experiments.bench.__main__ import COMMANDS
from experiments.bench.flow_peers import MODELS
from glowjax.timing import measure, summary, time_calls


@pytest.fixture
def in_process(monkeypatch):
    """The settings of a benchmark run here: a process each would take half a minute."""

    def run(function, setting, env=None):
        for row in common.answers(function, json.loads(json.dumps(setting))):
            yield json.loads(json.dumps(row))

    monkeypatch.setattr(common, "in_subprocess", run)


def command(tmp_path, *options):
    """What a command writes."""
    path = tmp_path / "new" / "result.json"
    args = [*options, "--small", "--output", str(path)]
    tyro.extras.subcommand_cli_from_dict(COMMANDS, args=args)
    result = json.loads(path.read_text())
    assert {"command", "date", "versions", "device", "rows"} <= set(result)
    assert not any("error" in row for row in result["rows"])
    return result


TIMED = {"milliseconds", "least", "most", "images_per_second", "tflops", "compile_seconds"}


@pytest.mark.exhaustive
@pytest.mark.float32
def test_train(in_process, tmp_path, capsys):
    (row,) = command(tmp_path, "train", "--backprop", "invert")["rows"]
    assert row["backprop"] == "invert"
    assert {*TIMED, "peak_bytes", "matmul_share"} <= set(row)
    assert row["least"] <= row["milliseconds"] <= row["most"]
    assert 6 < row["train_bits_per_dim"] < 9  # noise of 8 bits, at initialised weights
    out = capsys.readouterr().out
    assert "img/s" in out
    assert "glowjax" in out


@pytest.mark.slow
@pytest.mark.float32
def test_sample(in_process, tmp_path):
    rows = command(tmp_path, "sample", "--dtype", "bfloat16")["rows"]
    assert [row["batch"] for row in rows] == [1, 8]
    assert all({*TIMED, "peak_bytes"} <= set(row) for row in rows)


@pytest.mark.exhaustive
@pytest.mark.float32
def test_compile(in_process, tmp_path):
    rows = command(tmp_path, "compile")["rows"]
    assert [(row["steps"], row["cache"]) for row in rows] == [(2, "cold"), (2, "warm")]
    assert all(len(row["every_seconds"]) == 1 for row in rows)


@pytest.mark.exhaustive
@pytest.mark.float32
def test_memory(in_process, tmp_path):
    rows = command(tmp_path, "memory", "--backprop", "invert")["rows"]
    assert [row["steps"] for row in rows] == [2, 3]
    for row in rows:
        assert row["activation_bytes"] == row["temporary_bytes"] - row["gradient_bytes"] > 0


@pytest.mark.exhaustive
def test_scale(tmp_path):
    rows = command(tmp_path, "scale", "--devices", "1", "2", "--way", "pmap")["rows"]
    assert [row["devices"] for row in rows] == [1, 2]
    assert rows[0]["efficiency"] == 1 != rows[1]["efficiency"]
    assert all(row["donated"] == 1 and 0 <= row["waiting"] < 1 for row in rows)


@pytest.mark.slow
@pytest.mark.float32
def test_planar(in_process, tmp_path):
    (row,) = command(tmp_path, "planar", "--repetitions", "3")["rows"]
    assert 0 < row["least"] <= row["seconds_per_1000"] <= row["most"]


@pytest.mark.slow
@pytest.mark.float32
def test_flows(in_process, tmp_path):
    rows = command(tmp_path, "flows", "--kinds", "affine", "--repetitions", "3")["rows"]
    assert [row["call"] for row in rows] == ["log_prob of 8", "step of 8", "sample of 8"]
    assert all(0 < row["least"] <= row["milliseconds"] <= row["most"] for row in rows)
    assert rows[1]["temporary_bytes"] > 0


@pytest.mark.slow
def test_many(in_process, tmp_path):
    one, two = command(tmp_path, "many", "--repetitions", "3")["rows"]
    assert (one["fits"], two["fits"], one["price"]) == (1, 2, 1.0)
    assert 0 < two["least"] <= two["milliseconds"] <= two["most"]


@pytest.mark.slow
def test_fits(in_process, tmp_path):
    (row,) = command(tmp_path, "fits")["rows"]
    assert row["library"] == "glowjax" and row["standard_error"] > 0


@pytest.mark.slow
def test_defaults(in_process, tmp_path, monkeypatch, capsys):
    two = dict(list(defaults.ALTERNATIVES.items())[:2])
    monkeypatch.setattr(defaults, "ALTERNATIVES", two)
    first, other = command(tmp_path, "defaults")["rows"]
    assert "gain" not in first and other["gain"] == pytest.approx(
        other["nats"] - first["nats"], abs=1e-5
    )
    assert "maf, SiLU: behind on" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["maf", "affine", "spline"])
def test_the_study_starts_from_the_defaults(kind):
    flow, x = MODELS[kind](), jax.random.normal(jax.random.key(0), (20, 3))
    params = flow.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
    studied = defaults.flow_of(kind, defaults.Choice())
    leaves, like = jax.tree.leaves(params), studied.init(jax.random.key(1), x)
    params_there = jax.tree.unflatten(jax.tree.structure(like), leaves)
    for ours, theirs in zip(flow.forward(params, x), studied.forward(params_there, x), strict=True):
        assert jnp.array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.float32
def test_angles(in_process, tmp_path):
    (row,) = command(tmp_path, "angles")["rows"]
    assert row["data"] == "three peaks" and -4 < row["nats"] < -3 and row["standard_error"] < 0.1


@pytest.mark.slow
@pytest.mark.float32
def test_a_setting_has_a_process_of_its_own():
    (row,) = common.in_subprocess(ceilings.measure, {"small": True})
    assert row["facts"]["matmul_peak"] > 0
    assert row["facts"]["copy_bandwidth"] > 0


def test_a_process_that_dies_makes_a_row(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    (row,) = common.in_subprocess(ceilings.measure, {"small": True})
    assert row == {"error": "ended with code 1"}


def fails(error, setting):
    yield {"first": 1}
    raise error


def test_out_of_memory_makes_a_row_and_the_run_goes_on(in_process, tmp_path, capsys):
    report = common.Report("train", tmp_path / "result.json")
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    for batch in (1, 2):
        report.run(functools.partial(fails, error), {}, {"library": "glowjax", "batch": batch})
    report.finish(train.COLUMNS)
    assert [row.get("error") for row in report.rows] == [None, "out of memory"] * 2
    assert "out of memory" in capsys.readouterr().out


def test_another_error_fails_the_command(in_process, tmp_path):
    report = common.Report("train", tmp_path / "result.json")
    report.run(functools.partial(fails, ValueError("width: no")), {}, {"library": "glowjax"})
    with pytest.raises(SystemExit, match="1"):
        report.finish(train.COLUMNS)
    assert report.rows[-1]["error"] == "ValueError: width: no"


@pytest.mark.parametrize("name", ["train", "sample"])
def test_missing_peers_are_said_at_once(monkeypatch, name):
    monkeypatch.setattr(peers, "LIBRARIES", ("no_such_library",))
    with pytest.raises(ValueError, match=r"no_such_library.*pip install 'glowjax\[bench\]'"):
        COMMANDS[name](with_peers=True)


def test_repetitions():
    with pytest.raises(ValueError, match="repetitions must be a whole number of at least 3, got 2"):
        COMMANDS["train"](repetitions=2)


# --- glowjax.bench


@pytest.fixture(scope="module")
def realnvp():
    """A small flow of vectors, and data for it."""
    net = functools.partial(glowjax.MLP, width=4, depth=1)
    return glowjax.as_flow(glowjax.AffineCoupling(net)), jnp.ones((6, 4))


def test_bench(realnvp):
    flow, x = realnvp
    result = glowjax.bench(flow, x, seconds=0)
    assert list(result) == ["forward", "gradient", "inverse"]
    for timing in result.values():
        assert isinstance(timing, glowjax.Timing)
        assert timing.compile_seconds > 0
        assert 0 < timing.least <= timing.milliseconds <= timing.most
        assert timing.temporary_bytes >= 0
    forward, gradient, inverse = result.values()
    # 2 inputs of the kept half -> 4 hidden -> 4 outputs, for 6 examples
    flops = 6 * 2 * (2 * 4 + 4 * 4)
    for timing, times in ((forward, 1), (gradient, 3), (inverse, 1)):
        seconds = timing.milliseconds / 1e3
        assert timing.tflops * seconds * 1e12 == pytest.approx(times * flops)
        assert timing.examples_per_second * seconds == pytest.approx(6)


@pytest.mark.slow
def test_bench_of_a_context():
    flow = glowjax.glow(levels=1, steps=1, width=4, num_classes=3)
    result = glowjax.bench(flow, jnp.ones((4, 2, 2, 3)), jnp.arange(4) % 3, seconds=0)
    assert result["gradient"].tflops > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flow": glowjax.glow}, "flow must be a glowjax.Flow"),
        ({"x": jnp.ones((6, 4), int)}, "x must be floating point"),
        ({"x": ()}, "x must be an array or a tuple of arrays"),
        ({"repetitions": 2}, "repetitions must be a whole number of at least 3, got 2"),
        ({"seconds": -1}, "seconds must be a number of at least 0, got -1"),
    ],
)
def test_bad_arguments(realnvp, options, message):
    flow, x = realnvp
    with pytest.raises(ValueError, match=message):
        glowjax.bench(**({"flow": flow, "x": x} | options))


def test_summary():
    timing = summary([0.3, 0.1, 0.2], examples=10, flops=4e12, compile_seconds=7)
    assert timing.milliseconds == pytest.approx(200)
    assert (timing.least, timing.most) == (pytest.approx(100), pytest.approx(300))
    assert timing.examples_per_second == pytest.approx(50)
    assert timing.tflops == pytest.approx(20)


def test_state_is_carried_and_donated():
    step = jax.jit(lambda state, x: (state + x, {"x": x}), donate_argnums=0)
    seen = []

    def call(state, x):
        seen.append(float(state))
        return step(state, x)

    times = time_calls(call, (jnp.zeros(()), 1.0), repetitions=4, seconds=0, carry=True)
    assert len(times) == 4
    assert seen == [0, 1, 2, 3, 4, 5]  # two calls to warm up


def test_measure_leaves_the_persistent_cache_as_it_was():
    before = jax.config.values["jax_enable_compilation_cache"]
    measure(jnp.sin, (jnp.ones(3),), seconds=0)
    assert jax.config.values["jax_enable_compilation_cache"] == before


def test_ceilings_refuse():
    with pytest.raises(ValueError, match="size must be a whole number of at least 1, got 0"):
        glowjax.matmul_peak(0)
    with pytest.raises(ValueError, match="size must be a whole number of at least 4, got 0"):
        glowjax.copy_bandwidth(0)


# --- matmul_flops

A, B = jnp.ones((3, 5)), jnp.ones((5, 7))
PRODUCT = 2 * 3 * 5 * 7


def scanned(a, b):
    return jax.lax.scan(lambda c, _: (c, a @ b), 0, length=4)


def branched(a, b):
    return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ b @ b.T @ b)


def looped(a, b):
    return jax.lax.while_loop(lambda c: c[0, 0] < 0, lambda c: a @ b, a @ b)


@jax.custom_vjp
def custom(a, b):
    return a @ b


custom.defvjp(lambda a, b: (a @ b, (a, b)), lambda ab, g: (g @ ab[1].T, ab[0].T @ g))


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (jnp.matmul, PRODUCT),
        (lambda a, b: a + 1, 0),
        (jax.jit(jnp.matmul), PRODUCT),
        (scanned, 4 * PRODUCT),
        (branched, 3 * PRODUCT),
        (looped, 2 * PRODUCT),
        (custom, PRODUCT),
        (jax.checkpoint(jnp.matmul), PRODUCT),
        (jax.vmap(jnp.matmul, in_axes=(None, 1)), PRODUCT),
        (jax.grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), argnums=(0, 1)), 3 * PRODUCT),
        (jax.grad(lambda a, b: jnp.sum(jnp.sin(custom(a, b))), argnums=(0, 1)), 3 * PRODUCT),
    ],
)
def test_matmul_flops(function, flops):
    assert glowjax.matmul_flops(function, A, B) == flops


def test_flops_of_convolutions():
    x, weight = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 5))

    def conv(x, weight, groups=1):
        return jax.lax.conv_general_dilated(
            x, weight, (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
        )  # fmt: skip

    assert glowjax.matmul_flops(conv, x, weight) == 2 * 2 * 64 * 9 * 6 * 5
    grouped = functools.partial(conv, groups=3)
    assert glowjax.matmul_flops(grouped, x, jnp.ones((3, 3, 2, 9))) == 2 * 2 * 64 * 9 * 2 * 9


@pytest.mark.slow
def test_flops_of_glow():
    problem = common.Problem()
    flow = glowjax.glow()
    x = jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(flow.init, jax.random.key(0), x)
    flops = common.forward_flops(problem.setting())
    assert 3 * flops == pytest.approx(24e9, rel=0.01)
    # Ours, with rings, biases and padding.
    assert flops < glowjax.matmul_flops(flow.forward, params, x) / 64 < 1.06 * flops


@pytest.mark.slow
@pytest.mark.float32
def test_precision(digits_dir, tmp_path):
    options = ["--name", "digits", "--data-dir", str(digits_dir), "--steps", "10"]
    sizes = ["--batch-size", "8", "--images", "16", "--model-steps", "1", "--width", "8"]
    output = tmp_path / "precision.json"
    tyro.cli(COMMANDS["precision"], args=[*options, *sizes, "--output", str(output)])
    result = json.loads(output.read_text())
    assert all(
        len(result[f"{dtype}: training bits/dim"]) == 10 for dtype in ("float32", "bfloat16")
    )
    *evaluated, stored, rebuilt = result["rows"]
    bits = [row["bits_per_dim"] for row in evaluated]
    assert len(bits) == 4 and max(bits) - min(bits) < 0.01
    # Of bfloat16's rounding, 2⁻⁸; the first is not exact, or it would not be bfloat16's.
    assert 0 < stored["gradient_error"] < 0.02 and rebuilt["gradient_error"] < 0.02
