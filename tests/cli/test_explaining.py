"""What a plan does to each group: MACs, time, outputs and errors, in tables and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.analyse import analyse
from onnxprune.plan import load_plan
from tests.support.commandline import BYTES, DIGITS, Command

CALIBRATION = DIGITS.with_name("digits_calib.npz")
HALF = ("--max-macs", "50%", "--data", CALIBRATION, "--samples", 64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPRUNE_CACHE_DIR", str(tmp_path / "kept"))


def test_a_dry_run_shows_what_repair_makes_up_for(command: Command, tmp_path: Path) -> None:
    ran = command("prune", DIGITS, "--dry-run", *HALF, "--json")
    assert ran.code == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"kept"}
    rows = ran.json["groups"]
    changed = [row for row in rows if row["kept"] < row["size"]]
    assert changed
    for row in changed:
        assert 0 < row["macs_saved"] < 0.5
        assert 0 <= row["outputs_lost"] < 1
        assert row["error_after"] <= row["error_before"]
        assert "time_saved" not in row
    assert max(row["error_before"] / row["error_after"] for row in changed) > 2
    whole = [row for row in rows if row["kept"] == row["size"]]
    assert all(row["macs_saved"] == 0 and "error_before" not in row for row in whole)


def test_macs_saved_are_those_of_the_group_alone(command: Command) -> None:
    assert (
        command(
            "plan", DIGITS, "-o", "a.prune.json", "--pruning-ratio", "0.5", "--only", "head.0.weight:0", "--json"
        ).code
        == 0
    )
    coupling = analyse(DIGITS)
    ran = command("plan", DIGITS, "-o", "b.prune.json", "--pruning-ratio", "0.5", "--json")
    row = next(row for row in ran.json["groups"] if row["name"].startswith("head"))
    plan = load_plan(Path("a.prune.json"))
    assert plan.after is not None
    assert row["macs_saved"] == pytest.approx(1 - plan.after.macs / coupling.cost().macs, rel=1e-12)


def test_time_is_told_where_it_is_limited(command: Command) -> None:
    ran = command("prune", DIGITS, "--dry-run", "--max-latency", "90%", "--latency-cmd", BYTES, "--json")
    assert ran.code == 0
    changed = [row for row in ran.json["groups"] if row["kept"] < row["size"]]
    assert changed
    assert all(row["time_saved"] < 1 for row in changed)
    assert any(row["time_saved"] > 0 for row in changed)


def test_columns_are_there_once_they_hold_something(command: Command) -> None:
    bare = command("plan", DIGITS, "-o", "a.prune.json", "--max-macs", "50%")
    assert "MACs saved" in bare.out
    assert "outputs lost" not in bare.out
    full = command("prune", DIGITS, "-o", "a.onnx", *HALF, "-v")
    assert full.code == 0
    for title in ("MACs saved", "outputs", "error", "repaired"):
        assert title in full.out
