"""The site: its API has every public name, its links lead to files, and a browser shows it."""

import functools
import http.server
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from browser import BROWSER, dumped, shown

import glowjax
from glowjax import codec

DOCS = Path(__file__).parents[1] / "docs"
MKDOCS = importlib.util.find_spec("mkdocs")


def load_site():
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = load_site()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    site.write(folder)
    return folder


def test_the_api_has_every_public_name_once(pages):
    headings = re.compile(r"heading: ([\w.]+)")
    found = [n for p in (pages / "api").glob("*.md") for n in headings.findall(p.read_text())]
    of_glowjax = {
        f"glowjax.{name}"
        for name in glowjax.__all__
        if not inspect.ismodule(getattr(glowjax, name))
    }
    of_preprocess = {f"glowjax.preprocess.{name}" for name in glowjax.preprocess.__all__}
    of_codec = {f"glowjax.codec.{name}" for name in codec.__all__}
    others = {f"glowjax.{module}.{name}" for module, names in site.OTHERS.items() for name in names}
    assert sorted(found) == sorted(of_glowjax | of_preprocess | of_codec | others)


def test_names_are_where_the_api_takes_them_from(pages):
    for page in (pages / "api").glob("*.md"):
        for path in re.findall(r"^::: ([\w.]+)", page.read_text(), re.MULTILINE):
            *_, name = path.split(".")
            source = site.ROOT / (path.removesuffix(f".{name}").replace(".", "/") + ".py")
            assert re.search(rf"^(def|class) {name}\b", source.read_text("utf-8"), re.MULTILINE)


def test_every_page_is_in_the_navigation(pages):
    config = (DOCS / "mkdocs.yml").read_text()
    written = {p.relative_to(pages).as_posix() for p in pages.rglob("*.md")}
    assert set(re.findall(r"[\w/-]+\.md", config)) == written


def test_links_lead_to_files_of_the_site(pages):
    links = 0
    for page in (*pages.glob("*.md"), *pages.glob("tutorials/*.md")):
        for link in site.LINK.findall(page.read_text("utf-8")):
            assert (page.parent / link).resolve().is_relative_to(pages)
            assert (page.parent / link).is_file(), (page.name, link)
            links += 1
    assert links > 100


def test_a_link_to_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("[a page](https://example.org) and [a file](page.md#part), [none](none.md)")
    with pytest.raises(ValueError, match=r"page\.md must link to files, got none\.md"):
        list(site.targets(page))


@pytest.fixture(scope="module")
def built(pages):
    config = pages.parent / "mkdocs.yml"
    text = (DOCS / "mkdocs.yml").read_text().replace("../build/pages", str(pages))
    text = text.replace("../build/site", str(pages.parent / "html"))
    config.write_text(text.replace("paths: [..]", f"paths: ['{site.ROOT}']"))
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([*command, str(config)], check=True, env=quiet)
    return pages.parent / "html"


@pytest.fixture(scope="module")
def address(built):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None, reason="the extra docs is not installed")
def test_the_search_finds_names_and_pages(built):
    index = json.loads((built / "search" / "search_index.json").read_text())
    titles = {entry["title"] for entry in index["docs"]}
    assert {"glowjax.glow", "glowjax.preprocess.columns", "Ten minutes"} <= titles


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None or BROWSER is None, reason="there is no Chromium, or no MkDocs")
@pytest.mark.parametrize("width", [1300, 420])
@pytest.mark.parametrize("page", ["", "flows/", "api/models/", "ten-minutes/"])
def test_a_browser_shows_the_page(page, width, address, tmp_path):
    pixels = shown(f"{address}/{page}", width, 1200, tmp_path)
    for part in np.array_split(pixels, 3):  # something is shown all the way down
        assert np.ptp(part) > 100


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize(("clicks", "order"), [(1, "2 10 a"), (2, "a 10 2")])
def test_a_click_on_a_heading_sorts_the_table(clicks, order, tmp_path):
    rows = "".join(f"<tr><td>{name}</td></tr>" for name in ("10", "a", "2"))
    script = (DOCS / "sort-tables.js").read_text()
    (tmp_path / "page.html").write_text(
        f"<article><table><thead><tr><th>n</th></tr></thead><tbody>{rows}</tbody></table></article>"
        f"<script>const document$ = {{subscribe: (f) => f()}}; {script};"
        f"for (let i = 0; i < {clicks}; i++) document.querySelector('th').click()</script>"
    )
    page = dumped((tmp_path / "page.html").as_uri(), tmp_path)
    assert " ".join(re.findall(r"<td>(\w+)</td>", page)) == order
