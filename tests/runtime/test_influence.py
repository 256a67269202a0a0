"""Block influence: literal cosines."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune.analyse import analyse
from onnxprune.runtime.data import open_data
from onnxprune.runtime.influence import block_influence
from tests.support.models import make_model


def turning(weight: np.ndarray, *, masked: bool = False):
    """x [batch, tokens, 2] + x @ weight; a mask is fed beside it, which the model does not read."""
    inputs = {"x": ("n", 3, 2)} | ({"mask": ("n", 3)} if masked else {})
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["s"], name="sum"),
        helper.make_node("MatMul", ["s", "head"], ["y"]),
    ]
    weights = {"w": weight.astype(np.float32), "head": (2, 2)}
    return analyse(make_model(nodes, inputs, ["y"], weights, input_types={"mask": TensorProto.INT64}), bind={"n": 1})


@pytest.mark.parametrize(
    ("weight", "influence"),
    [
        pytest.param(2 * np.eye(2), 0.0, id="longer"),
        pytest.param(-3 * np.eye(2), 2.0, id="turned about"),
        pytest.param(np.array([[0.0, 1.0], [-1.0, 0.0]]), 1 - np.sqrt(0.5), id="45 degrees"),
    ],
)
def test_the_angle_counts(weight: np.ndarray, influence: float, tmp_path) -> None:
    coupling = turning(weight)
    x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    found = block_influence(coupling, open_data(tmp_path / "x.npz", coupling.view))
    assert found == {"sum": pytest.approx(influence, abs=1e-6)}
    assert block_influence(coupling) == {"sum": pytest.approx(influence, abs=1e-6)}  # of made-up inputs, here the same


def test_padding_does_not_count(tmp_path) -> None:
    turn = np.array([[0.0, 0.0], [0.0, 1.0]])
    coupling = turning(turn)
    x = np.zeros((4, 3, 2), np.float32)
    x[:, 0] = [1, 0]  # stays
    x[:, 1] = [1, 1]  # is turned
    mask = np.tile(np.array([1, 0, 0], np.int64), (4, 1))
    np.savez(tmp_path / "x.npz", x=x)
    assert block_influence(coupling, open_data(tmp_path / "x.npz", coupling.view))["sum"] > 0.01
    np.savez(tmp_path / "masked.npz", x=x, mask=mask)
    coupling = turning(turn, masked=True)
    data = open_data(tmp_path / "masked.npz", coupling.view)
    assert block_influence(coupling, data, mask="mask")["sum"] == pytest.approx(0, abs=1e-9)
