"""Exported models: what is written, read back, and refused."""

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys

import jax
import jax.export
import jaxtyping
import numpy as np
import pytest
import safetensors.numpy

import glowjax
from glowjax.cli import main
from glowjax.runs import training
from glowjax.runs.exported import flat
from glowjax.runs.exporting import export
from glowjax.runs.given import read_split

pytestmark = [pytest.mark.slow, pytest.mark.float32, pytest.mark.xdist_group("runs")]


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """Of a model that is conditional on labels."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    model = dataclasses.replace(config.model, conditional=True)
    training.train(dataclasses.replace(config, model=model, train_steps=2), folder)
    return folder


@pytest.fixture(scope="module")
def exported(run):
    jaxtyping.config.update("jaxtyping_disable", True)  # it knows no symbolic sizes
    assert main(["export", str(run), "--license", "mit"]) == 0
    jaxtyping.config.update("jaxtyping_disable", False)
    return run / "exported"


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def test_an_exported_model_is_the_runs(run, exported):
    (model, params), (same, again) = glowjax.load(run), glowjax.load(exported)
    jax.tree.map(np.testing.assert_array_equal, params, again)
    assert (model.image_shape, model.levels) == (same.image_shape, same.levels)
    assert same.config.data.data_dir is None, "paths of this machine stay here"


def test_programs_are_the_models_functions(run, exported):
    model, params = glowjax.load(run)
    given = read_split(model, "test", num=5)
    weights = safetensors.numpy.load_file(exported / "model.safetensors")
    programs = {
        name: jax.export.deserialize((exported / f"{name}.stablehlo").read_bytes())
        for name in ("log_prob", "encode", "sample")
    }
    assert all(program.platforms == ("cpu", "cuda") for program in programs.values())
    labels = given.labels
    nats = programs["log_prob"].call(weights, given.images, np.uint32(3), labels)
    expected = model.log_prob(params, given.images, jax.random.key(3), labels)
    np.testing.assert_allclose(nats, expected, rtol=1e-5)
    z = programs["encode"].call(weights, given.images, labels)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        z,
        model.encode(params, given.images, labels),
    )
    seeds = np.arange(7, dtype=np.uint32)
    drawn = programs["sample"].call(weights, seeds, np.float32(0.7), seeds.astype(np.int32))
    assert drawn.shape == (7, *model.image_shape) and drawn.dtype == np.uint8
    two = programs["sample"].call(weights, seeds[:2], np.float32(0.7), seeds[:2].astype(np.int32))
    np.testing.assert_array_equal(drawn[:2], two)
    cold = programs["sample"].call(weights, seeds, np.float32(0), 0 * seeds.astype(np.int32))
    assert np.all(cold == cold[0])


def test_the_card_can_be_followed_without_glowjax(exported):
    card = (exported / "README.md").read_text()
    _, program = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    before = """
