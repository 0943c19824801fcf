"""compress and decompress, on a tiny run from end to end."""

import jax
import numpy as np
import pytest
from PIL import Image

import glowjax
from glowjax import codec
from glowjax.cli import main
from glowjax.runs.given import read_split

pytestmark = [pytest.mark.float32, pytest.mark.xdist_group("runs")]


@pytest.fixture(scope="module")
def compressed(trained, tmp_path_factory):
    """A run, images of its test split, and the file that holds them."""
    model, _ = glowjax.load(trained[0])
    path = tmp_path_factory.mktemp("compressed") / "images.glow"
    assert main(["compress", str(trained[0]), "--num", "20", "-o", str(path)]) == 0
    return trained[0], read_split(model, "test", num=20).images, path


def test_the_images_of_a_split_come_back_as_an_array(compressed, tmp_path, capsys):
    run, images, path = compressed
    assert main(["decompress", str(run), str(path), "-o", str(tmp_path / "back.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), images)
    assert "20 images" in capsys.readouterr().out


def test_files_come_back_as_files(compressed, tmp_path, capsys):
    run, images, path = compressed
    assert main(["decompress", str(run), str(path), "-o", str(tmp_path / "back")]) == 0
    files = sorted((tmp_path / "back").iterdir())
    assert [file.name for file in files] == [f"{i:05}.png" for i in range(20)]
    again = str(tmp_path / "again.glow")
    assert main(["compress", str(run), *map(str, files[:3]), "-o", again]) == 0
    assert main(["decompress", str(run), again, "-o", str(tmp_path / "again.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), images[:3])
    assert "3 images: " in capsys.readouterr().out


def test_files_that_would_not_come_back_are_refused(compressed, tmp_path, capsys):
    run, images, _ = compressed
    path = tmp_path / "finer.png"
    Image.fromarray(np.full(images.shape[1:3], 77, np.uint8)).save(path)
    assert main(["compress", str(run), str(path), "-o", str(tmp_path / "no.glow")]) == 1
    assert "of 17 grey levels, or it is not lossless" in capsys.readouterr().err
    Image.fromarray(np.zeros((9, 5), np.uint8)).save(path)
    assert main(["compress", str(run), str(path), "-o", str(tmp_path / "no.glow")]) == 1


@pytest.mark.parametrize(
    ("kind", "message"), [("RGB", "of 1 channels at most"), ("frames", "of 1 pictures at most")]
)
def test_colours_and_animations_are_not_lost(compressed, tmp_path, capsys, kind, message):
    run, images, _ = compressed
    grey = Image.fromarray(np.zeros(images.shape[1:3], np.uint8))
    path = tmp_path / ("colour.png" if kind == "RGB" else "moving.gif")
    if kind == "RGB":
        colour = grey.convert("RGB")
        colour.putpixel((0, 0), (255, 0, 0))
        colour.save(path)
    else:
        grey.save(path, save_all=True, append_images=[grey.point(lambda _: 255)])
    assert main(["compress", str(run), str(path), "-o", str(tmp_path / "no.glow")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "no.glow").exists()
    assert not (tmp_path / "no.glow").exists()


def test_nothing_is_written_if_other_images_come_back(compressed, tmp_path, monkeypatch, capsys):
    run, images, _ = compressed
    others = codec.Batch(0, np.roll(images, 1, axis=0), None)
    monkeypatch.setattr(codec, "decompressed", lambda *_: iter([others]))
    command = ["compress", str(run), "--num", "20", "-o", str(tmp_path / "no.glow")]
    assert main(command) == 1
    assert "images must be those of numbers 0 to 19" in capsys.readouterr().err
    assert not (tmp_path / "no.glow").exists()
    assert main([*command, "--no-check"]) == 0
    assert (tmp_path / "no.glow").exists()


def test_a_damaged_file_is_named_and_nothing_is_written(compressed, tmp_path, capsys):
    run, _, path = compressed
    damaged, out = tmp_path / "damaged.glow", tmp_path / "out"
    damaged.write_bytes(path.read_bytes()[:-40] + path.read_bytes()[-39:])
    assert main(["decompress", str(run), str(damaged), "-o", str(out)]) == 1
    assert f"file {damaged} cannot be decompressed: data must be" in capsys.readouterr().err
    assert not out.exists()


def test_the_parts_of_a_file_add_up_to_the_models_claim(compressed):
    run, images, path = compressed
    model, params = glowjax.load(run)
    data = path.read_bytes()
    sizes = codec.sizes(data)
    assert sum(sizes) == pytest.approx(8 * len(data))
    draws = [model.log_prob(params, images, jax.random.key(i)) for i in range(8)]
    claimed = -float(np.mean(np.sum(draws, axis=1))) / np.log(2)
    assert sizes.images == pytest.approx(claimed, rel=0.01)  # of other noise
