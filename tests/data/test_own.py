"""Folders of pictures and files of arrays as data sets."""

import csv

import numpy as np
import pytest
from PIL import Image

from glowjax import data
from glowjax.data import prepare
from glowjax.data.attributes import load_attribute
from glowjax.data.own import pictures
from glowjax.data.source import Source
from glowjax.runs.config import Data

SHAPE = (6, 4, 3)


def colours(n=40, shape=SHAPE, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8)


def write(folder, images, name="{i}.png"):
    """Images as files, whose names say their number."""
    for i, image in enumerate(images):
        path = folder / name.format(i=i, kind=("cat", "dog")[i % 2])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if image.shape[-1] > 1 else image[..., 0]).save(path)
    return f"folder:{folder}"


def load(name, root, split="train", **options):
    return data.load(name, split, data_dir=root / "data", **options)


def number_of(image, images):
    """Which of the images this is."""
    ((i,),) = np.nonzero((images == image).all((1, 2, 3)))
    return i


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_a_folder_without_classes(tmp_path, suffix):
    images = colours()
    name = write(tmp_path / "My pictures!", images, "{i}." + suffix)
    splits = {s: load(name, tmp_path, s) for s in ("train", "validation", "test")}
    assert [len(source) for source in splits.values()] == [32, 4, 4]
    found = [number_of(image, images) for source in splits.values() for image in source.images]
    assert sorted(found) == list(range(40))
    assert found != list(range(40)), "splits are of all kinds of pictures, not of the last"
    assert all(source.labels is None for source in splits.values())


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_formats_that_change_pixels(tmp_path, suffix):
    name = write(tmp_path / "pictures", np.full((20, 8, 8, 3), 200, np.uint8), "{i}." + suffix)
    source = load(name, tmp_path)
    assert source.image_shape == (8, 8, 1)  # grey, in whatever way it is stored
    assert np.abs(source.images.astype(int) - 200).max() <= 2


def test_sub_folders_are_classes(tmp_path):
    images = colours()
    source = load(write(tmp_path / "pictures", images, "{kind}/{i}.png"), tmp_path)
    assert source.num_classes == 2
    labels = [number_of(image, images) % 2 for image in source.images]
    np.testing.assert_array_equal(source.labels, labels)


def test_sub_folders_may_be_splits(tmp_path):
    name = write(tmp_path / "pictures", colours(20), "train/{kind}/{i}.png")
    write(tmp_path / "pictures", colours(6, seed=1), "val/{kind}/{i}.png")
    write(tmp_path / "pictures", colours(4, seed=2), "test/{kind}/{i}.png")
    sizes = {s: len(load(name, tmp_path, s)) for s in ("train", "validation", "test")}
    assert sizes == {"train": 20, "validation": 6, "test": 4}
    assert load(name, tmp_path).num_classes == 2


@pytest.mark.parametrize(("train", "valid"), [("Train", "VAL"), ("train", "valid")])
def test_splits_may_have_other_names(tmp_path, train, valid):
    name = write(tmp_path / "pictures", colours(20), train + "/{i}.png")
    write(tmp_path / "pictures", colours(6, seed=1), valid + "/{i}.png")
    assert [len(load(name, tmp_path, split)) for split in ("train", "test")] == [18, 6]
    assert load(name, tmp_path).labels is None


def test_splits_beside_classes_are_refused(tmp_path):
    name = write(tmp_path / "pictures", colours(20), "train/{i}.png")
    write(tmp_path / "pictures", colours(6, seed=1), "others/{i}.png")
    with pytest.raises(ValueError, match=r"sub-folders of .* got \['others', 'train'\]"):
        load(name, tmp_path)


def test_classes_that_are_numbers_have_their_order(tmp_path):
    for label in range(12):
        name = write(tmp_path / "pictures", colours(3, seed=label), f"{label}/{{i}}.png")
    source = load(name, tmp_path)
    images = {label: colours(3, seed=label) for label in range(12)}
    for image, label in zip(source.images, source.labels, strict=True):
        number_of(image, images[int(label)])


