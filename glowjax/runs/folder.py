"""A run's folder: what was asked for, the lock, the log, and its checkpoints."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from glowjax.files import write_whole
from glowjax.runs.checkpoints import Checkpoints
from glowjax.runs.config import Config, from_json, to_json
from glowjax.runs.hosts import in_turn, is_first_host, of_first_host, on_first_host
from glowjax.runs.lock import NAME, hold

CONFIG = "config.json"
FORMAT = 2  # of a run's folder: 1 had parameters without names


class Run:
    """A folder with config.json, checkpoints/, metrics.jsonl and pictures.

    Attributes:
        folder: its path.
        config: the experiment's.
        images: what the data turned out to be: image_shape, levels, num_classes.
        data: `Source.fingerprint` of its splits; a run of an earlier version has none.
        class_names: of the data's labels, if they have names.
        checkpoints: its `Checkpoints`.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        images: dict[str, Any],
        data: dict[str, str],
        class_names: Sequence[str] | None = None,
        *,
        read_only: bool = False,
    ):
        self.folder, self.config, self.images, self.data = folder, config, images, data
        self.class_names = class_names
        with contextlib.ExitStack() as stack:
            if not read_only:
                token = of_first_host(lambda: uuid4().hex)
                in_turn(lambda: _take(folder, stack, token))
            self.checkpoints = Checkpoints(folder, read_only=read_only)
            self._held = stack.pop_all()

    @classmethod
    def create(
        cls,
        folder: Path,
        config: Config,
        images: dict[str, Any],
        data: dict[str, str],
        class_names: Sequence[str] | None = None,
    ) -> "Run":
        """Starts a run in a new or empty folder, which all hosts share.

        Raises:
            ValueError: the folder holds something already, or another process, or is not shared.
        """
        folder = Path(folder)
        on_first_host(lambda: _make_new(folder))
        run = cls(folder, config, images, data, class_names)
        run.go_on_with(config)
        return run

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> "Run":
        """Opens a run that exists; with `read_only`, one that may be training meanwhile.

        Raises:
            ValueError: the folder is not there, or is not one of ours, or cannot be read, or,
                without `read_only`, another process is training in it.
        """
        folder = Path(folder)
        config, images, about = in_turn(lambda: read_about(folder))
        known = about.get("data", {}), about.get("class_names")
        return cls(folder, config, images, *known, read_only=read_only)

    def go_on_with(self, config: Config) -> None:
        """Makes `config`, of more steps perhaps, the run's."""
        self.config = config
        about = about_run(config, self.images, self.class_names) | {"data": self.data}
        text = json.dumps(about, indent=2, ensure_ascii=False)
        on_first_host(lambda: write_whole(self.folder / CONFIG, text))

    def close(self) -> None:
        """Waits for this host's saves, and lets go of the folder."""
        with self._held:
            self.checkpoints.close()

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.jsonl."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line cut off by a kill is left out."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return list(_rows(lines))

    def forget_after(self, step: int) -> None:
        """Drops later rows of the log and sets later checkpoints, which could not be read, aside:
        a resumed run makes both again.
        """

        def forget():
            kept = [json.dumps(row) + "\n" for row in self.history() if row["step"] <= step]
            write_whole(self.folder / "metrics.jsonl", "".join(kept))

        on_first_host(forget)
        self.checkpoints.set_aside_after(step)


def check_new(folder: Path) -> None:
    """Raises `ValueError` unless a run can be started in `folder`."""
    folder = Path(folder)
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            where = "which" if path == folder else f"where {path}"
            raise ValueError(
                f"run_dir must be a new or empty folder, got {folder}, {where} is a file"
            )
    if folder.exists() and not _holds_no_run(folder):
        raise ValueError(
            f"run_dir must be a new or empty folder, got {folder}, which holds something"
            " already: go on with it by --resume, or name another"
        )


def _holds_no_run(folder: Path) -> bool:
    """Whether a folder is empty but for what a start leaves that ended before its config.json."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".config.json.")}
    return names <= {NAME, "checkpoints"}


def _make_new(folder: Path) -> None:
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _take(folder: Path, stack: contextlib.ExitStack, token: str) -> None:
    """Holds the folder, on the first host; on the others, sees whether it is the same one."""
    lock = folder / NAME
    if is_first_host():
        stack.enter_context(hold(folder, token))
        (folder / "checkpoints").mkdir(exist_ok=True)
    elif not lock.is_file() or token not in lock.read_text(encoding="utf-8"):
        raise ValueError(f"run_dir must be a folder that all hosts share, got {folder}")


def read_about(folder: Path) -> tuple[Config, dict[str, Any], dict[str, Any]]:
    """The config of a run or of an exported model, its images, and all that config.json says.

    Raises:
        ValueError: there is no config.json, or it is not ours.
    """
    path = folder / CONFIG
    if not path.is_file():
        what = "is a file" if folder.exists() else "does not exist"
        what = "has no config.json" if folder.is_dir() else what
        usual = "runs" / folder  # where runs are, unless told
        hint = f"; did you mean {usual}?" if (usual / CONFIG).is_file() else ""
        raise ValueError(f"run must be a folder that glowjax train made; {folder} {what}{hint}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        config, images = from_json(about["config"]), about["images"]
        images = {name: images[name] for name in ("image_shape", "levels", "num_classes")}
        images["image_shape"] = tuple(images["image_shape"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"run {folder}: its config.json is not ours: {reason}") from error
    made_by = about.get("format", 1)
    if made_by != FORMAT:
        raise ValueError(
            f"run {folder} is of format {made_by}, and this glowjax reads format {FORMAT} (in"
            " format 1, parameters had no names): use the version that made it"
        )
    return config, images, about


def about_run(
    config: Config, images: dict[str, Any], class_names: Sequence[str] | None
) -> dict[str, Any]:
    """What config.json says."""
    about = {"format": FORMAT, "config": to_json(config), "images": images}
    return about if class_names is None else about | {"class_names": [*class_names]}


def _rows(lines: list[str]) -> Iterable[dict[str, Any]]:
    for i, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            if i < len(lines) - 1:
                raise ValueError(f"metrics.jsonl: line {i + 1} is not JSON") from None
