"""`report`: files by their endings, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commandline import DIGITS, Command
from tests.support.extras import needs

needs("yaml", "filelock", "pydantic", "jinja2", "plotly")


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(
        f"model: {DIGITS}\nsteps:\n- prune: {{max-macs: 90%, no-verify: true}}\n"
        f"- validate: {{data: {DIGITS.with_name('digits_test.npz')}, samples: 50, latency: true, rounds: 5}}\n"
    )
    assert command("run", "r.yaml").code == 0
    return tmp_path / "r.run"


def test_files_by_their_endings(command: Command, run: Path) -> None:
    assert command("report", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "an output of the model" in page
    assert "Widths before and after" in page
    assert command("report", run, "-o", "r.md").code == 0
    assert "| top1 | " in Path("r.md").read_text()
    ran = command("report", run, "-o", "r.json", "--json")
    assert ran.json["verdict"]["samples"] == 50
    assert json.loads(Path("r.json").read_text())["refusals"] == ran.json["refusals"] != []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("r.run", "-o", "r.pdf"), 2, "unknown kind of file. give one of .html, .md, .json"),
        (("nowhere",), 2, "no folder of a run that ended"),
        (("r.run", "-o", "r.run/result.json"), 6, "is the run's own file"),
        (("r.run", "-o", "nowhere/r.html"), 6, "cannot write nowhere/r.html"),
    ],
)
def test_bad_settings(command: Command, run: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    before = (run / "result.json").read_bytes()
    ran = command("report", *arguments)
    assert (ran.code, ran.err.count("\n")) == (code, 1)
    assert said in ran.err
    assert (run / "result.json").read_bytes() == before
