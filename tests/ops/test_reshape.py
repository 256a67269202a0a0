"""Reshape to a target that only data tells, Squeeze of whatever is 1 (known sizes: tests/blocks, test_shuffle.py)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.edit import edit
from tests.support.models import make_model
from tests.support.oracle import distance, run


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


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize(("middle", "written"), [(1, "Squeeze"), (2, "Identity")])
def test_a_squeeze_that_names_no_axes_leaves_the_one_unit_that_stays(opset: int, middle: int, written: str) -> None:
    """Else it would take the channels' axis, too, once that is 1."""
    model = make_model(
        [
            make_node("Conv", ["x", "w"], ["h"]),
            make_node("Squeeze", ["h"], ["s"]),
            make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1] if middle == 1 else [0, 2, 3, 1]),
            make_node("MatMul", ["t", "v"], ["out"]),
        ],
        {"x": [2, 3, middle, 5]},
        ["out"],
        {"w": [4, 3, 1, 1], "v": [4, 6]},
        opset=opset,
    )
    coupling = analyse(model)
    removed = coupling.removed_classes({coupling.groups[0].index: [2]})
    pruned = edit(coupling, removed).model
    x = np.random.default_rng(0).normal(size=(2, 3, middle, 5)).astype(np.float32)
    assert distance(run(pruned, {"x": x}), run(mask_classes(coupling, removed), {"x": x})) <= 1e-5
    (node,) = (n for n in pruned.proto.graph.node if n.output[0] == "s")
    assert node.op_type == written
