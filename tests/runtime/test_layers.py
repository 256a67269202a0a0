"""Where time goes: every node that runs, by a name that pruning leaves, with a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxprune.errors import ModelError
from onnxprune.runtime.layers import _usual, time_layers
from onnxprune.runtime.ort import RunOptions
from tests.support.planning import conv_chain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(conv_chain(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def feeds(path: Path) -> dict[str, np.ndarray]:
    (given,) = onnx.load(path).graph.input
    shape = [dim.dim_value or 1 for dim in given.type.tensor_type.shape.dim]
    return {given.name: np.ones(shape, np.float32)}


def test_every_node_that_runs(path: Path) -> None:
    found = time_layers(path, feeds(path), RunOptions(threads=1), runs=5)
    assert [operator for operator, _ in found.values()].count("Conv") + [
        operator for operator, _ in found.values()
    ].count("FusedConv") == 3
    assert all(0 < milliseconds < 1000 for _, milliseconds in found.values())
    assert not list(path.parent.glob("*.json"))


def test_a_model_that_does_not_run(path: Path) -> None:
    with pytest.raises(ModelError):
        time_layers(path, {"nothing": np.zeros(1, np.float32)}, RunOptions(threads=1))


def test_slow_runs_do_not_count() -> None:
    assert _usual([1.0, 3.0, 100.0, 2.0]) == 1.5
    assert _usual([4.0]) == 4.0
    assert _usual([]) == 0.0
