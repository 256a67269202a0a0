"""Operators that nothing is pruned through: a reason of their own each, and the rest of the model stays prunable."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from onnxprune.runtime.measure import measure_shapes
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly

Weights = dict[str, np.ndarray | list[int]]


def behind(*nodes: onnx.NodeProto, weights: Weights | None = None, **options: Any) -> Coupling:
    """x [2, 5] -> 6 columns, pruned freely -> 4 columns `a` -> `nodes` -> out."""
    chain = [make_node("MatMul", ["x", "w0"], ["h"]), make_node("MatMul", ["h", "w1"], ["a"]), *nodes]
    sizes: Weights = {"w0": [5, 6], "w1": [6, 4], **(weights or {})}
    return analyse(make_model(chain, {"x": [2, 5]}, ["out"], sizes), **options)


@pytest.mark.parametrize(
    ("nodes", "op", "why"),
    [
        pytest.param([make_node("NonZero", ["a"], ["out"])], "NonZero",
                     "it gives out indices of elements, as many as the data has", id="NonZero"),
        pytest.param([make_node("Unique", ["a"], ["out"], axis=1)], "Unique",
                     "what it gives out depends on the data, in content and in length", id="Unique"),
        pytest.param([make_node("SequenceConstruct", ["a", "a"], ["s"]), make_node("SequenceAt", ["s", "i"], ["out"])],
                     "SequenceConstruct", "tensors in a sequence are not followed", id="SequenceConstruct"),
        pytest.param([make_node("SplitToSequence", ["a"], ["s"], axis=1), make_node("SequenceLength", ["s"], ["out"])],
                     "SplitToSequence", "tensors in a sequence are not followed", id="SplitToSequence"),
        pytest.param([make_node("SoftmaxCrossEntropyLoss", ["a", "labels"], ["out"])], "SoftmaxCrossEntropyLoss",
                     "a loss compares every class with a label", id="SoftmaxCrossEntropyLoss"),
        pytest.param([make_node("NegativeLogLikelihoodLoss", ["a", "labels"], ["out"])], "NegativeLogLikelihoodLoss",
                     "a loss compares every class with a label", id="NegativeLogLikelihoodLoss"),
        pytest.param([make_node("Optional", ["a"], ["o"]), make_node("OptionalGetElement", ["o"], ["out"])], "Optional",
                     "an optional value may be a tensor or nothing, known at run time only", id="Optional"),
    ],
)  # fmt: skip
def test_the_columns_stay_and_the_layer_before_does_not(nodes: list[onnx.NodeProto], op: str, why: str) -> None:
    coupling = behind(*nodes, weights={"i": np.array(0), "labels": np.array([0, 3])})
    assert units(coupling) == {"w0:1": [{"w0:1": [i], "w1:0": [i]} for i in range(6)]}
    (found,) = [r for r in coupling.refusals if (r.tensor, r.axis) == ("w1", 1)]
    assert (found.op, found.why) == (op, f"{why} [a:1]")


def test_what_comes_out_of_a_sequence_stays() -> None:
    """The shape behind SequenceAt is unknown; once it is, the reason is still the sequence."""
    nodes = [
        make_node("SplitToSequence", ["x"], ["s"], axis=1, keepdims=1),
        make_node("ConcatFromSequence", ["s"], ["a"], axis=1),
        make_node("MatMul", ["a", "w1"], ["b"]),
        make_node("MatMul", ["b", "w2"], ["out"]),
    ]
    model = make_model(nodes, {"x": [2, 5]}, ["out"], {"w1": [5, 4], "w2": [4, 3]})
    shape = model.graph.output[0].type.tensor_type.shape
    del shape.dim[:]
    for size in (2, 3):
        shape.dim.add().dim_value = size
    coupling = assert_prunes_exactly(model, measured={"a": (2, 5)})
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(4)]}
    assert [(r.op, r.why) for r in coupling.refusals if (r.tensor, r.axis) == ("w1", 0)] == [
        ("ConcatFromSequence", "tensors in a sequence are not followed [a:1]")
    ]


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_a_window_function_keeps_its_length(op: str) -> None:
    nodes = [make_node(op, ["length"], ["window"]), make_node("Mul", ["a", "window"], ["b"]),
             make_node("MatMul", ["b", "w2"], ["out"])]  # fmt: skip
    coupling = behind(*nodes, weights={"length": np.array(4), "w2": [4, 3]}, measure=measure_shapes)
    assert [g.name for g in coupling.groups] == ["w0:1"]
    assert [(r.op, r.why) for r in coupling.refusals if (r.tensor, r.axis) == ("w1", 1)] == [
        (op, "a window function's values depend on its length [window:0]")
    ]


def test_non_maximum_suppression_in_a_detector() -> None:
    """Boxes and classes stay; the features that they are made of are prunable."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["f"]),
        make_node("MatMul", ["f", "wb"], ["boxes"]),
        make_node("MatMul", ["f", "ws"], ["s"]),
        make_node("Transpose", ["s"], ["scores"], perm=[0, 2, 1]),
        make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["out"]),
    ]
    weights: Weights = {
        "w1": [5, 4], "wb": [4, 4], "ws": [4, 3], "most": np.array([10]),
        "iou": np.array([0.5], np.float32), "least": np.array([-9], np.float32),
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": [1, 6, 5]}, ["out"], weights))
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "wb:0": [i], "ws:0": [i]} for i in range(4)]}
    why = "it compares boxes and gives out their indices"
    assert {(r.tensor, r.axis, r.why.split(" [")[0]) for r in coupling.refusals if r.op == "NonMaxSuppression"} == {
        ("wb", 1, why), ("ws", 1, why),
    }  # fmt: skip
