import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import itertools
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from glowjax import data
from glowjax.data import builders, prepare, shuffle, stored
from glowjax.data.images import decode, resized
from glowjax.data.source import Source
from glowjax.data.transform import Transform


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare.prepare("digits", data_dir=folder)
    return folder


@pytest.fixture(scope="module")
def digits(digits_dir):
    return data.load("digits", "train", data_dir=digits_dir)


def noise(n=23, shape=(6, 8, 3), levels=256, labels=True, seed=0):
    rng = np.random.RandomState(seed)
    images = rng.randint(0, levels, (n, *shape)).astype(np.uint8)
    label = np.arange(n, dtype=np.int32) if labels else None
    return Source(name="noise", split="train", images=images, labels=label, num_classes=n)


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype
        np.testing.assert_array_equal(a[key], b[key])


# Digits


@pytest.mark.slow
def test_digits_are_sklearns_in_the_order_of_a_fixed_permutation(digits_dir):
    order = np.random.RandomState(0).permutation(1797)
    truth = load_digits()
    start = 0
    for split, size in {"train": 1400, "validation": 150, "test": 247}.items():
        source = data.load("digits", split, data_dir=digits_dir)
        part = order[start : start + size]
        start += size
        assert len(source) == size
        assert source.image_shape == (8, 8, 1)
        assert (source.levels, source.num_classes) == (17, 10)
        assert source.images.dtype == np.uint8
        assert source.labels.dtype == np.int32
        np.testing.assert_array_equal(source.images[..., 0], truth.images[part])
        np.testing.assert_array_equal(source.labels, truth.target[part])
    assert start == 1797


def test_digits_are_readable_by_plain_tensorflow_datasets(digits_dir, digits):
    stored: Any = tfds.data_source("digits", split="train", data_dir=digits_dir)
    np.testing.assert_array_equal(stored[7]["image"], digits.images[7])


def test_images_over_the_memory_limit_are_read_from_disk(digits_dir, digits):
    lazy = data.load("digits", "train", data_dir=digits_dir, memory=0)
    assert not isinstance(lazy.images, np.ndarray)
    assert (len(lazy), lazy.image_shape) == (1400, (8, 8, 1))
    arguments: dict[str, Any] = dict(batch_size=32, seed=1, transform=Transform(shift=0.25))
    same(data.batch(lazy, 5, **arguments), data.batch(digits, 5, **arguments))
    steps = list(data.batches(lazy, 0, 3, **arguments))
    same(steps[2], data.batch(digits, 2, **arguments))


def test_resize_averages_the_central_square(digits_dir, digits):
    small = data.load("digits", "train", data_dir=digits_dir, resize=4)
    mean = digits.images.reshape(-1, 4, 2, 4, 2, 1).astype(float).mean((2, 4))
    assert np.abs(small.images - mean).max() <= 1  # Pillow rounds rows, then columns
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    np.testing.assert_array_equal(resized(wide, 2), np.full((2, 2, 3), 200))


# Splits


@pytest.mark.parametrize(
    "sizes, validation, expected",
    [
        ({"train": 60000, "test": 9}, None, [("train", 0, 55000), ("train", 55000, 60000)]),
        ({"train": 60000, "test": 9}, 100, [("train", 0, 59900), ("train", 59900, 60000)]),
        ({"train": 90, "validation": 9, "test": 8}, None, [("train", 0, 90), ("validation", 0, 9)]),
        ({"train": 200}, None, [("train", 0, 160), ("train", 160, 180), ("train", 180, 200)]),
        ({"train": 200}, 50, [("train", 0, 130), ("train", 130, 180), ("train", 180, 200)]),
        (
            {"train": 200, "validation": 7},
            None,
            [("train", 0, 180), ("train", 180, 200), ("validation", 0, 7)],
        ),
    ],
)
def test_held_out_parts_never_overlap(sizes, validation, expected):
    if "test" in sizes:
        expected = [*expected, ("test", 0, sizes["test"])]
    for split, part in zip(("train", "validation", "test"), expected, strict=True):
        assert stored.part("x", sizes, split, validation) == part


def test_load_errors(digits_dir):
    load = lambda name="digits", split="train", **kw: data.load(  # noqa: E731
        name, split, data_dir=digits_dir, **kw
    )
    with pytest.raises(ValueError, match=r"split must be .*, got 'eval'"):
        load(split="eval")
    with pytest.raises(ValueError, match=r"validation must be None: digits has .*, got 5"):
        load(validation=5)
    with pytest.raises(ValueError, match=r"resize must be .*, got 0"):
        load(resize=0)
    with pytest.raises(
        ValueError,
        match=r"'digitz'.*which holds digits; always there.*cifar10.*Did you mean digits",
    ):
        load("digitz")
    with pytest.raises(ValueError, match=r"validation must be less than 180.*, got 200"):
        stored.part("x", {"train": 200}, "train", 200)
    with pytest.raises(ValueError, match="split must be one that is not empty, got 'validation'"):
        stored.part("x", {"train": 200, "test": 3}, "validation", 0)
    with pytest.raises(ValueError, match="a data set with a train split"):
        stored.part("x", {"all": 200}, "train", None)


