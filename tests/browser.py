"""Chromium without a window: what it shows of a page."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync", "--no-first-run"]


def shown(address: str, width: int, height: int, folder: Path) -> np.ndarray:
    """The page in grey levels, `[height, width]`; the browser leaves its files in a folder."""
    picture = folder / "page.png"
    _chromium(address, folder, f"--window-size={width},{height}", f"--screenshot={picture}")
    with Image.open(picture) as page:
        return np.asarray(page.convert("L"))


def dumped(address: str, folder: Path) -> str:
    """The page as HTML, after its scripts; the browser leaves its files in a folder."""
    return _chromium(address, folder, "--dump-dom")


def _chromium(address, folder, *options):
    command = [str(BROWSER), *OPTIONS, f"--user-data-dir={folder / 'profile'}", *options, address]
    return subprocess.run(command, check=True, capture_output=True, timeout=120, text=True).stdout
