"""How big a report is, and how long a headless browser takes until all of it is drawn.

    python tools/bench_report.py --groups 300

The report has that many groups, each with its width and its sensitivity curve, and as many layers with zeros and
latency. Milliseconds are the page's own, from the start of its loading to the last plot, by the clock on the wall: the
median of some openings, each in a fresh profile. Needs Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from onnxprune.report.html import to_html

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests are no installed package

from tests.support.reports import drawn

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def opened(browser: str, page: Path) -> tuple[float, float]:
    """Seconds until the page was drawn, by itself, and of the browser's whole process."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"]
        done = subprocess.run([*command, page.as_uri()], capture_output=True, encoding="utf-8", check=True)
    ready = re.search(r'data-ready="(\d+)"', done.stdout)
    if ready is None:
        raise SystemExit("the page was not drawn to its end")
    return int(ready[1]) / 1000, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"no browser: install one of {', '.join(BROWSERS)}")
    names = [f"backbone.stages.{k}.blocks.{k}.attention.projection.weight:0" for k in range(given.groups)]
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "report.html"
        page.write_text(to_html(drawn(names, 512, range(448, 0, -64))), encoding="utf-8")
        times = [opened(browser, page) for _ in range(given.rounds)]
        ready, whole = (statistics.median(side) for side in zip(*times, strict=True))
        size = page.stat().st_size / 1e6
    print(f"{given.groups} groups: {size:.2f} MB; drawn after {ready:.2f} s; the browser's process took {whole:.2f} s")


if __name__ == "__main__":
    main()