import sys
import numpy as np
sys.modules["glowjax"] = None
labels = np.arange(16, dtype=np.int32) % 10
"""
    after = "assert images.shape == (16, 4, 4, 1) and nats.shape == (16,), z"
    program = before + program + after
    subprocess.run([sys.executable, "-c", program], cwd=exported.parent, check=True)


def test_the_card_has_the_figures(run, exported):
    card = (exported / "README.md").read_text()
    (kept,) = json.loads((run / "results.json").read_text())
    assert f"| test | {kept['bits_per_dim']:.4f} ± {kept['standard_error']:.4f} | 247 |" in card
    assert "license: mit" in card


def test_commands_take_an_exported_folder(exported, run, copy, capsys):
    assert main(["eval", str(copy), "--samples", "1", "--json"]) == 0
    of_copy = json.loads(capsys.readouterr().out)
    assert main(["eval", str(run), "--samples", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == of_copy
    assert main(["sample", str(copy), "--num", "3", "--out", str(copy / "a.npy")]) == 0
    assert main(["sample", str(run), "--num", "3", "--out", str(copy / "b.npy")]) == 0
    np.testing.assert_array_equal(np.load(copy / "a.npy"), np.load(copy / "b.npy"))
    export(copy, copy / "again", programs=False)
    again, first = (folder / "model.safetensors" for folder in (copy / "again", copy))
    assert again.read_bytes() == first.read_bytes()


def test_nets_in_half_precision(run, exported, tmp_path):
    half = tmp_path / "half"
    jaxtyping.config.update("jaxtyping_disable", True)  # it knows no symbolic sizes
    export(run, half, dtype="float16")
    jaxtyping.config.update("jaxtyping_disable", False)
    name = "model.safetensors"
    (model, params), (_, whole) = glowjax.load(half), glowjax.load(exported)
    dtypes = {name: np.float16 if ".net." in name else np.float32 for name in flat(whole)}
    for part, array in flat(params).items():
        rounded = np.asarray(flat(whole)[part]).astype(dtypes[part])
        np.testing.assert_array_equal(array, rounded.astype(np.float32))
    given = read_split(model, "test", num=5)
    program = jax.export.deserialize((half / "log_prob.stablehlo").read_bytes())
    weights = safetensors.numpy.load_file(half / name)
    assert {name: array.dtype for name, array in weights.items()} == dtypes
    nats = program.call(weights, given.images, np.uint32(3), given.labels)
    expected = model.log_prob(params, given.images, jax.random.key(3), given.labels)
    np.testing.assert_allclose(nats, expected, rtol=1e-5)
    assert "in float16 and float32." in (half / "README.md").read_text()


def test_weights_that_float16_cannot_hold_are_refused(exported, copy, tmp_path):
    arrays = safetensors.numpy.load_file(exported / "model.safetensors")
    arrays[next(name for name in arrays if ".net." in name)].flat[0] = 7e4
    content = safetensors.numpy.save(arrays)
    (copy / "model.safetensors").write_bytes(content)
    about = json.loads((copy / "config.json").read_text())
    about["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (copy / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"dtype must be float32 .* is 70000, got 'float16'"):
        export(copy, tmp_path / "half", dtype="float16", programs=False)
    assert not (tmp_path / "half").exists(), "nothing is written"
    with pytest.raises(ValueError, match=r"dtype must be .*'float16'.*, got 'int8'"):
        export(copy, tmp_path / "half", dtype="int8")  # ty: ignore[invalid-argument-type]


def test_an_exported_folder_has_one_checkpoint_and_one_kind_of_weights(exported):
    with pytest.raises(ValueError, match=r"checkpoint must be that of step .*, got 999"):
        glowjax.load(exported, checkpoint=999)
    with pytest.raises(ValueError, match=r"weights must be 'ema' for .*, got 'raw'"):
        glowjax.load(exported, weights="raw")


def test_a_folder_in_use_is_refused(run, exported, capsys):
    before = {file: file.read_bytes() for file in exported.iterdir()}
    assert main(["export", str(run)]) == 1
    assert "must be a new or empty folder" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in exported.iterdir()} == before


def test_programs_may_be_left_out(run, tmp_path):
    export(run, tmp_path / "light", programs=False)
    names = {file.name for file in (tmp_path / "light").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors"}
    assert "stablehlo" not in (tmp_path / "light" / "README.md").read_text()


@pytest.mark.parametrize("place", [0, 200, -5])
def test_damaged_weights_are_refused(copy, place):
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[place] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="must be the file that was exported"):
        glowjax.load(copy)


def test_a_damaged_config_is_refused(copy):
    (copy / "config.json").write_text((copy / "config.json").read_text()[:-100])
    with pytest.raises(ValueError, match=r"its config.json is not ours"):
        glowjax.load(copy)


def test_weights_of_another_model_are_refused(copy):
    about = json.loads((copy / "config.json").read_text())
    about["config"]["model"]["width"] = 5
    (copy / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"weights .* must be of shape"):
        glowjax.load(copy)
    about["config"]["model"]["norm"] = False
    (copy / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="weights must be those of the model"):
        glowjax.load(copy)


def test_names_are_paths(run):
    _, params = glowjax.load(run)
    names = flat(params)
    assert "backbone.level1.steps.actnorm.log_scale" in names
    assert len(names) == len(jax.tree.leaves(params))
