"""Operators in ONNX Runtime's blocked layout stay as they are, with a reason that says what to do."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.runtime.measure import measure_shapes
from tests.support.models import make_model


def optimised(level: int, tmp_path: Path) -> onnx.ModelProto:
    """Two 3x3 convolutions of 16 channels, as ONNX Runtime's optimiser leaves them at a level."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["h"], pads=[1, 1, 1, 1]),
        make_node("Relu", ["h"], ["r"]),
        make_node("Conv", ["r", "w2"], ["out"], pads=[1, 1, 1, 1]),
    ]
    model = make_model(nodes, {"x": [1, 3, 8, 8]}, ["out"], {"w1": [16, 3, 3, 3], "w2": [16, 16, 3, 3]})
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(level)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def test_blocked_channels_stay_and_the_reason_says_what_to_do(tmp_path: Path) -> None:
    model = optimised(99, tmp_path)
    if not any(node.domain == "com.microsoft.nchwc" for node in model.graph.node):
        pytest.skip("ONNX Runtime has no blocked layout for this CPU")
    coupling = analyse(model, measure=measure_shapes)
    assert coupling.groups == ()
    found = {(r.op, r.why.split(" [")[0], r.help) for r in coupling.refusals if r.op == "Conv"}
    assert found == {
        (
            "Conv",
            "channels lie in blocks of 8 or 16, laid out for this machine's CPU",
            "prune the model as it was before ONNX Runtime optimised it at level ALL",
        )
    }


def test_extended_optimisation_leaves_channels_as_they_are(tmp_path: Path) -> None:
    coupling = analyse(optimised(2, tmp_path))
    assert [g.size for g in coupling.groups] == [16]


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "ReorderInput", "ReorderOutput", "Upsample"])
def test_a_blocked_operator_freezes_what_it_touches(op: str) -> None:
    nodes = [
        make_node("Conv", ["x", "w1"], ["h"]),
        make_node(op, ["h"], ["y"], domain="com.microsoft.nchwc"),
        make_node("Relu", ["y"], ["out"]),
    ]
    model = make_model(nodes, {"x": [1, 3, 8, 8]}, ["out"], {"w1": [16, 3, 1, 1]})
    refusals = analyse(model, measured={"y": (1, 16, 8, 8)}).refusals
    why = "channels lie in blocks of 8 or 16, laid out for this machine's CPU [h:1]"
    assert [r.why for r in refusals if (r.tensor, r.axis) == ("w1", 0)] == [why]
