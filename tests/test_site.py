"""The site: its API has every public name, its links lead to files, and a browser shows it."""

import functools
import html
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
from experiments import grids
from glowjax import codec

DOCS = Path(__file__).parents[1] / "docs"
MKDOCS = importlib.util.find_spec("mkdocs")
QUIET = {"NO_MKDOCS_2_WARNING": "1"}


def load(name):
    """A module of docs/."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = load("pages")


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
    of_rooms = {
        f"{room.__name__}.{name}"
        for room in (glowjax.preprocess, glowjax.surjections, codec)
        for name in room.__all__
    }
    others = {f"glowjax.{module}.{name}" for module, names in site.OTHERS.items() for name in names}
    assert sorted(found) == sorted(of_glowjax | of_rooms | others)


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


def test_links_to_elsewhere_are_addresses(pages):
    links = {
        link
        for page in pages.rglob("*.md")
        for link in re.findall(r"\]\((\w+:[^)]*)\)", page.read_text("utf-8"))
    }
    assert len(links) > 4
    for link in links:
        assert re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[\w.-]+)*/?", link), link


def test_a_link_to_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("[a page](https://example.org) and [a file](page.md#part), [none](none.md)")
    with pytest.raises(ValueError, match=r"page\.md must link to files, got none\.md"):
        list(site.targets(page))


def test_public_names_in_backticks_lead_to_the_api(pages):
    text = (pages / "catalogue.md").read_text("utf-8")
    assert "[`glowjax.Planar`][glowjax.bijections.planar.Planar]" in text
    assert "[`glowjax.preprocess.ordered`][glowjax.preprocess.ordering.ordered]" in text
    assert site.linked("`glowjax.nothing`") == "`glowjax.nothing`"


def test_the_catalogue_has_every_flow_and_every_picture():
    page = (DOCS / "catalogue.md").read_text("utf-8")
    modules = [name for name in site.public_names(["bijections"]) if site.is_class(name)]
    flows = {name for name, _ in [*modules, *site.public_names(["preprocess"])]}
    assert flows <= set(re.findall(r"`([\w.]+)`", page))
    pictures = {path.stem for path in (DOCS / "images" / "grids").glob("*.png")}
    assert pictures == set(grids.maps()) == set(re.findall(r"images/grids/(\w+)\.png", page))


@pytest.fixture(scope="module")
def config(pages):
    """That of the site, for its pages in another folder."""
    config = pages.parent / "mkdocs.yml"
    text = (DOCS / "mkdocs.yml").read_text().replace("../build/pages", str(pages))
    text = text.replace("../build/site", str(pages.parent / "html"))
    text = text.replace("hooks: [mathml.py]", f"hooks: ['{DOCS / 'mathml.py'}']")
    config.write_text(text.replace("paths: [..]", f"paths: ['{site.ROOT}']"))
    return config


@pytest.fixture(scope="module")
def built(config):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file"]
    subprocess.run([*command, str(config)], check=True, env=os.environ | QUIET)
    return config.parent / "html"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; `/wait` is answered, so that a page with it is complete, after `/ready`."""

    ready = threading.Event()

    def do_GET(self):
        if self.path == "/ready":
            self.ready.set()
        if self.path == "/wait":
            self.ready.wait(60)
        super().do_GET()

    def log_message(self, format, *args):
        """Prints nothing."""


@pytest.fixture(scope="module")
def address(built):
    handler = functools.partial(Handler, directory=str(built))
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
@pytest.mark.skipif(MKDOCS is None, reason="the extra docs is not installed")
def test_the_sites_of_versions_stand_side_by_side(config, tmp_path):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def call(*command):
        environment = os.environ | QUIET | {"PATH": programs}
        done = subprocess.run(
            command, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        return done.stdout

    call("git", "init", "--quiet")
    call("git", "config", "user.name", "a")
    call("git", "config", "user.email", "a@example.org")
    call("git", "commit", "--quiet", "--allow-empty", "--message", "The beginning")
    for version in ("1.0.0", "1.1.0"):
        deploy = ("mike", "deploy", "--config-file", str(config), "--update-aliases")
        call(*deploy, version, "latest")
    versions = json.loads(call("git", "show", "gh-pages:versions.json"))
    assert [(v["version"], v["aliases"]) for v in versions] == [
        ("1.1.0", ["latest"]),
        ("1.0.0", []),
    ]
    assert "<math " in call("git", "show", "gh-pages:1.0.0/catalogue/index.html")


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None, reason="the extra docs is not installed")
def test_equations_are_mathml(built):
    page = (built / "catalogue" / "index.html").read_text("utf-8")
    assert page.count("<math ") > 20 and "arithmatex" not in page


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None, reason="the extra docs is not installed")
@pytest.mark.parametrize("name", site.API)
def test_each_entry_of_the_api_shows_its_source(name, pages, built):
    entries = (pages / "api" / f"{name}.md").read_text("utf-8").count("\n::: ")
    page = (built / "api" / name / "index.html").read_text("utf-8")
    assert page.count("Source code in <code>glowjax/") >= entries > 0


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None, reason="the extra docs is not installed")
def test_what_a_function_returns_is_one_entry_however_many_lines_it_has(built):
    pages = [page.read_text("utf-8") for page in (built / "api").glob("*/index.html")]
    returns = re.compile(r"Returns:</span></p>\s*<ul>(.*?)</ul>", re.DOTALL)
    counts = [entry.count("<li") for page in pages for entry in returns.findall(page)]
    assert len(counts) > 20 and set(counts) == {1}


