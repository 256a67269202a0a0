"""Signal and matrix transforms: what is transformed stays with a reason, the axes beside it run along."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node, make_tensor_value_info

from onnxprune.analyse import analyse
from onnxprune.runtime.measure import measure_shapes
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly

Weights = dict[str, np.ndarray | list[int]]
FOURIER = "a Fourier transform runs over it"


def declared(model: onnx.ModelProto, shape: list[int]) -> onnx.ModelProto:
    """The model with its output's shape stated, which onnx does not infer behind these operators."""
    model.graph.output[0].CopyFrom(make_tensor_value_info("out", onnx.TensorProto.FLOAT, shape))
    return model


@pytest.mark.parametrize("opset", [17, 20])
def test_channels_beside_a_fourier_transform(opset: int) -> None:
    """x [2, 3, 8] -> Conv to 4 channels -> [2, 4, 8, 1] -> DFT over the 8 -> [2, 4, 8, 2] -> Conv to 3 channels."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Unsqueeze", ["a", "last"], ["b"]),
        make_node("DFT", ["b"], ["c"], axis=2) if opset < 20 else make_node("DFT", ["b", "", "axis"], ["c"]),
        make_node("Conv", ["c", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [4, 3, 1], "w2": [3, 4, 1, 1], "last": np.array([-1])}
    if opset >= 20:
        weights["axis"] = np.array(2)
    model = declared(make_model(nodes, {"x": [2, 3, 8]}, ["out"], weights, opset=opset), [2, 3, 8, 2])
    coupling = assert_prunes_exactly(model, measure=measure_shapes)
    assert units(coupling) == {"w1:0": [{"w1:0": [i], "w2:1": [i]} for i in range(4)]}


@pytest.mark.parametrize("opset", [17, 20])
def test_what_is_transformed_stays(opset: int) -> None:
    """A stored gain over the frequencies of a DFT along the last but one axis (the default of opset 20)."""
    nodes = [
        make_node("DFT", ["x"], ["a"], **({"axis": 1} if opset < 20 else {})),
        make_node("Mul", ["a", "gain"], ["b"]),
        make_node("ReduceSum", ["b", "axes"], ["out"]),
    ]
    weights: Weights = {"gain": [1, 8, 2], "axes": np.array([1, 2])}
    coupling = analyse(make_model(nodes, {"x": [2, 8, 1]}, ["out"], weights, opset=opset))
    assert units(coupling) == {}
    found = {(r.tensor, r.axis, r.op, r.why.split(" [")[0]) for r in coupling.refusals if r.tensor == "gain"}
    assert found == {("gain", 1, "DFT", FOURIER), ("gain", 2, "DFT", FOURIER)}


def test_short_time_fourier_transform() -> None:
    """Frames and bins stay; what is made of them is prunable as usual."""
    nodes = [
        make_node("STFT", ["x", "step", "window"], ["a"], onesided=1),
        make_node("ReduceSumSquare", ["a"], ["power"], axes=[3], keepdims=0),
        make_node("MatMul", ["power", "w1"], ["b"]),
        make_node("MatMul", ["b", "w2"], ["out"]),
    ]
    weights: Weights = {"step": np.array(4), "window": [8], "w1": [5, 6], "w2": [6, 2]}
    model = declared(make_model(nodes, {"x": [2, 32, 1]}, ["out"], weights), [2, 7, 2])
    coupling = assert_prunes_exactly(model, measure=measure_shapes)
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(6)]}
    found = {(r.tensor, r.axis, r.why.split(" [")[0]) for r in coupling.refusals if r.op == "STFT"}
    assert found == {("w1", 0, FOURIER), ("window", 0, FOURIER)}


def test_batches_of_determinants() -> None:
    """x [2, 5] -> 3 matrices of 2 x 2 -> 3 determinants -> 2 columns: a matrix goes with its four columns."""
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("Reshape", ["a", "matrices"], ["b"]),
        make_node("Det", ["b"], ["c"]),
        make_node("MatMul", ["c", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [5, 12], "w2": [3, 2], "matrices": np.array([2, 3, 2, 2])}
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [2, 5]}, ["out"], weights))
    assert units(coupling) == {
        "w1:1": [{"w1:1": [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3], "w2:0": [i]} for i in range(3)]
    }
    assert "a determinant is taken over it" in {r.why for r in coupling.atoms.reasons if r.op == "Det"}