@pytest.mark.parametrize("n", [1, 9])
def test_too_few_pictures_are_told_how_many_are_needed(tmp_path, n):
    name = write(tmp_path / "pictures", colours(n))
    with pytest.raises(ValueError, match=f"must be of 10 examples at least, .*, got {n}$"):
        load(name, tmp_path, "validation")


def test_a_table_in_another_encoding_is_named(tmp_path):
    name = write(tmp_path / "pictures", colours(10))
    (tmp_path / "pictures" / "labels.csv").write_bytes("file,label\n0.png,Bär".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels.csv must be text in UTF-8"):
        load(name, tmp_path)


def test_a_table_gives_labels(tmp_path):
    images = colours()
    name = write(tmp_path / "pictures", images)
    with (tmp_path / "pictures" / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "file"])
        rows.writerows([f"kind {i % 3}", f"{i}.png"] for i in range(40))
    source = load(name, tmp_path)
    assert source.num_classes == 3
    np.testing.assert_array_equal(
        source.labels, [number_of(image, images) % 3 for image in source.images]
    )
    (tmp_path / "pictures" / "labels.csv").write_text("file,label\n1.png,a\n")
    with pytest.raises(ValueError, match=r"none for 39 of 40, the first \['0.png'\]"):
        load(name, tmp_path)
    (tmp_path / "pictures" / "labels.csv").write_text("name,label\n1.png,a\n")
    with pytest.raises(ValueError, match="must be columns 'file' and 'label'"):
        load(name, tmp_path)


@pytest.mark.parametrize(
    "channels, opaque, found", [(1, True, 1), (3, True, 3), (4, True, 3), (4, False, 4)]
)
def test_channels(tmp_path, channels, opaque, found):
    images = colours(20, (4, 4, channels))
    if channels == 4 and opaque:
        images[..., 3] = 255
    source = load(write(tmp_path / "pictures", images), tmp_path)
    assert source.image_shape == (4, 4, found)
    for image in source.images:
        number_of(image, images[..., :found])


def test_pictures_are_turned_upright(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, :8] = 255
    exif = Image.Exif()
    exif[274] = 6  # orientation: turned by a quarter
    for i in range(20):
        Image.fromarray(image).save(folder / f"{i}.png", exif=exif)
    turned = load(f"folder:{folder}", tmp_path).images[0]
    np.testing.assert_array_equal(turned[..., 0], np.rot90(image[..., 0], -1))


def test_a_changed_folder_is_another_data_set(tmp_path):
    name = write(tmp_path / "pictures", colours())
    first = load(name, tmp_path).fingerprint()
    assert load(name, tmp_path).fingerprint() == first
    write(tmp_path / "pictures", colours(1, seed=9), "new.png")
    assert load(name, tmp_path).fingerprint() != first


def test_prepared_pictures_are_not_looked_at_again(tmp_path, monkeypatch):
    name = write(tmp_path / "pictures", colours())
    load(name, tmp_path)
    monkeypatch.setattr(prepare, "_download_and_prepare", None)
    monkeypatch.setattr("glowjax.data.own._channels", None)
    assert len(load(name, tmp_path)) == 32


def test_damaged_files_are_all_named_and_nothing_is_left(tmp_path):
    folder = tmp_path / "pictures"
    name = write(folder, colours(20))
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:-30])
    (folder / "text.jpg").write_text("no picture")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "deep.png")
    with pytest.raises(ValueError, match=r"3 of 22 cannot be used") as error:
        load(name, tmp_path)
    for file in ("3.png", "text.jpg", "deep.png"):
        assert f"  {file}: " in str(error.value)
    assert not list((tmp_path / "data").glob("own_*/*"))


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "must be a folder of pictures .* got .* which has none"),
        (["a.txt"], "must be a folder of pictures .* got .* which has none"),
        (["1.png", "cat/2.png"], "must be all in sub-folders, .* got '1 outside .* and 1 inside"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, files, message):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        Image.fromarray(colours(1)[0]).save(folder / file, "PNG")
    with pytest.raises(ValueError, match=message):
        pictures(folder)


