"""The page on a run: whole in one file, and what a browser makes of it."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import BROWSER, shown
from PIL import Image

from glowjax.cli import main
from glowjax.runs import training

pytestmark = [pytest.mark.slow, pytest.mark.float32, pytest.mark.xdist_group("runs")]


@pytest.fixture(scope="module")
def page(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "a <run>"
    training.train(config, folder)
    assert main(["report", str(folder), "--num", "20"]) == 0
    return folder / "report.html"


class Tags(HTMLParser):
    """Raises `AssertionError` where tags are not closed in order; keeps what pictures hold."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole(page):
    text = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert "a &lt;run&gt;" in text and "http" not in text
    assert re.search(r"<td>test</td><td>\d\.\d{4} ± 0\.\d{4}</td><td>247</td>", text)
    assert "<td>model.width</td><td>4</td>" in text
    assert len(tags.sources) >= 4
    for source in tags.sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert np.ptp(np.asarray(picture.convert("L"))) > 50


def test_an_exported_model_has_a_page_without_training(page, tmp_path):
    out = tmp_path / "exported"
    assert main(["export", str(page.parent), "--no-programs", "--out", str(out)]) == 0
    assert main(["report", str(out), "--num", "20"]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>Training</h2>" in page.read_text(encoding="utf-8")
    assert "<h2>Training</h2>" not in text and "<h2>Samples</h2>" in text
    assert "<p>It has not been evaluated.</p>" in text


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_a_browser_shows_it(page, tmp_path):
    pixels = shown(page.as_uri(), 900, 2400, tmp_path)
    assert pixels.shape == (2400, 900)
    for part in np.array_split(pixels, 4):  # something is shown all the way down
        assert np.ptp(part) > 100
