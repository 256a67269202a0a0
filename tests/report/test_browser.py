"""The pages in a real browser: drawn, wide as a phone, no request, and what they look like."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.report.html import to_html
from onnxprune.report.overview import overview
from tests.support.commandline import DIGITS
from tests.support.extras import needs
from tests.support.reports import drawn

needs("jinja2", "plotly", "PIL")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome, which is not installed here")
PHONE, DESK = (500, 900), (1200, 900)  # the least width that headless Chromium has is 500
PROBE = """<script>document.documentElement.dataset.wide = document.documentElement.scrollWidth - innerWidth;
document.documentElement.dataset.asked = performance.getEntriesByType("resource").length;</script></body>"""


def shown(page: str, folder: Path, size: tuple[int, int]) -> tuple[dict[str, str], np.ndarray]:
    """What the page says of itself once it is drawn, and its pixels (uint8 [height, width, 3])."""
    from PIL import Image

    (folder / "page.html").write_text(page.replace("</body>", PROBE), encoding="utf-8")
    common = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}",
        f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=20000",
    ]  # fmt: skip
    done = subprocess.run(
        [*common, "--dump-dom", f"--screenshot={folder / 'page.png'}", (folder / "page.html").as_uri()],
        capture_output=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    head = re.search(r"<html[^>]*>", done.stdout)
    assert head is not None
    with Image.open(io.BytesIO((folder / "page.png").read_bytes())) as image:
        return dict(re.findall(r'data-(\w+)="([^"]*)"', head[0])), np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_report(tmp_path: Path, size: tuple[int, int]) -> None:
    said, pixels = shown(
        to_html(drawn([f"stage.{k}.a.long.name.of.a.weight:0" for k in range(20)], 64, [48, 32])), tmp_path, size
    )
    assert "ready" in said  # every plot was drawn
    assert int(said["wide"]) <= 0  # nothing to scroll sideways but tables
    assert said["asked"] == "0"
    assert pixels.shape[:2] == size[::-1]
    blue = np.abs(pixels.astype(int) - [0x00, 0x72, 0xB2]).sum(axis=2) < 30
    assert blue.sum() > 500  # the bars of what is left


def test_an_overview(tmp_path: Path) -> None:
    said, pixels = shown(overview(onnxprune.analyse(DIGITS), "digits.onnx"), tmp_path, PHONE)
    assert "ready" in said
    assert int(said["wide"]) <= 0
    assert said["asked"] == "0"
    orange = np.abs(pixels.astype(int) - [0xE6, 0x9F, 0x00]).sum(axis=2) < 30
    assert orange.sum() > 100  # the first group's number
