"""Builders of tensorflow-datasets whose archives are read without TensorFlow."""

from __future__ import annotations

import gzip
import pathlib
import tarfile
import urllib.parse
import urllib.request
import zlib

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import cifar, mnist

DIGITS = {"train": 1400, "validation": 150, "test": 247}


IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """scikit-learn's 1,797 handwritten digits, 8x8x1 with 17 grey levels (0..16): no file needed.

    Splits: train 1,400, validation 150, test 247, by a fixed permutation, stored in its order.
    """

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of UCI's optdigits test set, as in scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        # RandomState's streams are frozen by NumPy's compatibility policy, Generator's are not.
        order = np.random.RandomState(0).permutation(sum(DIGITS.values()))
        parts = np.split(order, np.cumsum(list(DIGITS.values()))[:-1])
        return {s: self._generate_examples(p) for s, p in zip(DIGITS, parts, strict=True)}

    def _generate_examples(self, index):
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = digits.images.astype(np.uint8)[index], digits.target[index]
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": PIL.Image.fromarray(image), "label": int(label)}


class _IdxArchives:
    """Opens MNIST's archives (idx files in gzip), which tensorflow-datasets does by TensorFlow."""

    URL: str
    info: tfds.core.DatasetInfo

    def _split_generators(self, dl_manager):
        urls = {s: [urllib.parse.urljoin(self.URL, f) for f in fs] for s, fs in IDX_FILES.items()}
        paths = dl_manager.download(urls)
        shape = self.info.features["image"].shape
        return {split: _idx_examples(*paths[split], shape[:2]) for split in urls}


class Mnist(_IdxArchives, mnist.MNIST, skip_registration=True):
    """tensorflow-datasets' `mnist`, file for file, prepared without TensorFlow."""

    name = "mnist"
    url_infos = mnist.MNIST.url_infos


class FashionMnist(_IdxArchives, mnist.FashionMNIST, skip_registration=True):
    """tensorflow-datasets' `fashion_mnist`, file for file, prepared without TensorFlow."""

    name = "fashion_mnist"
    url_infos = mnist.FashionMNIST.url_infos


class Cifar10(cifar.Cifar10, skip_registration=True):
    """tensorflow-datasets' `cifar10`, file for file, prepared without TensorFlow."""

    name = "cifar10"
    url_infos = cifar.Cifar10.url_infos

    def _split_generators(self, dl_manager):
        facts = self._cifar_info
        files = _read_tar(dl_manager.download(facts.url))
        self.info.features["label"].names = files["batches.meta.txt"].decode().split()
        return {
            "train": _cifar_examples("train_", files, facts.train_files),
            "test": _cifar_examples("test_", files, facts.test_files),
        }


BUILDERS = {cls.name: cls for cls in (Digits, Mnist, FashionMnist, Cifar10)}


def manual_dir(builder) -> pathlib.Path:
    """Where archives that lie ready are looked for."""
    return pathlib.Path(builder.data_dir_root) / "downloads" / "manual"


def _read_idx(path):
    """Array of an idx file: 2 zero bytes, type 8 (uint8), rank, big-endian sizes, the data."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"archives: cannot unpack {path}: {error}") from error
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4) if data[:3] == b"\0\0\x08" else ()
    if len(shape) == 0 or len(data) != 4 + 4 * len(shape) + np.prod(shape, dtype=int):
        raise ValueError(f"archives: {path} is not an idx file of bytes")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def _idx_examples(images, labels, shape):
    pictures, classes = _read_idx(images), _read_idx(labels)
    if pictures.shape[1:] != shape:
        wanted, got = ("×".join(map(str, s)) for s in (shape, pictures.shape[1:]))
        raise ValueError(f"archives: {images} must hold images of {wanted}, got {got}")
    if classes.shape != pictures.shape[:1]:
        wanted, got = len(pictures), classes.shape
        raise ValueError(f"archives: {labels} must hold {wanted} labels, got an array of {got}")
    for i, (image, label) in enumerate(zip(pictures, classes, strict=True)):
        yield i, {"image": PIL.Image.fromarray(image), "label": int(label)}


def _read_tar(path):
    """{base name: bytes} of all files in a tar archive, in one pass."""
    try:
        with tarfile.open(path) as tar:
            files = ((member.name, tar.extractfile(member)) for member in tar)
            return {pathlib.PurePosixPath(name).name: file.read() for name, file in files if file}
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"archives: cannot unpack {path}: {error}") from error


def _cifar_examples(prefix, files, names):
    """A record is a byte of label and 32x32 bytes each of red, green and blue."""
    size = 1 + 3 * 32 * 32
    for name in names:
        if name not in files or len(files[name]) % size:
            got = f"{len(files[name])} bytes" if name in files else "no such file"
            raise ValueError(f"archives: {name} must hold records of {size} bytes, got {got}")
    records = np.frombuffer(b"".join(files[name] for name in names), np.uint8).reshape(-1, size)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    for i, (image, label) in enumerate(zip(images, records[:, 0], strict=True)):
        image = PIL.Image.fromarray(np.ascontiguousarray(image))
        yield i, {"id": f"{prefix}{i:05d}", "image": image, "label": int(label)}
