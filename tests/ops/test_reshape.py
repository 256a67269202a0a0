"""Reshape to a target that only data tells (reshapes to known sizes: tests/blocks, test_shuffle.py)."""

from __future__ import annotations

import onnx
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import make_model


def test_a_target_that_is_fed_keeps_the_axes() -> None:
    """The file cannot say a smaller size in its place, so nothing that the Reshape touches may go."""
    model = make_model(
        [
            make_node("MatMul", ["x", "w"], ["h"], name="up"),
            make_node("Reshape", ["h", "target"], ["out"], name="turn"),
        ],
        {"x": [2, 3], "target": [2]},
        ["out"],
        {"w": [3, 4]},
        input_types={"target": onnx.TensorProto.INT64},
    )
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [4, 2]))
    coupling = analyse(model, allow_io_change=["out", "target"])
    frozen = {(r.tensor, r.axis): r.why for r in coupling.refusals}
    assert not coupling.groups
    assert frozen["w", 1].startswith("its target shape is computed from data")
