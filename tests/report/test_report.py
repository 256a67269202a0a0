"""Reports: what is gathered from a folder, and that the page holds it and nothing from elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from onnxprune.errors import SettingError
from onnxprune.loop.candidate import figures_of
from onnxprune.report.facts import Facts, Width, gather
from onnxprune.report.markdown import to_markdown
from onnxprune.report.tables import tables
from tests.support.extras import needs

ODD = 'a"b</script><b>|\\'


def step(name: str, found: dict[str, Any], code: int = 0) -> dict[str, Any]:
    macs = {when: found[when]["macs"] for when in ("before", "after") if when in found}
    return {
        "name": name, "kind": name.split("-")[-1], "command": ["onnxprune", name, "in put.onnx"], "code": code,
        "seconds": 1.25, "inputs": {}, "outputs": {"model.onnx": "ab12"}, "found": found,
        "bytes": {when: 4 * count for when, count in macs.items()} or None,
    }  # fmt: skip


def pruned(before: int, after: int, groups: list[tuple[int, int]]) -> dict[str, Any]:
    return {
        "before": {"macs": before, "parameters": 100}, "after": {"macs": after, "parameters": 50},
        "groups": [
            {"name": f"g{k}" if k else ODD, "kind": "channels", "size": size, "kept": kept}
            for k, (size, kept) in enumerate(groups)
        ],
    }  # fmt: skip


LATENCY = {
    "provider": "cpu", "threads": 1, "batch": 1, "clock": "cpu", "rounds": 50,
    "dense_ms": {"p50": 2.0, "p90": 2.5, "p99": 3.0}, "pruned_ms": {"p50": 1.0, "p90": 1.1, "p99": 1.2},
    "ratio": {"median": 0.5, "low": 0.49, "high": 0.51},
}  # fmt: skip
VALIDATED = {
    "metric": "top1", "samples": 400, "dense": 0.9, "pruned": 0.895, "passed": True, "broken": [], "data": "d.npz",
    "difference": {"loss": 0.005, "low": -0.01, "high": 0.02, "confidence": 0.95, "method": "m", "is_change": False},
    "latency": LATENCY,
}  # fmt: skip
CURVES = {
    "metric": "top1", "higher_is_better": True, "dense": 0.9,
    "groups": [{"name": ODD, "kind": "channels", "size": 32, "kept": [24, 16], "values": [0.8, 0.5]}],
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of which the last round was taken back."""
    steps = [
        step("01-prune", pruned(1000, 800, [(32, 24), (16, 16)])),
        step("02-sensitivity", CURVES),
        step("03-iterate.1.01-prune", pruned(800, 600, [(24, 20), (16, 8)])),
        step("03-iterate.1.02-validate", VALIDATED),
        step("03-iterate.2.01-prune", pruned(600, 100, [(20, 1), (8, 1)])),
        step("03-iterate.2.02-validate", {**VALIDATED, "pruned": 0.1}, 9),
    ]
    result = {
        "steps": steps, "rolled_back": ["03-iterate.2.01-prune", "03-iterate.2.02-validate"], "failed": None,
        "dense": "/models/net.onnx", "dense_digest": "dd", "recipe_sha256": "rr", "recipe": {"model": ODD},
        "versions": {"onnxprune": "1"}, "machine": {"processor": "P"}, "model_from": "03-iterate.1.01-prune",
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(result))
    return tmp_path


def test_what_was_taken_back_does_not_count(run: Path) -> None:
    facts = gather(run)
    assert facts.figures == {"macs": (1000, 600), "parameters": (100, 50), "bytes": (4000, 2400)}
    assert facts.shares == {"latency": 0.5, "macs": 0.6, "parameters": 0.5, "bytes": 0.6}
    assert facts.widths == [Width(ODD, "channels", 32, 20), Width("g1", "channels", 16, 8)]
    assert facts.verdict is not None
    assert facts.verdict["pruned"] == 0.895
    assert [s["name"] for s in facts.steps][-1] == "03-iterate.2.02-validate"


def test_headline(run: Path) -> None:
    headline, steps, *_ = tables(gather(run))
    assert headline.rows == (
        ("top1", "0.9", "0.895", "worse by 0.005 (-0.01 to 0.02)"),
        ("latency, p50", "2.000 ms", "1.000 ms", "50.0% left (49.0% to 51.0%)"),
        ("macs", "1.00 k", "600", "60.0% left"),
        ("parameters", "100", "50", "50.0% left"),
        ("bytes", "4.00 k", "2.40 k", "60.0% left"),
    )
    assert "these samples show no change" in headline.note
    assert steps.rows[-1][1] == "a limit is broken, taken back"
    assert steps.rows[0][3] == "onnxprune 01-prune 'in put.onnx'"


