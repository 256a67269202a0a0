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
from onnxprune.report.facts import Facts, Width
from onnxprune.report.html import to_html
from onnxprune.report.overview import overview
from tests.support.commandline import DIGITS
from tests.support.extras import needs

needs("jinja2", "plotly", "PIL")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome, which is not installed here")
PHONE, DESK = (500, 900), (1200, 900)  # the least width that headless Chromium has is 500
PROBE = """<script>document.documentElement.dataset.wide = document.documentElement.scrollWidth - innerWidth;
document.documentElement.dataset.asked = performance.getEntriesByType("resource").length;</script></body>"""


def facts() -> Facts:
    """A run with everything that is drawn."""
    names = [f"stage.{k}.a.long.name.of.a.weight:0" for k in range(20)]
    provenance = dict.fromkeys(("dense", "dense_digest", "recipe_sha256", "folder", "model_from"), "x")
    timed = {"p50": 2.0, "p90": 2.5, "p99": 3.0}
    return Facts(
        "net.onnx",
        latency={
            "provider": "cpu", "threads": 1, "batch": 1, "rounds": 9, "dense_ms": timed, "pruned_ms": timed,
            "ratio": {"median": 0.5, "low": 0.4, "high": 0.6},
            "layers": [{"name": name, "op": "Conv", "dense_ms": 1.0, "pruned_ms": 0.5} for name in names],
        },
        widths=[Width(name, "channels", 64, 32) for name in names],
        zeros=[{"name": name, "shape": [8, 4], "share": 0.5, "parts": [0.0, 1.0] * 4} for name in names],
        training=[{"name": "recover", "history": [{"epoch": 0, "metric": 0.5}, {"epoch": 1, "metric": 0.75}]}],
        sensitivity={
            "metric": "top1", "higher_is_better": True, "dense": 0.9,
            "groups": [{"name": n, "size": 64, "kept": [48, 32], "values": [0.8, 0.5]} for n in names],
        },
        provenance={**provenance, "versions": {}, "machine": {}},
    )  # fmt: skip


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
    said, pixels = shown(to_html(facts()), tmp_path, size)
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