def test_paths_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match="a folder that exists"):
        load(f"folder:{tmp_path / 'none'}", tmp_path)
    with pytest.raises(ValueError, match="a file that exists"):
        load(str(tmp_path / "none.npz"), tmp_path)


@pytest.mark.parametrize("channels", [None, 1, 3, 5])
def test_files_of_arrays(tmp_path, channels):
    images = colours(shape=(6, 4) if channels is None else (6, 4, channels))
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(40) % 3)
    plain, labelled = (load(str(tmp_path / f"images.{s}"), tmp_path) for s in ("npy", "npz"))
    images = images[..., None] if channels is None else images
    assert plain.image_shape == labelled.image_shape == images.shape[1:]
    assert plain.labels is None and labelled.num_classes == 3
    for image, label in zip(labelled.images, labelled.labels, strict=True):
        assert number_of(image, images) % 3 == label


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((20, 4, 4, 3))}, "scale floats to 0..255 first"),
        ({"pixels": colours()}, "an array 'images'"),
        ({"images": colours(), "labels": np.zeros(40)}, "whole numbers of shape"),
        ({"images": colours(), "labels": np.zeros(39, int)}, "whole numbers of shape"),
        ({"images": colours(), "labels": np.arange(40) - 1}, "must be 0 or more, got -1"),
        ({"images": colours(0)}, "images of .* must be one at least"),
    ],
)
def test_arrays_that_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load(str(tmp_path / "images.npz"), tmp_path)


def test_a_file_that_is_not_numpys_is_refused(tmp_path):
    np.savez(tmp_path / "images.npz", images=colours())
    content = (tmp_path / "images.npz").read_bytes()
    for damaged in (b"no array", content[:-100], content[:500] + bytes(100) + content[600:]):
        (tmp_path / "images.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read as NumPy's"):
            load(str(tmp_path / "images.npz"), tmp_path)


def test_arrays_are_split_at_random():
    images, labels = colours(100), np.arange(100) % 4
    sources = Source.from_arrays(images, labels, seed=1)
    assert {split: len(s) for split, s in sources.items()} == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    found = [number_of(image, images) for s in sources.values() for image in s.images]
    assert sorted(found) == list(range(100))
    assert [i % 4 for i in found] == [n for s in sources.values() for n in s.labels]
    assert {s.num_classes for s in sources.values()} == {4}
    again = Source.from_arrays(images, labels, seed=1)
    assert [s.fingerprint() for s in again.values()] == [s.fingerprint() for s in sources.values()]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"images": np.zeros((9, 4, 4, 1))}, "must be uint8"),
        ({"images": colours(9)}, "held_out must be at least 1"),
        ({"images": colours(), "held_out": 20}, "held_out must be at least 1, and less than half"),
        ({"images": colours(), "levels": 17}, "images must be in 0..16"),
        ({"images": colours(), "labels": np.arange(40) - 1}, "labels must be counted from 0"),
    ],
)
def test_arrays_in_memory_that_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Source.from_arrays(**given)


@pytest.mark.parametrize(("attribute", "kind"), [("cat", 0), ("dog", 1), ("0", 0), ("1", 1)])
def test_attributes_are_classes_by_name_or_number(tmp_path, attribute, kind):
    name = write(tmp_path / "pictures", colours(), "{kind}/{i}.png")
    about = Data(name=name, data_dir=tmp_path / "data")
    have = load_attribute(about, "train", attribute, 9)
    np.testing.assert_array_equal(have, load(name, tmp_path).labels[:9] == kind)
    with pytest.raises(ValueError, match=r"attribute must be one of .* got '2'"):
        load_attribute(about, "train", "2", 9)


def test_images_that_are_enlarged_are_told_of(tmp_path, capsys):
    name = write(tmp_path / "pictures", colours())
    assert load(name, tmp_path, resize=8).image_shape == (8, 8, 3)
    told = " ".join(capsys.readouterr().err.split())
    assert "images of 6×4 pixels are enlarged to 8×8; --data.resize None leaves them" in told
    load(name, tmp_path, resize=4)
    assert "enlarged" not in capsys.readouterr().err
