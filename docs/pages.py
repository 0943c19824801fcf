"""Writes the pages of the site: `python docs/pages.py FOLDER`, which `make docs` calls.

They are those of this folder and of tutorials/, with script and style, an API of all public names,
and what the pages link to elsewhere in the repository, which the site has under `repository/`. A
name such as `glowjax.maf`, in backticks, becomes a link to the API.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import glowjax
from glowjax import codec

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "experiments/RESULTS.md")  # from other folders
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")  # where a link of Markdown leads
NAME = re.compile(r"(?<!\[)`(glowjax\.[\w.]+)`")  # in no link yet

# Page of the API -> its title, and the modules and packages whose public names it has.
API = {
    "flows": (
        "Flows and how they are combined",
        ["flow", "compose", "loops", "context", "expression"],
    ),
    "bijections": ("Bijections", ["bijections", "arrays"]),
    "models": ("Models", ["models"]),
    "nets": ("Nets", ["nets"]),
    "preprocess": ("Preprocess", ["preprocess"]),
    "densities": ("Densities and objectives", ["densities"]),
    "surjections": ("Surjections", ["surjections", "densities.surjection"]),
    "targets": (
        "Targets and toy data",
        ["densities.targets", "densities.lennard_jones", "densities.toy"],
    ),
    "fitting": ("Fit", ["fitting"]),
    "trained-models": ("Trained models", ["runs"]),
    "codec": ("Compression", ["codec"]),
    "interop": ("Other libraries", ["interop"]),
    "tools": ("Testing and timing", ["testing", "timing"]),
}
# Module, as people write it -> public names that are in it, and not in `glowjax`.
OTHERS = {
    "targets": [
        "energy",
        "two_modes",
        "circular_gaussians",
        "ring_mixture",
        "banana",
        "funnel",
        "grid_kl",
        "grid_log_normalizer",
    ],
    "toy": [
        "two_moons",
        "eight_gaussians",
        "rings",
        "pinwheel",
        "spirals",
        "checkerboard",
        "swiss_roll",
    ],
    "interop.distrax": ["to_distrax", "from_distrax", "FlowBijector"],
    "interop.numpyro": ["FlowDistribution", "FlowTransform", "AutoFlow"],
    "interop.nflows": ["from_nflows"],
    "interop.normflows": ["from_normflows"],
    "interop.flowjax": ["from_flowjax"],
    "interop.torch_glow": ["from_torch_glow"],
    "testing": ["check_flow"],
}


def write(folder: Path) -> None:
    """Writes all pages into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = [*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.md"), *(ROOT / page for page in PAGES)]
    linked = {path for page in pages for path in targets(page)} - set(pages)
    for path in pages:
        save(folder / place(path), on_site(path).encode())
    for path in linked | {*DOCS.glob("*.js"), *DOCS.glob("*.css")}:
        save(folder / place(path), path.read_bytes())
    for name, (title, modules) in API.items():
        save(folder / "api" / f"{name}.md", api_page(title, modules).encode())


def save(path: Path, content: bytes) -> None:
    """Writes a file, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def place(path: Path) -> Path:
    """Where a file of the repository is on the site."""
    inside = path.is_relative_to(DOCS)
    return path.relative_to(DOCS) if inside else "repository" / path.relative_to(ROOT)


def targets(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to.

    Raises:
        ValueError: there is no such file.
    """
    for link in LINK.findall(page.read_text("utf-8")):
        path = (page.parent / link).resolve()
        if not path.is_file():
            raise ValueError(f"{page.relative_to(ROOT)} must link to files, got {link}")
        yield path


def on_site(page: Path) -> str:
    """A page with links to where files are on the site, and from public names to the API."""

    def moved(link: re.Match) -> str:
        target = place((page.parent / link[1]).resolve())
        return Path(os.path.relpath(target, place(page).parent)).as_posix()

    return linked(LINK.sub(moved, page.read_text("utf-8")))


def linked(text: str) -> str:
    """Markdown in which public names, such as `glowjax.maf`, lead to the API."""
    api = dict(public_names([module for _, modules in API.values() for module in modules]))
    return NAME.sub(lambda n: f"[{n[0]}][{api[n[1]]}]" if n[1] in api else n[0], text)


def api_page(title: str, modules: list[str]) -> str:
    """A page of the API, from which mkdocstrings takes signatures and docstrings."""
    parts = [f"# {title}"]
    for name, path in sorted(public_names(modules), key=is_class):  # functions first
        options = f"heading: {name}, toc_label: {name.rpartition('.')[2]}"
        parts.append(f"::: {path}\n    options: {{{options}}}")
    return "\n\n".join(parts) + "\n"


def is_class(name_and_path: tuple[str, str]) -> bool:
    """Whether a name is that of a class."""
    return name_and_path[0].rpartition(".")[2][0].isupper()


def public_names(modules: list[str]) -> Iterator[tuple[str, str]]:
    """The public names of modules and packages, as people write them, and where they are."""
    for package in (glowjax, glowjax.preprocess, glowjax.surjections, codec):
        for name in package.__all__:
            found = getattr(package, name)
            where = getattr(found, "__module__", "glowjax.").removeprefix("glowjax.")
            if belongs(where, modules):
                yield f"{package.__name__}.{name}", f"glowjax.{where}.{found.__qualname__}"
    for module, names in OTHERS.items():
        found = getattr(glowjax, module, None)  # `glowjax.toy` is `glowjax.densities.toy`
        where = found.__name__.removeprefix("glowjax.") if found else module
        if belongs(where, modules):
            for name in names:
                yield f"glowjax.{module}.{name}", f"glowjax.{where}.{name}"


def belongs(where: str, modules: list[str]) -> bool:
    """Whether the page of `modules` has the names of a module: the page that names it closest."""
    closest = max(
        (m for _, others in API.values() for m in others if f"{where}.".startswith(f"{m}.")),
        key=len,
        default=None,
    )
    return closest in modules


if __name__ == "__main__":
    write(Path(sys.argv[1]))
