"""Data sets as tensorflow-datasets prepares them, without TensorFlow and, for `digits`, a network.

`prepare` finds or makes the prepared files of a data set; `glowjax.data` reads them. Importing this
module imports tensorflow_datasets, which the rest of the library does only when data are loaded.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
import pathlib
import re
import shutil
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Generator

import tensorflow_datasets as tfds
from absl import logging

from glowjax.checks import require
from glowjax.data.builders import BUILDERS, manual_dir
from glowjax.data.images import check_image
from glowjax.data.own import ARRAYS, FOLDER, PICTURES, is_own, own_builder

FORMAT = "array_record"  # random access, readable without TensorFlow


PROBE_SECONDS = 3.0


INFO = "dataset_info.json"  # in the folder of each prepared version


OWN_IMAGES = (
    f"Own pictures are named {FOLDER}PATH, a folder of image files, or PATH{ARRAYS[0]} or"
    f" PATH{ARRAYS[1]}, a file of arrays: see docs/own-images.md"
)


def prepare(name, *, data_dir=None, archives=None, progress=False) -> tfds.core.DatasetBuilder:
    """Finds the prepared files of a data set, or makes them; returns a tensorflow-datasets builder.

    Args:
      name: `digits`, `mnist`, `fashion_mnist`, `cifar10`, any data set of tensorflow-datasets, with
        or without a config (`downsampled_imagenet/32x32`), one that is already prepared under
        `data_dir`, or `folder:PATH`, `PATH.npy` or `PATH.npz`: see `glowjax.data.own`.
      data_dir: folder of prepared data sets. Default: that of tensorflow-datasets, `$TFDS_DATA_DIR`
        or `~/tensorflow_datasets`.
      archives: folder that holds the original archives under their original names; nothing is
        downloaded for the four data sets above. Default: `<data_dir>/downloads/manual` is looked
        into, and what is not there is downloaded.
      progress: whether to show tensorflow-datasets' progress bars.

    Returns:
      A builder whose `is_prepared()` holds and whose `as_data_source` works.

    Raises:
      ValueError: unknown name, or that of a folder of pictures; `data_dir` is a file; an archive
        unreadable or with a wrong checksum; an image damaged, of more than 8 bits, or of another
        size than the data set's; data prepared in a format without random access.
      FileNotFoundError: `archives` lacks files, or the data set must be fetched by hand first.
      ConnectionError: something must be downloaded and its host cannot be reached.
      ImportError: the data set's own builder needs TensorFlow.

    Preparation is written to a temporary folder and renamed: it is there as a whole or not at all.
    """
    data_dir, archives = (p and pathlib.Path(p).expanduser() for p in (data_dir, archives))
    if data_dir is not None:
        wrong = data_dir.exists() and not data_dir.is_dir()
        require(not wrong, "data_dir", str(data_dir), "a folder of prepared data sets, not a file")
    with quiet(progress):
        builder = _builder(name, data_dir)
        if not builder.is_prepared():
            _check_archives(builder, archives)
            _download_and_prepare(builder, archives)
            builder = _builder(name, data_dir)
            if builder.name not in BUILDERS and not is_own(name):
                _check_images(builder)
    return builder


def _builder(name, data_dir):
    if is_own(name):
        return own_builder(name, data_dir=data_dir, file_format=FORMAT)
    make = BUILDERS.get(name) or functools.partial(tfds.builder, name)
    try:
        return make(data_dir=data_dir, file_format=FORMAT)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(_unknown(name, data_dir)) from None
    except (ValueError, AssertionError) as error:
        if "Failed to construct" in str(error):  # no such config, or no such version
            reason = str(error).rpartition('}": ')[2].strip()
            raise ValueError(f"name must be that of a data set, got {name!r}: {reason}") from error
        if "Parsing builder name" in str(error):  # a path, or no name at all
            raise ValueError(_unknown(name, data_dir)) from None
        if "file format" not in str(error).lower():
            raise
        raise ValueError(
            f"name: {name!r} is prepared in a format without random access; "
            f"use another data_dir, or prepare it again with file_format={FORMAT!r}"
        ) from error


def _unknown(name, data_dir):
    """Says what a name that is no data set's may be instead."""
    require(name, "name", name, "that of a data set")
    for path in (pathlib.Path(name).expanduser(), pathlib.Path(data_dir or "", name)):
        if path.exists():
            return f"name must be that of a data set, got {name!r}: {_not_a_name(path)}"
    if re.match(r"[.~/]|[A-Za-z]:[\\/]|.*\\", name):
        return f"name must be that of a data set, got {name!r}, a folder that does not exist"
    known = [*BUILDERS, *tfds.list_builders(with_community_datasets=False)]
    near = dict.fromkeys(difflib.get_close_matches(name.split("/")[0], known, n=5))
    hint = f"Did you mean {', '.join(near)}?" if near else OWN_IMAGES
    return (
        f"name: no data set {name!r} in tensorflow-datasets or under data_dir,"
        f" {_holding(data_dir or tfds.core.constants.DATA_DIR)}; always there:"
        f" {', '.join(BUILDERS)} (all but digits are downloaded). {hint}"
    )