def prepare_custom(folder, features, examples):
    """A data set with no code of its own, as a user's folder may hold one."""

    class Custom(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "custom"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(examples)

    with prepare.quiet():
        Custom(data_dir=folder, file_format="array_record").download_and_prepare()


def png(shape):
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(np.full(shape, 90, np.uint8)).save(file, format="png")
    return file.getvalue()


def test_folder_without_code_without_labels_and_images_that_vary_in_size(tmp_path):
    shapes = [(6, 9, 3), (7, 5, 3)] * 10
    features = {"image": tfds.features.Image(), "id": tfds.features.Text()}
    prepare_custom(tmp_path, features, [{"image": png(s), "id": "a"} for s in shapes])
    with pytest.raises(ValueError, match=r"custom: images vary in size.*resize="):
        data.load("custom", "train", data_dir=tmp_path)
    lazy = data.load("custom", "train", data_dir=tmp_path, memory=0)
    with pytest.raises(ValueError, match="vary in size"):
        list(data.batches(lazy, 0, 2, batch_size=8, seed=0))
    source = data.load("custom", "train", data_dir=tmp_path, resize=4)
    assert (len(source), source.image_shape) == (16, (4, 4, 3))
    assert source.labels is None
    assert source.num_classes is None
    assert data.batch(source, 0, batch_size=4, seed=0).keys() == {"image"}


def test_format_without_random_access(digits_dir, tmp_path):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    prepare_custom(tmp_path, {"x": tfds.features.Scalar(np.int64)}, [{"x": 1}])
    for name in ("digits", "custom"):
        info = tmp_path / name / "1.0.0" / "dataset_info.json"
        info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
        with pytest.raises(ValueError, match=f"'{name}' is prepared in a format without random"):
            prepare.prepare(name, data_dir=tmp_path)


def test_data_set_without_images(tmp_path):
    prepare_custom(tmp_path, {"x": tfds.features.Scalar(np.int64)}, [{"x": 1}] * 20)
    with pytest.raises(ValueError, match=r"a data set with 8-bit images; its features: \['x'\]"):
        data.load("custom", "train", data_dir=tmp_path)


# Official archives


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def fake_mnist(tmp_path, monkeypatch, no_network):
    """Archives of 40 + 20 random images, and the registry that vouches for them."""
    folder = tmp_path / "archives"
    folder.mkdir()
    rng = np.random.RandomState(0)
    truth = {
        split: (rng.randint(0, 256, (n, 28, 28)).astype("u1"), rng.randint(0, 10, n).astype("u1"))
        for split, n in (("train", 40), ("test", 20))
    }
    for split, arrays in truth.items():
        for file, array in zip(builders.IDX_FILES[split], arrays, strict=True):
            (folder / file).write_bytes(gzip.compress(idx(array)))
    register(monkeypatch, builders.Mnist, folder)
    return folder, truth


def register(monkeypatch, builder, folder):
    infos = {}
    for url, info in builder.url_infos.items():
        content = (folder / info.filename).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        size = type(info.size)(len(content))
        infos[url] = dataclasses.replace(info, size=size, checksum=digest)
    monkeypatch.setattr(builder, "url_infos", infos)


def prepared_files(folder):
    return [p for p in folder.rglob("*") if "record" in p.name or "incomplete" in p.name]


def test_mnist_from_archives_is_read_back_by_plain_tensorflow_datasets(fake_mnist, tmp_path):
    folder, truth = fake_mnist
    train = data.load("mnist", "train", data_dir=tmp_path, archives=folder)
    held = data.load("mnist", "validation", data_dir=tmp_path)
    test: Any = tfds.data_source("mnist", split="test", data_dir=tmp_path)
    assert (len(train), len(held), len(test)) == (36, 4, 20)
    assert train.levels == 256
    both = np.concatenate([train.images, held.images])[..., 0]
    labels = np.concatenate([train.labels, held.labels])
    images_then = {i.tobytes(): l for i, l in zip(*truth["train"], strict=True)}
    images_now = {i.tobytes(): l for i, l in zip(both, labels, strict=True)}
    assert images_now == images_then
    assert {e["image"].tobytes() for e in test} == {i.tobytes() for i in truth["test"][0]}


def test_archives_in_the_default_folder_are_found(fake_mnist, tmp_path):
    folder, _ = fake_mnist
    (tmp_path / "data" / "downloads").mkdir(parents=True)
    folder.rename(tmp_path / "data" / "downloads" / "manual")
    assert len(data.load("mnist", "test", data_dir=tmp_path / "data")) == 20


def test_archives_are_downloaded_where_there_are_none(fake_mnist, tmp_path, monkeypatch):
    folder, truth = fake_mnist
    monkeypatch.undo()  # the network of this machine, and no other, is needed
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(builders.Mnist, "URL", f"http://127.0.0.1:{server.server_port}/")
        infos = {builders.Mnist.URL + i.filename: i for i in builders.Mnist.url_infos.values()}
        monkeypatch.setattr(builders.Mnist, "url_infos", infos)
        register(monkeypatch, builders.Mnist, folder)
        test = data.load("mnist", "test", data_dir=tmp_path)
        server.shutdown()
    assert {i.tobytes() for i in test.images} == {i.tobytes() for i in truth["test"][0]}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


def test_missing_archive_fails_at_once(fake_mnist, tmp_path):
    folder, _ = fake_mnist
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    began = time.perf_counter()
    with pytest.raises(FileNotFoundError) as error:
        prepare.prepare("mnist", data_dir=tmp_path, archives=folder)
    assert time.perf_counter() - began < 1
    assert str(folder) in str(error.value)
    assert "t10k-labels-idx1-ubyte.gz  sha256 " in str(error.value)
    assert "https://storage.googleapis.com/cvdf" in str(error.value)
    assert "train-images" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        prepare.prepare("mnist", data_dir=tmp_path, archives=tmp_path / "nowhere")
    assert not prepared_files(tmp_path)


def test_no_archives_and_no_network_fails_at_once(tmp_path, no_network):
    began = time.perf_counter()
    with pytest.raises(ConnectionError) as error:
        prepare.prepare("cifar10", data_dir=tmp_path)
    assert time.perf_counter() - began < 1
    for word in ("cifar-10-binary.tar.gz", str(tmp_path / "downloads" / "manual"), "archives="):
        assert word in str(error.value)
    assert not prepared_files(tmp_path)


def test_wrong_checksum_is_named(fake_mnist, tmp_path):
    folder, _ = fake_mnist
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"not what it was")
    with pytest.raises(ValueError, match=r"wrong checksum in .*\n.*train-labels") as error:
        prepare.prepare("mnist", data_dir=tmp_path, archives=folder)
    assert "train-images" not in str(error.value)
    assert not prepared_files(tmp_path)


