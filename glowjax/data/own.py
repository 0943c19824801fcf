"""Pictures of one's own as a data set: a folder of image files, or a file of arrays.

    folder:PATH     PNG, JPEG, WebP, TIFF, BMP or GIF files
    PATH.npy        an array of images
    PATH.npz        arrays `images` and, if there are labels, `labels`

A folder may have sub-folders, one a class; or sub-folders `train`, `test` and `validation` with
either; or a file labels.csv with the columns `file` and `label`. They are prepared as other data
sets are, once; a change of the folder or file makes another data set of it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import pathlib
import re
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from glowjax.checks import require
from glowjax.data.images import channels_of

FOLDER = "folder:"
ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
SPLITS = {
    **{name: name for name in ("train", "validation", "test")},
    **{name: "validation" for name in ("val", "valid")},
}
LABELS = "labels.csv"
NAMED = 10  # damaged files that a message lists


class Picture(NamedTuple):
    """An image file, its class if it has one, and its split."""

    path: pathlib.Path
    label: str | None
    split: str


def is_own(name: str) -> bool:
    """Whether a data set's name says where pictures of one's own are."""
    return isinstance(name, str) and (name.startswith(FOLDER) or name.endswith(ARRAYS))


def own_builder(name: str, *, data_dir, file_format) -> tfds.core.DatasetBuilder:
    """The builder of tensorflow-datasets of a folder or file, see above.

    Raises:
      ValueError: there is no such folder or file, it holds no pictures, labels are missing or
        given twice, or what it holds is not 8-bit images.
    """
    path = pathlib.Path(name.removeprefix(FOLDER)).expanduser().resolve()
    if name.startswith(FOLDER):
        require(path.is_dir(), "name", name, f"{FOLDER} and a folder that exists; {path} does not")
        files, kind = pictures(path), _Folder
        read = [picture.path for picture in files]
        read += [path / LABELS] * (path / LABELS).exists()
    else:
        require(path.is_file(), "name", name, f"a file that exists; {path} does not")
        files, kind, read = path, _Arrays, [path]
    stem = re.sub(r"\W+", "_", path.stem.lower()).strip("_") or "images"
    prepared = f"own_{stem}_{_fingerprint(read)}"
    try:  # once prepared, pictures need not be looked at again
        return tfds.builder(prepared, data_dir=data_dir, file_format=file_format)
    except tfds.core.DatasetNotFoundError:
        kind = type(prepared, (kind,), {"name": prepared}, skip_registration=True)
        return kind(path, files, data_dir=data_dir, file_format=file_format)


class _Own(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, path, files, **options):
        self._path, self._files = path, files
        super().__init__(**options)

    def _features(self, image, classes):
        features: dict[str, Any] = {"image": image}
        if classes is not None:
            features["label"] = tfds.features.ClassLabel(names=classes)
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Images of {self._path}.",
            features=tfds.features.FeaturesDict(features),
        )


class _Folder(_Own, skip_registration=True):
    """Image files, stored as they are."""

    def _info(self):
        classes = {picture.label for picture in self._files}
        image = tfds.features.Image(shape=(None, None, _channels(self._path, self._files)))
        return self._features(image, None if classes == {None} else _in_order(classes))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in {p.split for p in self._files}}

    def _generate_examples(self, split):
        for path, label, of in self._files:
            if of == split:
                example = {"image": path} if label is None else {"image": path, "label": label}
                yield path.relative_to(self._path).as_posix(), example


def _in_order(classes) -> list[str]:
    """Names of classes: by number if all are numbers, else by the alphabet."""
    names = sorted(map(str, classes))
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


class _Arrays(_Own, skip_registration=True):
    """Images of one array, stored number for number."""

    def _info(self):
        self._images, self._labels = _read_arrays(self._path)
        image = tfds.features.Tensor(shape=self._images.shape[1:], dtype=np.uint8)
        classes = None
        if self._labels is not None:
            classes = [str(label) for label in range(int(self._labels.max()) + 1)]
        return self._features(image, classes)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, image in enumerate(self._images):
            example = {"image": np.ascontiguousarray(image)}
            yield i, example if self._labels is None else example | {"label": int(self._labels[i])}


def pictures(folder: pathlib.Path) -> list[Picture]:
    """The image files of a folder, with their classes and splits.

    Raises:
      ValueError: there are none; some lie in sub-folders and some do not; labels.csv lacks one.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
    wanted = f"a folder of pictures ({', '.join(PICTURES)})"
    require(found, "name", f"{FOLDER}{folder}, which has none", wanted)
    places = [path.relative_to(folder).parts[:-1] for path in found]
    split = _has_splits(folder, places)
    splits = [SPLITS[place[0].lower()] if split else "train" for place in places]
    classes = [place[1:] if split else place for place in places]
    if (folder / LABELS).exists():
        labels = _labels_of(folder, found)
    elif all(classes):
        labels = [place[0] for place in classes]
    else:
        inside = sum(map(bool, classes))
        given = f"{len(found) - inside} outside of sub-folders and {inside} inside"
        wanted = f"all in sub-folders, one a class, or none, or with a {LABELS}"
        require(not inside, f"pictures of {folder}", given, wanted)
        labels = [None] * len(found)
    return [Picture(*about) for about in zip(found, labels, splits, strict=True)]