def _not_a_name(path):
    """What lies at a path, and how it becomes a data set."""
    if not path.is_dir():
        return f"it is a file. {OWN_IMAGES}"
    info = next((i for deep in ("", "*/", "*/*/") for i in path.glob(f"{deep}{INFO}")), None)
    if info is not None:
        folder, prepared = info.parent, json.loads(info.read_text(encoding="utf-8"))
        name = "/".join(filter(None, (prepared["name"], prepared.get("configName"))))
        root = folder.parents[1 + bool(prepared.get("configName"))]
        return f"there is a prepared data set: name must be {name!r}, and data_dir {str(root)!r}"
    pictures = any(p.suffix.lower() in PICTURES for p in path.rglob("*"))
    what = "a folder of pictures" if pictures else "a folder without pictures"
    return f"it is {what if any(path.iterdir()) else 'an empty folder'}. {OWN_IMAGES}"


def _holding(root):
    """What a folder of prepared data sets holds, to be said after its name."""
    root = pathlib.Path(root).expanduser()
    if not root.is_dir():
        return f"{root}, which does not exist"
    if (root / INFO).exists() or any(root.glob(f"*/{INFO}")):
        return f"{root}, which is a data set itself: data_dir is a folder of such"
    names = sorted(p.name for p in root.iterdir() if any(p.glob(f"*/{INFO}")))
    names += sorted(p.name for p in root.iterdir() if any(p.glob(f"*/*/{INFO}")))
    return f"{root}, which holds {', '.join(names) or 'no prepared data set'}"


def _check_archives(builder, archives):
    """Fails at once where tensorflow-datasets would fail after minutes of retries."""
    urls = builder.url_infos or {}
    if archives is not None and not archives.is_dir():
        raise FileNotFoundError(f"archives: {archives} is not a folder")
    if builder.name not in BUILDERS:
        # Which of its URLs a foreign builder will ask for is not known beforehand.
        if urls and archives is None and not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            _probe(builder, list(urls)[:8], manual_dir(builder))
        return
    folder = archives or manual_dir(builder)
    files = {url: folder / info.filename for url, info in urls.items()}
    missing = [url for url, file in files.items() if not file.exists()]
    wrong = [u for u in urls if u not in missing and _sha256(files[u]) != urls[u].checksum]
    if wrong:
        raise ValueError(f"archives: wrong checksum in {folder}:\n{_listing(urls, wrong)}")
    if missing and archives is not None:
        raise FileNotFoundError(f"archives: missing in {folder}:\n{_listing(urls, missing)}")
    if missing:
        _probe(builder, missing, folder)


def _probe(builder, missing, folder):
    """Opens one connection to the host of the first missing file, or to the proxy before it."""
    url = urllib.parse.urlsplit(missing[0])
    proxy = urllib.request.getproxies().get(url.scheme)
    target = urllib.parse.urlsplit(proxy) if proxy else url
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        socket.create_connection((target.hostname, port), timeout=PROBE_SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"{_not_prepared(builder)}; and it cannot be downloaded: cannot reach {target.hostname}"
            f" ({error}). Download these files elsewhere and put them into {folder}, or name their "
            f"folder with archives=:\n{_listing(builder.url_infos, missing)}"
        ) from error


def _not_prepared(builder):
    return f"{builder.name} is not prepared under data_dir, {_holding(builder.data_dir_root)}"


def _download_and_prepare(builder, archives):
    config = tfds.download.DownloadConfig(manual_dir=archives, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except ImportError as error:
        if "tensorflow" not in str(error).lower():
            raise
        raise ImportError(
            f'preparing {builder.name!r} needs TensorFlow: pip install "glowjax[tf]"'
        ) from error
    except AssertionError as error:
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        raise FileNotFoundError(
            f"{_not_prepared(builder)}. It has to be fetched by hand into"
            f" {archives or manual_dir(builder)} (or a folder named with archives=):\n"
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        ) from error
    except OSError:
        # Another process (a host of the same pod) may have finished first: its data are as good.
        if not builder.is_prepared():
            raise


def _check_images(builder):
    """Removes what was prepared if an image is bad: foreign builders store files as they are."""
    features = builder.info.features
    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    for split in builder.info.splits:
        decoders = {key: tfds.decode.SkipDecoding() for key in keys}
        for i, record in enumerate(builder.as_data_source(split=split, decoders=decoders)):
            for key in keys:
                try:
                    check_image(record[key], features[key].shape[:2])
                except Exception as error:  # PIL's are of all kinds
                    shutil.rmtree(builder.data_dir)
                    raise ValueError(
                        f"{builder.name}: {key} of example {i} of {split} is bad: {error}"
                    ) from error


def _listing(infos, urls):
    return "\n".join(f"  {infos[u].filename}  sha256 {infos[u].checksum}  {u}" for u in urls)


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def quiet(progress=False) -> Generator[None]:
    """Keeps tensorflow-datasets' warnings off the terminal, its messages off stdout."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    if not progress:
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)