@pytest.mark.skipif(MKDOCS is None, reason="the extra docs is not installed")
def test_an_equation_with_an_unknown_command_is_refused():
    page = r'<span class="arithmatex">\(x + \nonsense\)</span>'
    with pytest.raises(ValueError, match=r"commands that latex2mathml knows, got x \+ \\nonsense"):
        load("mathml").on_page_content(page)


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None or BROWSER is None, reason="there is no Chromium, or no MkDocs")
@pytest.mark.parametrize("width", [1300, 420])
@pytest.mark.parametrize("page", ["", "catalogue/", "flows/", "api/models/", "ten-minutes/"])
def test_a_browser_shows_the_page(page, width, address, tmp_path):
    pixels = shown(f"{address}/{page}", width, 1200, tmp_path)
    for part in np.array_split(pixels, 3):  # something is shown all the way down
        assert np.ptp(part) > 100


SEARCH = """<!doctype html><iframe src="/?q=rational+quadratic"></iframe><img src="/wait"><script>
const links = ".md-search-result__item a";
const found = () => [...document.querySelector("iframe").contentDocument.querySelectorAll(links)];
const timer = setInterval(() => {
  if (found().length) { clearInterval(timer); fetch("/ready"); }
}, 100);
onload = () => { document.body.textContent = found().map((link) => link.href).join(" "); };
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None or BROWSER is None, reason="there is no Chromium, or no MkDocs")
def test_the_search_of_a_browser_finds_a_name_by_its_words(address, built, tmp_path):
    (built / "search.html").write_text(SEARCH)
    page = dumped(f"{address}/search.html", tmp_path)
    assert (
        "/api/bijections/" in page
        and "#glowjax.bijections.scalar.spline.rational_quadratic" in page
    )


FRAMES = """<!doctype html><style>iframe {{ width: 400px; border: 0 }}</style>{frames}<script>
onload = () => {{
  const of = (page) => {expression};
  const found = [...document.querySelectorAll("iframe")].map((frame) => of(frame.contentDocument));
  document.body.textContent = JSON.stringify(found);
}}</script>"""


def on_a_phone(expression, paths, address, built, folder):
    """What an expression of JavaScript gives for each `page`, a document 400 pixels wide."""
    frames = "".join(f'<iframe src="/{path}"></iframe>' for path in paths)
    (built / "frames.html").write_text(FRAMES.format(frames=frames, expression=expression))
    found = re.search(r"<body>(.*)</body>", dumped(f"{address}/frames.html", folder), re.DOTALL)
    assert found
    return json.loads(html.unescape(found[1]))


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None or BROWSER is None, reason="there is no Chromium, or no MkDocs")
def test_no_page_is_wider_than_a_phone(address, built, tmp_path):
    paths = [page.parent.relative_to(built).as_posix() for page in built.rglob("index.html")]
    width = "[page.documentElement.clientWidth, page.documentElement.scrollWidth]"
    (built / "wide.html").write_text("<!doctype html><p style='width: 500px'>Wider.</p>")
    paths.append("wide.html")
    widths = on_a_phone(width, paths, address, built, tmp_path)
    wider = [path for path, (own, all_) in zip(paths, widths, strict=True) if own != all_]
    assert len(paths) > 40 and wider == ["wide.html"]


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None or BROWSER is None, reason="there is no Chromium, or no MkDocs")
def test_the_first_column_of_a_table_leaves_room_for_others_on_a_phone(address, built, tmp_path):
    paths = ["coming-from/", "other-libraries/", "reliability/", "flows/"]
    first = "[...page.querySelectorAll('article tbody')].map((t) => t.rows[0].cells[0].offsetWidth)"
    found = on_a_phone(first, paths, address, built, tmp_path)
    assert all(len(widths) > 3 and max(widths) < 200 for widths in found)


@pytest.mark.slow
@pytest.mark.skipif(MKDOCS is None or BROWSER is None, reason="there is no Chromium, or no MkDocs")
def test_the_flows_are_sorted_by_their_year(address, built, tmp_path):
    sort = """{
      const years = [...page.querySelectorAll("article th")].find((h) => h.textContent == "year");
      const rows = () => [...years.closest("table").tBodies[0].rows];
      const shown = () => rows().map((row) => row.cells[years.cellIndex].textContent);
      const before = shown();
      years.click();
      return [before, shown()];
    }"""
    ((before, after),) = on_a_phone(f"(() => {sort})()", ["flows/"], address, built, tmp_path)
    assert len(after) > 10 and before != after == sorted(before)


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
