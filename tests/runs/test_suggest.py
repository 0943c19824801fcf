"""What `glowjax suggest` sees of images, and what it suggests for them."""

import numpy as np
import pytest
from PIL import Image

from glowjax.cli import main
from glowjax.runs.suggest import Facts, facts_of, suggest

GREY = Facts(count=3000, sizes=[(30, 40)] * 3, channels=1, classes=None, extreme=0.0)


def half_black(path):
    """50 images of 6×8, of whose numbers every other is 0 and the others are neither 0 nor 255."""
    images = np.full((50, 6, 8, 3), 0, np.uint8)
    images[..., ::2, :] = np.arange(1, 51, dtype=np.uint8)[:, None, None, None]
    np.save(path, images)
    return str(path)


def test_facts_are_those_of_the_images(tmp_path):
    facts = facts_of(half_black(tmp_path / "half.npy"), tmp_path)
    assert facts == Facts(50, [(6, 8)] * 50, 3, None, 0.5)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (4, 8)), (3, (4, 8)), (6, (8, 4))])
def test_sizes_are_those_of_pictures_turned_upright(tmp_path, orientation, size, suffix):
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i in range(40):
        photo = Image.fromarray(np.full((4, 8, 3), i + 1, np.uint8))
        photo.save(tmp_path / "photos" / f"{i}.{suffix}", exif=exif)
    facts = facts_of(f"folder:{tmp_path / 'photos'}", tmp_path)
    assert set(facts.sizes) == {size}


@pytest.mark.parametrize("accelerator", [False, True])
def test_sizes_are_multiples_of_what_the_levels_need(accelerator):
    options = suggest(GREY, accelerator=accelerator)
    assert (options["data.resize"], options["model.levels"]) == ((32, 40), 2)
    assert options["model.width"] == (512 if accelerator else 64)


@pytest.mark.parametrize(("extreme", "logit"), [(0.0, None), (0.24, None), (0.3, 1e-5)])
def test_a_logit_comes_first_where_many_numbers_are_black_or_white(extreme, logit):
    options = suggest(GREY._replace(extreme=extreme), accelerator=False)
    assert options.get("model.logit") == logit


def test_classes_are_pointed_out(tmp_path, capsys):
    images = np.arange(20, dtype=np.uint8)[:, None, None, None] + np.zeros((4, 4, 1), np.uint8)
    np.savez(tmp_path / "two.npz", images=images, labels=np.arange(20) % 2)
    main(["suggest", str(tmp_path / "two.npz"), "--data-dir", str(tmp_path)])
    facts, hint, command = capsys.readouterr().out.splitlines()
    assert ", 2 classes; " in facts and command.startswith("glowjax train glow_folder ")
    assert hint.startswith("Add --model.conditional ")


@pytest.mark.slow
def test_the_command_that_is_suggested_runs(tmp_path, capsys):
    where = half_black(tmp_path / "half.npy")
    main(["suggest", where, "--data-dir", str(tmp_path)])
    facts, command = capsys.readouterr().out.splitlines()
    assert facts == "50 images of 6×8, 3 channels; 50% of the numbers are black or white"
    words = command.split()
    assert words[:3] == ["glowjax", "train", "glow_folder"]
    small = "--train-steps 2 --evaluate-every 2 --batch-size 4 --model.width 4 --model.steps 1"
    run = ["--run-dir", str(tmp_path / "run"), "--evaluate-samples", "1"]
    assert main([*words[1:], *small.split(), *run]) == 0