class Page(HTMLParser):
    """Tags with their attributes, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and self.lasttag in ("td", "th"):
            self.cells[-1] += data.strip()


def test_the_page(run: Path) -> None:
    needs("jinja2", "plotly")
    from onnxprune.report.html import to_html

    facts = gather(run)
    facts.refusals = [{"op": "Conv", "why": ODD, "help": "", "axes": 3, "example": "w:0 (by n)"}]
    text = to_html(facts)
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2  # no name ends one or begins another
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    assert "@import" not in text.split("<script>")[0]
    assert [attrs["aria-label"] for _, attrs in page.tags if attrs.get("class") == "plot"] == [
        "Widths before and after", "Sensitivity", "Latency",
    ]  # fmt: skip
    assert {ODD, "worse by 0.005 (-0.01 to 0.02)", "rr", "P", "ab12"} <= set(page.cells)
    data = re.search(r"Object\.entries\((\{.*\})\)\) \{$", text, re.M)
    assert data is not None
    figures = json.loads(data[1])
    assert figures["plot0"]["data"][1]["x"] == [8, 20]
    assert figures["plot1"]["data"][0]["y"] == [0.9, 0.8, 0.5]


def test_training(run: Path) -> None:
    needs("plotly")
    from onnxprune.report.plots import plots

    found = json.loads((run / "result.json").read_text())
    history = [{"epoch": 0, "metric": 0.5}, {"epoch": 1, "metric": 0.75, "loss": 0.1}]
    found["steps"].insert(2, step("03-recover", {"history": history}))
    (run / "result.json").write_text(json.dumps(found))
    (curve,) = plots(gather(run))["Training"]["data"]
    assert (curve["name"], curve["x"], curve["y"]) == ("03-recover", [0, 1], [0.5, 0.75])


def test_a_page_of_300_groups_is_small(run: Path) -> None:
    needs("jinja2", "plotly")
    from onnxprune.report.html import to_html

    facts = gather(run)
    names = [f"backbone.stages.{k}.blocks.{k}.attention.projection.weight:0" for k in range(300)]
    facts.widths = [Width(name, "channels", 512, 256) for name in names]
    facts.sensitivity = {
        **CURVES,
        "groups": [
            {"name": n, "kind": "channels", "size": 512, "kept": [384, 256, 128], "values": [0.9, 0.8, 0.7]}
            for n in names
        ],
    }
    assert len(to_html(facts).encode()) < 6_000_000


def test_markdown(run: Path) -> None:
    facts = gather(run)
    facts.refusals = [{"op": "Conv", "why": ODD, "help": "", "axes": 3, "example": "w:0 (by n)"}]
    text = to_markdown(facts)
    assert "| latency, p50 | 2.000 ms | 1.000 ms | 50.0% left (49.0% to 51.0%) |" in text
    assert '| 3 | Conv | a"b&lt;/script>&lt;b>\\|\\\\ | w:0 (by n) |  |' in text


def test_as_data(run: Path) -> None:
    found = json.loads(json.dumps(gather(run).as_dict()))
    assert found["schema"] == 1
    assert found["figures"]["macs"] == [1000, 600]


def test_a_search(run: Path) -> None:
    needs("plotly")
    from onnxprune.report.plots import plots

    trial = {"values": {"a.b": "1"}, "folder": str(run), "code": 0, "loss": 0.1, "shares": {"macs": 0.5}, "error": None}
    failed = {**trial, "code": 1, "loss": None, "shares": None, "error": "gone"}
    search = {"minimise": "macs", "trials": [trial, failed], "front": [trial], "best": trial}
    (run / "search.json").write_text(json.dumps(search))
    facts = gather(run)
    assert plots(facts)["Candidates"]["data"][0]["x"] == [50.0]
    (run / "search.json").write_text(json.dumps({**search, "best": None}))
    with pytest.raises(SettingError, match="no candidate of this search passed"):
        gather(run)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"no folder of a run that ended: it has no result\.json"):
        gather(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(SettingError, match="cannot be read"):
        gather(tmp_path)


def test_nothing_was_measured() -> None:
    provenance = dict.fromkeys(("dense", "dense_digest", "recipe_sha256", "folder", "model_from"), "")
    headline, others = tables(Facts("net", provenance={**provenance, "versions": {}, "machine": {}}))
    assert headline.rows == ()
    assert others.title == "Provenance"
    assert figures_of([]) == (None, None, {})