@pytest.mark.parametrize("cut, message", [(60, "cannot unpack"), (None, "not an idx file")])
def test_unreadable_archive_leaves_nothing_behind(fake_mnist, tmp_path, monkeypatch, cut, message):
    folder, _ = fake_mnist
    file = folder / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:cut] if cut else gzip.compress(b"\0\0\x08\x01\0\0\0\x09"))
    register(monkeypatch, builders.Mnist, folder)
    with pytest.raises(ValueError, match=rf"{message}.*t10k-images|t10k-images.*{message}"):
        prepare.prepare("mnist", data_dir=tmp_path, archives=folder)
    assert not prepared_files(tmp_path)


def test_images_and_labels_of_wrong_size_are_named(fake_mnist, tmp_path, monkeypatch):
    folder, _ = fake_mnist
    wrong = {
        "train-images-idx3-ubyte.gz": (np.zeros((40, 27, 28), "u1"), "images of 28×28, got 27×28"),
        "train-labels-idx1-ubyte.gz": (np.zeros(39, "u1"), r"40 labels, got an array of \(39,\)"),
    }
    for name, (array, message) in wrong.items():
        right = (folder / name).read_bytes()
        (folder / name).write_bytes(gzip.compress(idx(array)))
        register(monkeypatch, builders.Mnist, folder)
        with pytest.raises(ValueError, match=rf"archives: .*{message}"):
            prepare.prepare("mnist", data_dir=tmp_path, archives=folder)
        assert not prepared_files(tmp_path)
        (folder / name).write_bytes(right)
    register(monkeypatch, builders.Mnist, folder)
    assert prepare.prepare("mnist", data_dir=tmp_path, archives=folder).is_prepared()


class WithFiles(tfds.core.GeneratorBasedBuilder):
    """A data set of tensorflow-datasets whose builder stores image files as they are."""

    name = "with_files"
    VERSION = tfds.core.Version("1.0.0")
    files = ()

    def _info(self):
        features = {"image": tfds.features.Image(shape=(6, 6, 3))}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from enumerate({"image": file} for file in self.files)


