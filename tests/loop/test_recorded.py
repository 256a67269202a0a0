"""Curves from a file: losses by the metric's sense, never falling, whole at no loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune.errors import SettingError
from onnxprune.loop.recorded import recorded
from tests.support.planning import conv_chain


@pytest.fixture
def coupling() -> onnxprune.Coupling:
    return onnxprune.analyse(conv_chain())


def written(path: Path, coupling: onnxprune.Coupling, values: list[float | None], **more: Any) -> Path:
    """Curves of `w1:0`, 16 units, with 12, 8 and 4 of them kept."""
    group = {"name": "w1:0", "kind": "channels", "size": 16, "kept": [12, 8, 4], "values": values}
    found = {
        "schema": 1, "metric": "top1", "higher_is_better": True, "dense": 0.9, "criterion": "l2",
        "model_digest": coupling.view.model.digest, "groups": [group], **more,
    }  # fmt: skip
    (path / "c.json").write_text(json.dumps(found))
    return path / "c.json"


def test_losses(coupling: onnxprune.Coupling, tmp_path: Path) -> None:
    losses = recorded(written(tmp_path, coupling, [0.92, 0.8, 0.5]), coupling, [1])
    tie = 0.4e-3 / 16  # a thousandth of the largest loss, by the share that goes
    assert set(losses) == {1}
    assert losses[1][[16, 12, 8, 6, 4]] == pytest.approx([0, 4 * tie, 0.1 + 8 * tie, 0.25 + 10 * tie, 0.4 + 12 * tie])
    assert np.all(np.diff(losses[1]) < 0)


def test_lower_is_better(coupling: onnxprune.Coupling, tmp_path: Path) -> None:
    path = written(tmp_path, coupling, [0.1, 0.05, 0.4], higher_is_better=False, dense=0.0)
    assert recorded(path, coupling, [])[1][[12, 8, 4]] == pytest.approx([0.1, 0.1, 0.4], rel=0.01)


def test_decibels(coupling: onnxprune.Coupling, tmp_path: Path) -> None:
    """Signal to noise is infinite for the dense model itself: its noise's share is the loss."""
    path = written(tmp_path, coupling, [None, 20.0, 10.0], metric="snr", dense=None)
    assert recorded(path, coupling, [])[1][[12, 8, 4]] == pytest.approx([0, 0.01, 0.1], abs=1e-3)


@pytest.mark.parametrize(
    ("more", "wanted", "said"),
    [
        ({}, [0, 1], r"has no curve for w0:0\."),
        ({"groups": [{"name": "w1:0", "size": 8, "kept": [4], "values": [0.5]}]}, [], "has no group w1:0 of 8 units"),
        ({"model_digest": "00"}, [], "the curves of another model"),
        ({"schema": 2}, [], "no curves of schema 1"),
    ],
)
def test_what_does_not_fit(
    coupling: onnxprune.Coupling, tmp_path: Path, more: dict[str, Any], wanted: list[int], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        recorded(written(tmp_path, coupling, [0.9, 0.8, 0.5], **more), coupling, wanted)