def _has_splits(folder: pathlib.Path, places: list[tuple[str, ...]]) -> bool:
    """Whether the sub-folders are splits, one of which is for training.

    Raises:
      ValueError: some are named as splits and some are not.
    """
    names = sorted({place[0] if place else "." for place in places})
    splits = {name for name in names if name.lower() in SPLITS}
    if "train" not in {SPLITS[name.lower()] for name in splits}:
        return False
    wanted = "train, validation and test alone, with classes inside of them, or classes alone"
    require(len(splits) == len(names), f"sub-folders of {folder}", names, wanted)
    return True


def _labels_of(folder, found):
    """The labels that labels.csv gives to the files."""
    file = folder / LABELS
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be text in UTF-8: {error}") from error
    with io.StringIO(text, newline="") as lines:
        rows = csv.DictReader(lines)
        columns = rows.fieldnames or []
        wanted = "columns 'file' and 'label'"
        require({"file", "label"} <= set(columns), str(file), f"columns {columns}", wanted)
        labels = {pathlib.PurePath(row["file"]).as_posix(): row["label"] for row in rows}
    names = [path.relative_to(folder).as_posix() for path in found]
    missing = [name for name in names if not labels.get(name)]
    given = f"none for {len(missing)} of {len(names)}, the first {missing[:1]}"
    require(not missing, f"labels of {file}", given, "one for each picture")
    return [labels[name] for name in names]


def _channels(folder: pathlib.Path, files: list[Picture]) -> int:
    """4 where some picture has transparent places, else 3 where some has colours, else 1.

    A grey picture may be stored in colours, as all WebP files are.

    Raises:
      ValueError: files cannot be read; all of them are listed.
    """
    channels, damaged = 1, []
    for path, *_ in files:
        try:
            channels = max(channels, channels_of(path))
        except Exception as error:  # Pillow's are of all kinds
            damaged.append(f"  {path.relative_to(folder)}: {error}")
    if damaged:
        more = [f"  and {len(damaged) - NAMED} more"] if len(damaged) > NAMED else []
        raise ValueError(
            f"pictures of {folder} must be images of 8 bits that can be read; {len(damaged)} of"
            f" {len(files)} cannot be used, remove or convert them:\n"
            + "\n".join(damaged[:NAMED] + more)
        )
    return channels


def _read_arrays(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images `[N, H, W, C]` and labels `[N]` or None."""
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
        else:
            arrays = {"images": np.load(path, allow_pickle=False, mmap_mode="r")}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as NumPy's: {error}") from error
    wanted = "an array 'images' and, with labels, 'labels'"
    require("images" in arrays, str(path), f"arrays {sorted(arrays)}", wanted)
    images, labels = arrays["images"], arrays.get("labels")
    images = images[..., None] if images.ndim == 3 else images
    given = f"{images.dtype} of shape {images.shape}"
    wanted = "uint8 of shape [N, H, W, C] or [N, H, W]; scale floats to 0..255 first"
    require(images.dtype == np.uint8 and images.ndim == 4, f"images of {path}", given, wanted)
    require(len(images), f"images of {path}", given, "one at least")
    if labels is not None:
        given = f"{labels.dtype} of shape {labels.shape}"
        whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == images.shape[:1]
        wanted = f"whole numbers of shape {images.shape[:1]}"
        require(whole, f"labels of {path}", given, wanted)
        least = int(labels.min()) if labels.size else 0
        require(least >= 0, f"labels of {path}", least, "0 or more")
    return images, labels


def _fingerprint(files: list[pathlib.Path]) -> str:
    """Tells one state of a folder or file from another: paths, sizes and times of change."""
    sha = hashlib.sha256()
    for file in files:
        about = file.stat()
        sha.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
    return sha.hexdigest()[:10]