GOOD = png((6, 6, 3))
BAD_IMAGES = {
    "cut": (GOOD[:50], ""),
    "flipped": (GOOD[:45] + bytes([GOOD[45] ^ 1]) + GOOD[46:], "broken"),
    "no image": (b"hello", "cannot identify image file"),
    "empty": (b"", "cannot identify image file"),
    "wrong size": (png((7, 6, 3)), "it must be 6×6, got 7×6"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_is_named_and_leaves_nothing_behind(tmp_path, monkeypatch, case):
    bad, message = BAD_IMAGES[case]
    monkeypatch.setattr(WithFiles, "files", [GOOD] * 8 + [bad] + [GOOD] * 8)
    with pytest.raises(ValueError, match=rf"image of example \d+ of train is bad: .*{message}"):
        prepare.prepare("with_files", data_dir=tmp_path)
    assert not prepared_files(tmp_path)
    monkeypatch.setattr(WithFiles, "files", [GOOD] * 20)
    assert len(data.load("with_files", "train", data_dir=tmp_path)) == 16


def test_a_damaged_record_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(WithFiles, "files", [GOOD] * 20)
    prepare.prepare("with_files", data_dir=tmp_path)
    (file,) = tmp_path.rglob("*.array_record*")
    whole = file.read_bytes()
    at = [match.start() for match in re.finditer(re.escape(GOOD[:8]), whole)][5]
    file.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
    with pytest.raises(ValueError, match=r"with_files: example 5 of .* cannot be read: .*hash"):
        data.load("with_files", "train", data_dir=tmp_path)
    lazy = data.load("with_files", "train", data_dir=tmp_path, memory=0)
    with pytest.raises(ValueError, match=rf"example 5 of 'train\[0:16\]' in {tmp_path}"):
        list(data.batches(lazy, 0, 2, batch_size=8, seed=0))


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_cifar10_from_its_archive(tmp_path, monkeypatch, no_network):
    rng = np.random.RandomState(0)
    records = rng.randint(0, 10, (60, 3073)).astype(np.uint8)
    files = {f"data_batch_{i + 1}.bin": records[10 * i : 10 * i + 10].tobytes() for i in range(5)}
    files |= {"test_batch.bin": records[50:].tobytes()}
    files |= {"batches.meta.txt": "".join(f"class{i}\n" for i in range(10)).encode()}
    short = {**files, "data_batch_3.bin": b"short"}
    write_tar(tmp_path / "cifar-10-binary.tar.gz", short)
    register(monkeypatch, builders.Cifar10, tmp_path)
    with pytest.raises(ValueError, match=r"data_batch_3.bin must hold records of 3073 .*, got 5 b"):
        prepare.prepare("cifar10", data_dir=tmp_path, archives=tmp_path)
    assert not prepared_files(tmp_path)
    write_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    register(monkeypatch, builders.Cifar10, tmp_path)
    builder = prepare.prepare("cifar10", data_dir=tmp_path, archives=tmp_path)
    assert builder.info.features["label"].names[3] == "class3"
    stored: Any = tfds.data_source("cifar10", split="train", data_dir=tmp_path)
    assert len(stored) == 50
    for example in stored:
        split, number = example["id"].decode().split("_")
        record = records[int(number)]
        assert split == "train"
        assert example["label"] == record[0]
        planes = record[1:].reshape(3, 32, 32)
        np.testing.assert_array_equal(example["image"], planes.transpose(1, 2, 0))


def test_builder_that_needs_tensorflow_says_so(digits_dir, tmp_path, monkeypatch):
    def needs_tensorflow(self, dl_manager):
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(builders.Digits, "_split_generators", needs_tensorflow)
    with pytest.raises(ImportError, match=r'pip install "glowjax\[tf\]"'):
        prepare.prepare("digits", data_dir=tmp_path)
    assert not prepared_files(tmp_path)


def test_another_process_that_was_first_is_no_error(tmp_path, monkeypatch):
    original = builders.Digits.download_and_prepare

    def overtaken(self, **kwargs):
        original(builders.Digits(data_dir=tmp_path, file_format="array_record"), **kwargs)
        raise OSError("Directory not empty")

    monkeypatch.setattr(builders.Digits, "download_and_prepare", overtaken)
    assert prepare.prepare("digits", data_dir=tmp_path).is_prepared()


# Training batches


def test_batch_depends_on_seed_and_step_only(digits):
    arguments: dict[str, Any] = dict(batch_size=16, transform=Transform(shift=0.2, flip=True))
    first = data.batch(digits, 3, seed=7, **arguments)
    shuffle._order.cache_clear()
    same(data.batch(digits, 3, seed=7, **arguments), first)
    for step, seed in ((3, 8), (4, 7)):
        other = data.batch(digits, step, seed=seed, **arguments)
        assert (other["image"] != first["image"]).any()


def test_stream_is_frozen():
    """The bytes of these draws are part of what a resumed run relies on."""
    assert shuffle._order(10, 0, 0).tolist() == [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]
    draws = [1537918297, 2521712018, 2119170542, 3960232324]
    assert shuffle.draws(5, 1000, 1)[0, :4].tolist() == draws


@pytest.mark.parametrize("batch_size", [1, 7, 23, 60])
def test_every_example_once_an_epoch_across_epoch_borders(batch_size):
    source = noise()
    steps = -(-3 * len(source) // batch_size)
    labels = [data.batch(source, t, batch_size=batch_size, seed=1)["label"] for t in range(steps)]
    epochs = np.concatenate(labels)[: 3 * len(source)].reshape(3, len(source))
    for epoch in epochs:
        assert sorted(epoch) == list(range(len(source)))
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_shards_concatenate_to_the_global_batch(count):
    arguments: dict[str, Any] = dict(
        batch_size=8, seed=2, transform=Transform(pad=1, shift=0.3, flip=True, crop=5)
    )
    whole = data.batch(noise(), 5, **arguments)
    parts = [data.batch(noise(), 5, shard=(i, count), **arguments) for i in range(count)]
    same({k: np.concatenate([p[k] for p in parts]) for k in whole}, whole)


def test_augmentation_depends_on_the_position_in_the_stream_only():
    arguments: dict[str, Any] = dict(seed=2, transform=Transform(shift=0.3, flip=True))
    big = data.batch(noise(), 1, batch_size=12, **arguments)
    small = [data.batch(noise(), t, batch_size=4, **arguments) for t in (3, 4, 5)]
    same({k: np.concatenate([s[k] for s in small]) for k in big}, big)


def test_prefetch_yields_what_batch_does_and_resumes():
    arguments: dict[str, Any] = dict(
        batch_size=8, seed=2, transform=Transform(shift=0.3, flip=True), shard=(1, 2)
    )
    steps = list(data.batches(noise(), 0, 20, **arguments))
    assert len(steps) == 20
    for t, step in enumerate(steps):
        same(step, data.batch(noise(), t, **arguments))
    for late, step in zip(data.batches(noise(), 13, 20, **arguments), steps[13:], strict=True):
        same(late, step)
    assert list(data.batches(noise(), 4, 4, **arguments)) == []


def test_prefetch_can_be_abandoned_and_needs_no_tensorflow_datasets():
    code = """
import sys
import numpy as np
from glowjax import data

source = data.Source(name="x", split="train", images=np.zeros((9, 4, 4, 1), np.uint8))
next(data.batches(source, 0, 10**9, batch_size=4, seed=0))
assert "tensorflow_datasets" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# Transforms against slow references, one image and one pixel at a time


def slow_shift(image, down, right):
    height, width, _ = image.shape
    out = np.empty_like(image)
    for i, j in itertools.product(range(height), range(width)):
        out[i, j] = image[min(max(i - down, 0), height - 1), min(max(j - right, 0), width - 1)]
    return out


def slow_reflection(image, down, right):
    around = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    return around[2 - down :, 2 - right :][: image.shape[0], : image.shape[1]]


@pytest.mark.parametrize("edge, slow_shift", [("repeat", slow_shift), ("reflect", slow_reflection)])
def test_shift_and_flip_are_one_of_the_allowed_ones_and_all_occur(edge, slow_shift):
    source = noise(n=5, shape=(6, 10, 2))
    transform = Transform(shift=0.2, shift_edge=edge, flip=True)
    batch = data.batch(source, 0, batch_size=400, seed=0, transform=transform)
    seen = set()
    for image, label in zip(batch["image"], batch["label"], strict=True):
        shifts = itertools.product((-1, 0, 1), (-2, -1, 0, 1, 2), (False, True))
        for down, right, flip in shifts:
            wanted = slow_shift(source.images[label], down, right)
            if np.array_equal(image, wanted[:, ::-1] if flip else wanted):
                seen.add((down, right, flip))
                break
        else:
            raise AssertionError("no shift and flip gives this image")
    assert len(seen) == 3 * 5 * 2


def test_shifts_end_after_their_steps_and_nothing_else_changes():
    source, ends = noise(n=30, shape=(6, 6, 1)), Transform(shift=0.4, first_steps=3, flip=True)
    for step in range(6):
        same = dataclasses.replace(ends, shift=0.4 if step < 3 else 0.0, first_steps=None)
        got, want = (
            data.batch(source, step, batch_size=8, seed=1, transform=t) for t in (ends, same)
        )
        np.testing.assert_array_equal(got["image"], want["image"])
        every = data.batch(source, step, batch_size=8, seed=1, transform=Transform(shift=0.4))
        assert (step < 3) or np.any(got["image"] != every["image"])


def test_first_steps_see_crops_and_the_others_whole_images():
    source = noise(n=20, shape=(6, 8, 1))
    first = Transform(first_crop=(4, 2), first_steps=2, shift=0.25, flip=True, pad=1)
    arguments: dict[str, Any] = dict(batch_size=6, seed=3)
    for step in range(4):
        now = (
            dataclasses.replace(first, first_crop=None, crop=(4, 2))
            if step < 2
            else Transform(flip=True, pad=1)
        )
        got, want = (data.batch(source, step, transform=t, **arguments) for t in (first, now))
        assert got["image"].shape[1:] == ((4, 2, 1) if step < 2 else (8, 10, 1))
        np.testing.assert_array_equal(got["image"], want["image"])
    assert first.image_shape(source) == (8, 10, 1)
    (whole,) = data.eval_batches(source, batch_size=20, transform=first)
    assert whole["image"].shape == (20, 8, 10, 1)


def test_random_crop_visits_every_place_and_evaluation_takes_the_centre():
    source = noise(n=1, shape=(6, 8, 3))
    batch = data.batch(source, 0, batch_size=200, seed=0, transform=Transform(crop=4))
    crops = {
        (y, x): source.images[0, y : y + 4, x : x + 4].tobytes()
        for y, x in itertools.product(range(3), range(5))
    }
    assert {image.tobytes() for image in batch["image"]} == set(crops.values())
    (centre,) = data.eval_batches(source, batch_size=1, transform=Transform(crop=4))
    assert centre["image"][0].tobytes() == crops[1, 2]


@pytest.mark.parametrize("bits", range(1, 9))
def test_bits(bits):
    transform = Transform(bits=bits)
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    wanted = [x // 2 ** (8 - bits) for x in range(256)]
    reduced = transform(images)
    assert reduced.dtype == np.uint8
    assert reduced.ravel().tolist() == wanted
    assert transform.levels(noise()) == 2**bits == max(wanted) + 1


def test_pad_repeats_and_order_of_transforms():
    source = noise(n=3, shape=(4, 4, 1))
    transform = Transform(pad=2, bits=5, channels=3)
    (batch,) = data.eval_batches(source, batch_size=3, transform=transform)
    assert batch["image"].shape[1:] == transform.image_shape(source) == (8, 8, 3)
    wanted = np.zeros((3, 8, 8, 3), np.uint8)
    for n, i, j, c in itertools.product(range(3), range(4), range(4), range(3)):
        wanted[n, i + 2, j + 2, c] = source.images[n, i, j, 0] // 8
    np.testing.assert_array_equal(batch["image"], wanted)
    # Padding comes first: shifts bring in padding, never a repeated edge of the image.
    shifted = data.batch(source, 0, batch_size=60, seed=0, transform=Transform(pad=2, shift=0.25))
    sums = source.images.sum((1, 2, 3))
    np.testing.assert_array_equal(shifted["image"].sum((1, 2, 3)), sums[shifted["label"]])


def test_images_keep_type_and_the_source_is_left_alone(digits):
    before = digits.images.copy()
    batch = data.batch(digits, 0, batch_size=8, seed=0)
    batch["image"][...] = 0
    np.testing.assert_array_equal(digits.images, before)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


# Evaluation


@pytest.mark.parametrize("n, batch_size, count", [(23, 5, 1), (23, 8, 4), (3, 8, 4), (24, 8, 2)])
def test_evaluation_sees_every_example_once(n, batch_size, count):
    source = noise(n=n)
    shards = [
        list(data.eval_batches(source, batch_size=batch_size, shard=(i, count)))
        for i in range(count)
    ]
    assert {len(s) for s in shards} == {-(-n // batch_size)}
    seen = []
    for step in zip(*shards, strict=True):
        for part in step:
            assert {len(v) for v in part.values()} == {batch_size // count}
            assert part["weight"].dtype == np.float32
            np.testing.assert_array_equal(part["image"], source.images[part["index"]])
            np.testing.assert_array_equal(part["label"], source.labels[part["index"]])
            assert set(part["weight"]) <= {0.0, 1.0}
            seen += part["index"][part["weight"] == 1].tolist()
    assert seen == list(range(n))


def test_evaluation_leaves_out_what_is_random():
    transform = Transform(shift=0.5, flip=True)
    (batch,) = data.eval_batches(noise(), batch_size=23, transform=transform)
    np.testing.assert_array_equal(batch["image"], noise().images)


# Errors


@pytest.mark.parametrize(
    "arguments",
    [
        dict(pad=-1),
        dict(pad=1.5),
        dict(crop=0),
        dict(shift=-0.1),
        dict(shift=0.6),
        dict(shift=float("nan")),
        dict(shift_edge="wrap"),
        dict(first_steps=-1),
        dict(first_crop=0),
        dict(first_crop=4),
        dict(first_steps=0.6),
        dict(bits=0),
        dict(bits=9),
        dict(channels=0),
    ],
)
def test_transform_out_of_range(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} must be .*, got "):
        Transform(**arguments)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("batch_size", dict(batch_size=0)),
        ("batch_size", dict(batch_size=2.0)),
        ("batch_size", dict(batch_size=9, shard=(0, 2))),
        ("shard", dict(shard=(2, 2))),
        ("shard", dict(shard=(-1, 2))),
        ("shard", dict(shard=(0, 0))),
        ("crop", dict(transform=Transform(crop=7))),
        ("first_crop", dict(transform=Transform(first_crop=7, first_steps=1))),
        ("channels", dict(transform=Transform(channels=4))),
    ],
)
def test_batch_arguments_out_of_range(name, arguments):
    arguments: dict[str, Any] = dict(batch_size=8) | arguments
    with pytest.raises(ValueError, match=rf"{name} must be .*, got "):
        data.batch(noise(), 0, seed=0, **arguments)
    with pytest.raises(ValueError, match=rf"{name} must be .*, got "):
        data.batches(noise(), 0, 2, seed=0, **arguments)
    with pytest.raises(ValueError, match=rf"{name} must be .*, got "):
        data.eval_batches(noise(), **arguments)


def test_other_arguments_out_of_range(digits):
    with pytest.raises(ValueError, match=r"bits must be None: digits has 17 grey levels.*, got 5"):
        data.batch(digits, 0, batch_size=4, seed=0, transform=Transform(bits=5))
    with pytest.raises(ValueError, match=r"step must be .*, got -1"):
        data.batch(digits, -1, batch_size=4, seed=0)
    with pytest.raises(ValueError, match=r"seed must be .*, got -1"):
        data.batch(digits, 0, batch_size=4, seed=-1)
    with pytest.raises(ValueError, match="stop_step must be a whole number of at least 2, got 1"):
        data.batches(digits, 2, 1, batch_size=4, seed=0)
    with pytest.raises(ValueError, match=r"shift must be 0, or enough for a pixel.*, got 0\.01"):
        data.batch(digits, 0, batch_size=4, seed=0, transform=Transform(shift=0.01))
    empty = Source(name="none", split="train", images=np.zeros((0, 4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match="source must be at least one example, got 'none'"):
        data.batch(empty, 0, batch_size=4, seed=0)


# Oblong images


@pytest.mark.parametrize(
    ("crop", "pad", "shape"),
    [
        (None, ((1, 2), (1, 1)), (48, 32)),
        (None, (1, 3), (47, 36)),
        (None, (0, (2, 0)), (45, 32)),
        ((44, 28), 0, (44, 28)),
        ((46, 28), (1, 0), (46, 28)),
        (28, 0, (28, 28)),
    ],
)
def test_oblong_images_are_padded_and_cut_as_a_slow_reference_does(crop, pad, shape):
    source = noise(n=3, shape=(45, 30, 3))
    transform = Transform(crop=crop, pad=pad)
    assert transform.image_shape(source) == (*shape, 3)
    (down, right) = pad if isinstance(pad, tuple) else (pad, pad)
    top, bottom = down if isinstance(down, tuple) else (down, down)
    left, rest = right if isinstance(right, tuple) else (right, right)
    padded = np.zeros((3, top + 45 + bottom, left + 30 + rest, 3), np.uint8)
    padded[:, top : top + 45, left : left + 30] = source.images
    (i, j) = ((have - due) // 2 for have, due in zip(padded.shape[1:3], shape, strict=True))
    (batch,) = data.eval_batches(source, batch_size=3, transform=transform)
    wanted = padded[:, i : i + shape[0], j : j + shape[1]]
    np.testing.assert_array_equal(batch["image"], wanted)
    drawn = data.batch(source, 0, batch_size=60, seed=0, transform=transform)
    places = set()
    for image, label in zip(drawn["image"], drawn["label"], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(padded[label], (*shape, 3))[:, :, 0]
        (place, *_) = np.argwhere((windows == image).all((2, 3, 4)))
        places.add(tuple(place))
    assert len(places) > 1 or padded.shape[1:3] == shape


@pytest.mark.parametrize("crop, pad", [(5, 2), (4, 0), (None, 1)])
def test_two_equal_sizes_are_one(crop, pad):
    arguments: dict[str, Any] = dict(batch_size=40, seed=3)
    one = Transform(crop=crop, pad=pad, shift=0.25, flip=True)
    pads = (pad, pad), ((pad, pad), (pad, pad)), [pad, [pad, pad]]
    for pair in pads:
        both = dataclasses.replace(one, crop=crop and (crop, crop), pad=pair)
        a, b = (data.batch(noise(), 2, transform=t, **arguments) for t in (one, both))
        same(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(crop=(4, 0)), "crop must be a whole number of at least 1, got 0"),
        (dict(crop=(4, 4, 4)), r"crop must be one for height and width, or two: .*got \(4, 4, 4\)"),
        (dict(crop="4"), "crop must be a whole number of at least 1, got '4'"),
        (dict(pad=((1, 2), (1, -1))), "pad must be a whole number of at least 0, got -1"),
        (dict(pad=(1, 2, 1, 1)), "pad must be one for height and width, or two"),
        (dict(pad=((1, 2), (1, 1, 1))), r"pad must be one .* got \(1, 1, 1\)"),
    ],
)
def test_sizes_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        Transform(**arguments)


def test_a_crop_larger_than_the_images():
    with pytest.raises(ValueError, match=r"crop must be at most 8×8, .*noise's.*, got \(9, 4\)"):
        data.batch(noise(), 0, batch_size=2, seed=0, transform=Transform(pad=(1, 0), crop=(9, 4)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
def test_resize_takes_the_central_region_of_a_shape_channel_by_channel(channels):
    image = noise(n=1, shape=(12, 24, channels)).images[0]
    regions = {5: np.s_[:, 6:18], (4, 6): np.s_[:, 3:21], (2, 8): np.s_[3:9, :]}
    for size, place in regions.items():
        small = resized(image, size)
        down, right = size if isinstance(size, tuple) else (size, size)
        region = image[place].astype(float)
        weights = [
            shares(have, due) for have, due in zip(region.shape, (down, right), strict=False)
        ]
        mean = np.einsum("ih,jw,hwc->ijc", *weights, region)
        assert small.shape == (down, right, channels)
        assert np.abs(small - mean).max() <= 1  # Pillow rounds rows, then columns


def shares(have, due):
    """Shares [due, have] of pixels in a mean: a pixel counts where its centre lies."""
    place = (np.arange(have) + 0.5) * due // have
    inside = place[None] == np.arange(due)[:, None]
    return inside / inside.sum(1, keepdims=True)


# What images must be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(images=np.zeros((9, 4, 4, 1), np.uint16)),
            "images of mine must be uint8 .*got 'uint16",
        ),
        (dict(images=np.zeros((9, 4, 4, 1))), "images of mine must be uint8 .*got 'float64"),
        (
            dict(images=np.zeros((9, 4, 4), np.uint8)),
            r"images of mine .* got 'uint8 of .*\(9, 4, 4\)",
        ),
        (dict(labels=np.zeros(8, int)), r"labels of mine must be integers of shape \(9,\)"),
        (dict(labels=np.zeros(9)), "labels of mine must be .* got 'float64"),
    ],
)
def test_sources_of_another_kind(changes, message):
    with pytest.raises(ValueError, match=message):
        Source(
            **dict(name="mine", split="train", images=np.zeros((9, 4, 4, 1), np.uint8)) | changes
        )


def encoded(image, format="png", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def deep_png(colours):
    """A PNG of 16 bits a channel; Pillow writes no such colours."""
    kinds = {1: 0, 2: 4, 3: 2, 4: 6}
    rows = b"".join(b"\0" + np.full((2, colours), 1000, ">u2").tobytes() for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, kinds[colours], 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    parts = (
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("colours", [1, 2, 3, 4])
def test_images_of_16_bits_are_named(tmp_path, colours):
    shape = (2, 2, colours)
    examples = [{"image": encoded(picture(shape))}] * 12 + [{"image": deep_png(colours)}] * 2
    prepare_custom(tmp_path, {"image": tfds.features.Image(shape=shape)}, examples)
    with pytest.raises(ValueError, match=r"custom: example \d+ of .* must have 8 bits a channel"):
        for split in ("train", "validation", "test"):
            data.load("custom", split, data_dir=tmp_path)


def picture(shape, seed=0):
    import PIL.Image

    pixels = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    return PIL.Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)


def test_floats_of_a_tiff_are_refused():
    import PIL.Image

    with pytest.raises(ValueError, match="must have 8 bits a channel"):
        decode(encoded(PIL.Image.fromarray(np.zeros((2, 2), np.float32)), "tiff"), 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_files_of_all_kinds_are_read_in_the_channels_of_their_feature(channels):
    shape = (5, 4, channels)
    plain = picture(shape)
    pixels = np.asarray(plain).reshape(shape)
    np.testing.assert_array_equal(decode(encoded(plain), channels), pixels)
    palette = picture((5, 4, 3)).quantize(7)
    black = palette.convert("1")
    for image in (palette, black, picture((5, 4, 3)).convert("CMYK").convert("RGB")):
        read = decode(encoded(image), channels)
        assert read.shape == shape and read.dtype == np.uint8
    colours = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(palette), 3), colours)
    assert set(np.unique(decode(encoded(black), 1))) <= {0, 255}


def test_arrays_of_many_channels(tmp_path):
    arrays = np.random.RandomState(0).randint(0, 256, (20, 3, 5, 13)).astype(np.uint8)
    features = {"bands": tfds.features.Tensor(shape=(3, 5, 13), dtype=np.uint8)}
    prepare_custom(tmp_path, features, [{"bands": a} for a in arrays])
    source = data.load("custom", "train", data_dir=tmp_path)
    known = {a.tobytes() for a in arrays}
    assert source.images.shape == (16, 3, 5, 13)
    assert all(image.tobytes() in known for image in source.images)
    assert data.load("custom", "test", data_dir=tmp_path, resize=(3, 2)).image_shape == (3, 2, 13)


# Names that are none


def test_folders_in_place_of_names(digits_dir, tmp_path, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    picture((4, 4, 3)).save(tmp_path / "pictures" / "a" / "1.PNG", "png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    (tmp_path / "one.png").touch()
    own = r".*named folder:PATH.*docs/own-images.md"
    cases = {
        "pictures": "a folder of pictures" + own,
        "./pictures": "a folder of pictures" + own,
        str(tmp_path / "pictures"): "a folder of pictures" + own,
        "empty": "an empty folder" + own,
        "texts": "a folder without pictures" + own,
        "one.png": "it is a file" + own,
        "../nowhere": "a folder that does not exist",
        "~/no/where": "a folder that does not exist",
        r"C:\Pictures": "a folder that does not exist",
        "C:/Pictures": "a folder that does not exist",
        str(digits_dir / "digits"): f"name must be 'digits', and data_dir '{digits_dir}'",
        str(digits_dir / "digits" / "1.0.0"): f"name must be 'digits', and data_dir '{digits_dir}'",
        "My Pictures": "no data set 'My Pictures'.*which holds digits" + own,
        "mnist:9.9.9": r"got 'mnist:9\.9\.9': .*only: 3\.0\.1",
        "celeb_a_hq/999": "got 'celeb_a_hq/999': BuilderConfig 999 not found",
        "": "that of a data set, got ''",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=f"(?s)^name.*{message}"):
            prepare.prepare(name, data_dir=digits_dir)


def test_folders_that_do_not_hold_the_data(digits_dir, tmp_path, no_network):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"data_dir must be a folder .*, got .*file"):
        prepare.prepare("mnist", data_dir=tmp_path / "file")
    cases = {
        tmp_path / "nowhere": "which does not exist",
        tmp_path: "which holds no prepared data set",
        digits_dir: "which holds digits",
        digits_dir / "digits": "which is a data set itself",
    }
    for folder, message in cases.items():
        # What is the case comes first, and only then that there is no network.
        text = f"^mnist is not prepared under data_dir, {folder}, {message}.*; .*cannot reach"
        with pytest.raises(ConnectionError, match=text):
            prepare.prepare("mnist", data_dir=folder)
