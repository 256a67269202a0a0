"""Sizes that a converter does not know, written as ? or -1: each one is dynamic, and no two are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.runtime.data import open_data
from onnxprune.runtime.inputs import input_specs
from tests.support.models import make_model
from tests.support.repairing import given, normal, repaired


def test_each_is_a_size_of_its_own(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["y"]),
    ]
    model = make_model(nodes, {"x": ("n", 3, "h", "w")}, ["y"], {"a": (8, 3, 3, 3), "b": (4, 8, 1, 1)})
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = -1
    dims[2].dim_param = dims[3].dim_param = "?"
    coupling = analyse(model, input_shapes={"x": [1, 3, 6, 9]})
    assert coupling.shapes.shape["y"] == (1, 4, 6, 9)
    assert str(input_specs(coupling.view)["x"]) == "'x' float32[?,3,?,?]"
    np.savez(tmp_path / "x.npz", x=normal(16, 3, 6, 9))
    data = open_data(tmp_path / "x.npz", coupling.view)
    assert [batch.feeds["x"].shape for batch in data.batches(8)] == [(8, 3, 6, 9)] * 2
    _, found = repaired(coupling, {"a:0": range(5)}, given(coupling, x=normal(64, 3, 6, 9)))
    assert any(layer.changed for layer in found.layers)
