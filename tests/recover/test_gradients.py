"""Gradients as plain data, and the criteria that read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.errors import SettingError
from onnxprune.importance import score
from onnxprune.recover.gradients import gradients_of
from onnxprune.recover.losses import MeanSquare
from onnxprune.runtime.data import open_data
from tests.support.learning import classifier, write_points
from tests.support.models import make_model


def test_by_hand(tmp_path: Path) -> None:
    """y = (x w) v, squared error to 0: dL/dw = 2 y x v, dL/dv = 2 y x w."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    weights = {"w": np.array([[1, 3]], np.float32), "v": np.array([[2], [-1]], np.float32)}
    model = make_model(nodes, {"x": ["N", 1]}, ["y"], weights)
    coupling = analyse(model)
    np.savez(tmp_path / "d.npz", x=np.array([[1], [2]], np.float32), labels=np.zeros((2, 1), np.float32))
    data = open_data(tmp_path / "d.npz", coupling.view, seed=None)
    found = gradients_of(model, data, loss=MeanSquare("y"), batch=1)
    # y = -x. x = 1: g_w = -2 [2, -1], g_v = -2 [1, 3]; x = 2: four times as much. Products with the weights: -4, 6.
    square = (1 + 16) / 2
    np.testing.assert_allclose(found.taylor["w"][1], np.array([16, 36]) * square)
    np.testing.assert_allclose(found.taylor["v"][0], np.array([16, 36]) * square)
    np.testing.assert_allclose(found.taylor["w"][0], [(-4 + 6) ** 2 * square])
    np.testing.assert_allclose(found.fisher["w"][0], [(16 + 36) * square])
    for criterion in ("taylor", "fisher"):
        scores = score(coupling, criterion, data={"gradients": found})
        np.testing.assert_allclose(scores[0], np.array([32, 72]) * square)
    assert scores.data == {
        "gradients": {
            "samples": 2, "origin": str(tmp_path / "d.npz"), "data_sha256": data.sha256, "batch": 1, "labels": True,
        }
    }  # fmt: skip


def test_without_labels_classes_are_drawn(tmp_path: Path) -> None:
    model = classifier()
    view = analyse(model).view
    data = open_data(write_points(tmp_path / "d.npz", labelled=False, count=32), view)
    first, again, other = (gradients_of(model, data, seed=seed) for seed in (0, 0, 1))
    assert all((first.taylor["w0"][1] == again.taylor["w0"][1]).tolist())
    assert (first.taylor["w0"][1] != other.taylor["w0"][1]).any()


def test_criteria_need_them() -> None:
    with pytest.raises(SettingError, match="the criterion 'taylor' needs gradients"):
        score(analyse(classifier()), "taylor")
