"""An output of the model that a node reads too is counted as read, by both."""

from __future__ import annotations

import numpy as np
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.edit import edit
from tests.support.models import make_model


def test_an_output_that_another_node_reads() -> None:
    nodes = [
        make_node("MatMul", ["x", "a"], ["h"]),
        make_node("Relu", ["h"], ["r"]),
        make_node("MatMul", ["r", "b"], ["y"]),
        make_node("Relu", ["y"], ["z"]),
    ]
    model = make_model(nodes, {"x": [2, 3]}, ["y", "z"], {"a": [3, 6], "b": [6, 2]})
    coupling = analyse(model)
    (group,) = coupling.groups
    edited = edit(coupling, coupling.removed_classes({group.index: [0, 2]})).model
    assert [n.op_type for n in edited.proto.graph.node] == ["MatMul", "Relu", "MatMul", "Relu"]
    assert np.array_equal(edited.array("b"), coupling.view.model.array("b")[[0, 2]])
