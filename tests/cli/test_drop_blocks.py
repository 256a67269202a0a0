"""Residual blocks on the command line: dropped by number, or under a budget."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.edit.test_blocks import blocks
from tests.support.commandline import Command


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    """Three blocks; the second one's branch is a hundredth of the others', and changes next to nothing."""
    model = blocks()
    for tensor in model.graph.initializer:
        if tensor.name == "down1":
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) / 100, "down1"))
    onnx.save(model, tmp_path / "residual.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(8, 3, 4, 4)).astype(np.float32))
    return tmp_path / "residual.onnx"


def test_the_block_that_changes_least_goes(command: Command, residual: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    data = ("--data", tmp_path / "data.npz")
    ran = command("prune", residual, "-o", out, "--drop-blocks", 1, *data, "--no-repair", "--json")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert ran.json["dropped"] == ["sum1"]
    assert ran.json["after"]["parameters"] == ran.json["before"]["parameters"] - 2 * 8 * 16
    assert ran.json["verified"]["ran"]
    assert len(onnx.load(out).graph.node) == 14 - 4
    again = command("apply", residual, tmp_path / "out.prune.json", "-o", tmp_path / "again.onnx", "--json")
    assert again.code == 0, again.err
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()


def test_what_is_behind_a_dropped_block_is_repaired(command: Command, residual: Path, tmp_path: Path) -> None:
    data = ("--data", tmp_path / "data.npz")
    ran = command("prune", residual, "-o", tmp_path / "out.onnx", "--drop-blocks", 1, *data, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["dropped"] == ["sum1"]
    fitted = [row for row in ran.json["repair"] if row["changed"]]
    assert fitted
    assert all(row["error_after"] < row["error_before"] for row in fitted)


def test_blocks_and_units_under_one_budget(command: Command, residual: Path, tmp_path: Path) -> None:
    ran = command(
        "plan", residual, "--max-macs", "55%", "--drop-blocks", "auto", "--data", tmp_path / "data.npz", "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.json["dropped"] == ["sum1"]
    assert ran.json["after"]["macs"] <= 0.55 * ran.json["before"]["macs"]
    document = json.loads((tmp_path / "residual.prune.json").read_text())
    assert document["dropped"] == ["sum1"]
    assert document["settings"]["influence"]["sum1"] < 0.01 < document["settings"]["influence"]["sum0"]


def test_a_number_beside_a_budget(command: Command, residual: Path) -> None:
    ran = command("plan", residual, "--drop-blocks", 2, "--max-macs", "30%", "--round-to", 1, "--json")
    assert len(ran.json["dropped"]) == 2
    assert "without --data" in ran.err
    assert ran.json["after"]["macs"] <= 0.3 * ran.json["before"]["macs"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--drop-blocks", "4"), "--drop-blocks 4: the model has 3 residual blocks"),
        (("--drop-blocks", "-1"), "--drop-blocks '-1' is no number"),
        (("--drop-blocks", "0"), "no budget is given"),
        (("--drop-blocks", "auto"), "no budget says how many"),
    ],
)
def test_what_cannot_be(command: Command, residual: Path, options: tuple[str, ...], says: str) -> None:
    ran = command("plan", residual, *options)
    assert ran.code == 2
    assert says in ran.err


def test_a_model_without_blocks(command: Command, net: Path) -> None:
    ran = command("plan", net, "--drop-blocks", 1)
    assert ran.code == 2
    assert "the model has no residual blocks" in ran.err
