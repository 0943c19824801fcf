"""glowjax report: one page on a run, in one file."""

import base64
import contextlib
import html
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from glowjax import plots
from glowjax.commands.latents import LOOKED_AT, between_pairs, paired, with_levels_redrawn
from glowjax.commands.options import Weights, check_file, parse
from glowjax.commands.score import bits_of
from glowjax.files import write_whole
from glowjax.runs.config import flat, to_json
from glowjax.runs.exported import is_exported
from glowjax.runs.folder import Run
from glowjax.runs.given import read_split
from glowjax.runs.models import Glow
from glowjax.runs.pictures import draw
from glowjax.runs.results import kept_results
from glowjax.runs.trained import ImageModel

PAIRS = 6  # of test images, between which ways are drawn
PACKAGES = ("glowjax", "jax", "jaxlib", "flax", "optax", "numpy")

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }}
h1, h2 {{ line-height: 1.2; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .3rem; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; image-rendering: pixelated; }}
img.drawn {{ image-rendering: auto; }}
figcaption {{ color: #666; font-size: .9rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid #eee; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(frozen=True, kw_only=True)
class Report(Weights):
    """Write one HTML page on a run: figures, curves, samples, likelihoods, config, environment.

    All pictures are inside the file.
    """

    out: Path | None = None
    """The page; default: report.html in the run's folder."""
    num: int = 500
    """Test images whose likelihoods are shown."""


def report(arguments: list[str]) -> None:
    """Writes the page."""
    options = parse(Report, "report", arguments)
    out = options.path(options.out, "report.html")
    check_file(out)
    model, params = options.load()
    history = _history(options.run)
    with tempfile.TemporaryDirectory() as folder:
        body = _body(options, model, params, history, Path(folder))
    write_whole(out, PAGE.format(title=html.escape(f"Run {options.run.name}"), body=body))
    print(out)


def _interpolated(model: ImageModel, params: Any, file: Path) -> list[str]:
    """Ways between test images, unless there are no two of them."""
    given = paired(model, read_split(model, "test", num=LOOKED_AT * PAIRS), PAIRS)
    if given is None:
        return []
    rows = between_pairs(model, params, given, steps=9)
    plots.image_grid(rows.reshape(-1, *rows.shape[2:]), columns=9).save(file)
    return [_picture(file, "From one test image to another.")]


def _body(options: Report, model: ImageModel, params: Any, history, folder: Path) -> str:
    """The sections of the page."""
    images = draw(model, params, 64)
    given = read_split(model, "test", num=12)
    plots.image_grid(images).save(folder / "samples.png")
    _likelihoods(model, params, options.num, folder / "likelihoods.png")
    sections = [
        "<h2>Figures</h2>",
        _figures(kept_results(options.run)),
        *_training(history, folder / "curves.png"),
        "<h2>Samples</h2>",
        _picture(folder / "samples.png", "Drawn from the model at temperature 0.7."),
        "<h2>Likelihoods</h2>",
        _picture(folder / "likelihoods.png", "Bits per dimension of single images.", drawn=True),
        "<h2>Latents</h2>",
        *_interpolated(model, params, folder / "interpolated.png"),
    ]
    if isinstance(model.config.model, Glow):
        rows = with_levels_redrawn(model, params, given, jax.random.key(0))
        plots.image_rows(folder / "levels.png", rows)
        sections.append(_picture(folder / "levels.png", "Levels drawn anew, one more a row."))
    sections += ["<h2>Config</h2>", _table(flat(to_json(model.config)).items())]
    return "\n".join([*sections, "<h2>Environment</h2>", _table(_environment().items())])


def _history(folder: Path) -> list[dict[str, Any]]:
    """The log of a run; an exported model has none."""
    if is_exported(folder.expanduser()):
        return []
    with contextlib.closing(Run.open(folder, read_only=True)) as run:
        return run.history()


def _training(history: list[dict[str, Any]], path: Path) -> list[str]:
    if not history:
        return []
    plots.curves(path, history)
    caption = "Bits per dimension over training."
    return ["<h2>Training</h2>", _picture(path, caption, drawn=True)]


def _likelihoods(model: ImageModel, params: Any, num: int, path: Path) -> None:
    """Draws bits/dim of training and test images."""
    sets = {}
    for split in ("train", "test"):
        given = read_split(model, split, num=num)
        sets[f"{split} images"] = bits_of(model, params, given, 1)
    plots.histograms(path, {"bits/dim": sets}, bins=40)


def _figures(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "<p>It has not been evaluated.</p>"
    rows = [
        (
            r["split"],
            f"{r['bits_per_dim']:.4f} ± {r['standard_error']:.4f}",
            f"{r['count']:,}",
            f"{r['step']:,}",
            r["weights"],
        )
        for r in results
    ]
    return _table(rows, head=("split", "bits/dim", "images", "step", "weights"))


def _environment() -> dict[str, str]:
    device = jax.devices()[0].device_kind
    found = {"device": f"{jax.device_count()} × {device}", "Python": platform.python_version()}
    return found | {package: version(package) for package in PACKAGES}


def _picture(path: Path, caption: str, *, drawn: bool = False) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    kind, caption = ' class="drawn"' if drawn else "", html.escape(caption)
    image = f'<img{kind} alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _table(rows, head: Sequence[str] = ()) -> str:
    def line(cells, tag):
        inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inside}</tr>"

    lines = [line(head, "th")] if head else []
    return "<table>\n" + "\n".join([*lines, *(line(row, "td") for row in rows)]) + "\n</table>"
