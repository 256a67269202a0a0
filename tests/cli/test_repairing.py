"""Repair and the measured ranking from the command line, on the trained sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from onnxprune.plan import load_plan
from tests.support.commandline import DIGITS, Command

CALIBRATION, TEST = DIGITS.with_name("digits_calib.npz"), DIGITS.with_name("digits_test.npz")
HALF = ("--max-macs", "50%")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPRUNE_CACHE_DIR", str(tmp_path / "kept"))


def accuracy(path: Path) -> float:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with np.load(TEST) as data:
        (logits,) = session.run(["logits"], {"image": data["image"]})
        return float((logits.argmax(axis=1) == data["labels"]).mean())


def test_half_the_macs_at_next_to_no_cost(command: Command, tmp_path: Path) -> None:
    ran = command("prune", DIGITS, "-o", "small.onnx", *HALF, "--data", CALIBRATION)
    assert (ran.code, ran.err) == (0, "")
    assert "re-fitted" in ran.out
    assert "on samples held back" in ran.out
    settings = json.loads((tmp_path / "small.prune.json").read_text())["settings"]
    assert (settings["criterion"], settings["ranking"], settings["losses"]) == ("obs", "efficient", "measured")
    found = load_plan(tmp_path / "small.prune.json")
    assert found.after.macs <= 0.5 * found.before.macs
    assert accuracy(tmp_path / "small.onnx") >= 0.98
    assert command("prune", DIGITS, "-o", "bare.onnx", *HALF).code == 0
    assert accuracy(tmp_path / "bare.onnx") < 0.7


def test_repair_may_be_left_out(command: Command, tmp_path: Path) -> None:
    options = (*HALF, "--criterion", "l2", "--data", CALIBRATION, "--samples", 128)
    with_it = command("prune", DIGITS, "-o", "a.onnx", *options, "--json")
    without = command("prune", DIGITS, "-o", "b.onnx", *options, "--no-repair", "--json")
    assert (with_it.code, without.code) == (0, 0)
    rows = with_it.json["repair"]
    assert {*rows[0]} == {"layer", "changed", "error_before", "error_after"}
    assert any(row["changed"] for row in rows)
    assert all(row["error_after"] <= row["error_before"] for row in rows)
    assert "repair" not in without.json
    assert (tmp_path / "a.prune.json").read_bytes() == (tmp_path / "b.prune.json").read_bytes()
    assert accuracy(tmp_path / "a.onnx") > accuracy(tmp_path / "b.onnx") + 0.2
    table = command("prune", DIGITS, "-o", "c.onnx", *options, "-v")
    assert "Re-fitted layers" in table.out
    assert (tmp_path / "c.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()


def test_layers_are_fitted_together_unless_that_is_left_out(command: Command, tmp_path: Path) -> None:
    options = (*HALF, "--criterion", "l2", "--data", CALIBRATION, "--samples", 128)
    both = command("prune", DIGITS, "-o", "a.onnx", *options, "--json")
    alone = command("prune", DIGITS, "-o", "b.onnx", *options, "--no-together", "--json")
    assert (both.code, alone.code) == (0, 0)
    assert alone.json["fitted_together"] == []
    *before, last = alone.json["repair"]
    *same, again = both.json["repair"]
    assert same == before
    assert again["error_before"] == last["error_before"]
    assert again["error_after"] < last["error_after"]  # behind all sections, fitted to what they give in the end
    assert any(row["changed"] and row["error_after"] < row["error_before"] for row in both.json["fitted_together"])
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "b.onnx").read_bytes()
    said = command("prune", DIGITS, "-o", "c.onnx", *options, "-v").out
    assert "fitted layers together, up to " in said
    assert "Fitted together" in said


def test_a_plan_is_made_by_the_same_rules(command: Command, tmp_path: Path) -> None:
    options = (*HALF, "--data", CALIBRATION, "--samples", 64)
    assert command("plan", DIGITS, "-o", "plan.prune.json", *options).code == 0
    settings = json.loads((tmp_path / "plan.prune.json").read_text())["settings"]
    assert (settings["criterion"], settings["losses"]) == ("obs", "measured")
    ran = command("plan", DIGITS, "-o", "other.prune.json", *options, "--ranking", "local")
    assert ran.code == 0
    settings = json.loads((tmp_path / "other.prune.json").read_text())["settings"]
    assert (settings["criterion"], settings["ranking"], "losses" in settings) == ("obs", "local", False)


def test_balanced_choice_is_not_measured_by_default(command: Command, tmp_path: Path) -> None:
    options = ("--max-macs", "80%", "--data", CALIBRATION, "--samples", 32, "--balanced", "-o", "b.prune.json")
    assert command("plan", DIGITS, *options).code == 0
    assert json.loads((tmp_path / "b.prune.json").read_text())["settings"]["ranking"] == "local"


def test_an_empty_plan_is_not_repaired(command: Command) -> None:
    ran = command("prune", DIGITS, "-o", "a.onnx", "--pruning-ratio", 0, "--data", CALIBRATION, "--json")
    assert ran.code == 0
    assert "repair" not in ran.json


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*HALF, "--repair"), "--repair needs samples to fit to. give --data"),
        ((*HALF, "--ranking", "measured"), "--ranking measured runs the model on samples. give --data"),
        (
            ("--pruning-ratio", "0.5", "--ranking", "measured", "--data", CALIBRATION),
            "--ranking measured spends a limit, and there is none",
        ),
        (
            (*HALF, "--ranking", "measured", "--balanced", "--data", CALIBRATION),
            "--balanced does not go with --ranking measured. give --ranking efficient",
        ),
        (
            ("--pruning-ratio", "0.5", "--data", CALIBRATION, "--samples", 5),
            f"{CALIBRATION}: 5 samples are too few to re-fit weights to",
        ),
    ],
)
def test_refusals(command: Command, tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    ran = command("prune", DIGITS, "-o", "out.onnx", *options)
    assert ran.code == 2
    assert message in ran.err
    assert len([line for line in ran.err.strip().splitlines() if "rror" in line or message in line]) == 1
    assert not (tmp_path / "out.onnx").exists()
