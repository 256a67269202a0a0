"""Group L2: literal norms over all that goes with a unit."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.importance import score
from onnxprune.importance.magnitude import sums_of_squares
from onnxprune.importance.weights import BLOCK, Weight
from tests.support.models import make_model
from tests.support.planning import conv_chain, two_factors


def array(values: list, *shape: int, dtype: str = "float32") -> np.ndarray:
    return np.asarray(values, dtype).reshape(shape)


def raw(model: onnx.ModelProto) -> dict[str, list[float]]:
    coupling = analyse(model)
    scores = score(coupling, normalise="none", balanced=False)
    return {group.name: scores[group.index].tolist() for group in coupling.groups}


def test_a_unit_takes_its_filter_its_bias_and_its_consumers_column() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    weights = {
        "w": array([1, 2, 4, 0], 2, 2, 1, 1),
        "b": array([2, 0], 2),
        "v": array([4, 3, 0, 0], 2, 2, 1, 1),
    }
    # unit 0: 1 + 4 (filter) + 4 (bias) + 16 (column); unit 1: 16 + 9
    assert raw(make_model(nodes, {"x": (1, 2, 4, 4)}, ["y"], weights)) == {"w:0": [5.0, 5.0]}


def test_a_residual_stream_takes_what_writes_it_and_what_reads_it() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "enter"], ["s"]),
        helper.make_node("Conv", ["s", "block"], ["t"]),
        helper.make_node("Add", ["s", "t"], ["u"]),
        helper.make_node("Conv", ["u", "leave"], ["y"]),
    ]
    weights = {
        "enter": array([1, 0, 0, 2], 2, 2, 1, 1),
        "block": array([0, 3, 4, 0], 2, 2, 1, 1),  # rows and columns are the same two units
        "leave": array([0, 0, 0, 0], 2, 2, 1, 1),
    }
    expected = {"enter:0": [(1 + 9 + 16) ** 0.5, (4 + 16 + 9) ** 0.5]}
    assert raw(make_model(nodes, {"x": (1, 2, 4, 4)}, ["y"], weights)) == expected


def test_units_of_two_factors_take_their_rows_and_their_columns() -> None:
    model = two_factors()
    for tensor in model.graph.initializer:
        if tensor.name == "per_head":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))
        elif tensor.name == "w":
            columns = array([1, 2, 3, 4, 5, 6, 7, 8], 1, 8).repeat(3, 0)
            tensor.CopyFrom(onnx.numpy_helper.from_array(columns, "w"))
    squares = raw(model)
    assert squares["w:1"] == pytest.approx([(3 * 30) ** 0.5, (3 * 174) ** 0.5], rel=1e-12)
    assert squares["w:1#2"] == pytest.approx([(3 * n) ** 0.5 for n in (26, 40, 58, 80)], rel=1e-12)


def test_a_shared_vector_counts_for_each_of_its_uses() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Conv", ["c", "v", "b"], ["d"]),
        helper.make_node("Conv", ["d", "u"], ["y"]),
    ]
    weights = {
        "w": array([0, 0, 4, 0], 2, 2, 1, 1),
        "v": array([0, 0, 0, 0], 2, 2, 1, 1),
        "u": array([0, 0, 0, 1], 2, 2, 1, 1),
        "b": array([2, 3], 2),
    }
    assert raw(make_model(nodes, {"x": (1, 2, 4, 4)}, ["y"], weights)) == {
        "w:0": [2.0, 5.0],
        "v:0": [2.0, 10**0.5],
    }


def quantised(weight: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, **attrs: int) -> onnx.ModelProto:
    """x -> MatMul with a dequantised weight of four columns -> MatMul with zeros."""
    decode = ["q", "scale"] if zero is None else ["q", "scale", "zero"]
    nodes = [
        helper.make_node("DequantizeLinear", decode, ["w"], **attrs),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    weights = {"q": weight, "scale": scale, "v": np.zeros((weight.shape[1], 2), np.float32)}
    if zero is not None:
        weights["zero"] = zero
    return make_model(nodes, {"x": (5, len(weight))}, ["y"], weights, opset=21)


class TestWeightsAreSeenAsTheirRealValues:
    def blocks(self, model: onnx.ModelProto) -> list:
        from onnxprune.graph.io import load
        from onnxprune.graph.view import GraphView
        from onnxprune.importance.weights import weight

        found = weight(GraphView(load(model)), "q")
        assert found is not None
        return np.concatenate([block for _, block in found.blocks()]).tolist()

    def test_scale_and_zero_point_per_tensor(self) -> None:
        model = quantised(array([1, 3], 1, 2, dtype="int8"), array([0.5]), array([1], dtype="int8"))
        assert self.blocks(model) == [[0.0, 1.0]]

    def test_scale_per_column(self) -> None:
        model = quantised(array([1, 3, 5, 7], 2, 2, dtype="uint8"), array([2, 10], 2), array([1, 3], 2, dtype="uint8"))
        assert self.blocks(model) == [[0.0, 0.0], [8.0, 40.0]]

    def test_scale_per_row(self) -> None:
        model = quantised(array([1, 2, 3, 4], 2, 2, dtype="int8"), array([2, 10], 2), None, axis=0)
        assert self.blocks(model) == [[2.0, 4.0], [30.0, 40.0]]

    def test_scale_per_block_of_rows_the_last_one_short(self) -> None:
        model = quantised(array([1, 2, 3], 3, 1, dtype="int8"), array([2, 10], 2, 1), None, axis=0, block_size=2)
        assert self.blocks(model) == [[2.0], [4.0], [30.0]]

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, ml_dtypes.float8_e4m3fn])
    def test_floats_of_every_width(self, dtype: type) -> None:
        found = sums_of_squares(Weight(np.asarray([[1, 2], [3, 4]], dtype)), [0, 1])
        assert {axis: sums.tolist() for axis, sums in found.items()} == {0: [5.0, 25.0], 1: [10.0, 20.0]}


def test_statistics_of_a_batch_normalisation_are_no_weights() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Conv", ["n", "v"], ["y"]),
    ]
    weights = {
        "w": array([3, 0, 0, 0], 2, 2, 1, 1),
        "gamma": array([4, 6], 2),
        "beta": array([0, 8], 2),
        "mean": array([1e6, 1], 2),
        "var": array([1, 1e6], 2),
        "v": np.zeros((2, 2, 1, 1), np.float32),
    }
    assert raw(make_model(nodes, {"x": (1, 2, 4, 4)}, ["y"], weights)) == {"w:0": [5.0, 10.0]}


@pytest.mark.parametrize("shape", [(7,), (3, 5), (1, 2 * BLOCK), (3 * BLOCK // 4, 3), (4, 3, 2, 5)])
def test_sums_of_squares_of_every_shape_and_in_blocks(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    found = sums_of_squares(Weight(values), range(values.ndim))
    for axis in range(values.ndim):
        others = tuple(a for a in range(values.ndim) if a != axis)
        expected = (values.astype(np.float64) ** 2).sum(axis=others)
        np.testing.assert_allclose(found[axis], expected, rtol=2e-5)


def test_a_tensor_may_begin_anywhere_in_its_file() -> None:
    values = np.random.default_rng(3).normal(size=(40, 30)).astype(np.float32)
    file = np.frombuffer(b"\x08" + values.tobytes(), np.uint8)
    there = file[1:].view(np.float32).reshape(values.shape)
    assert not there.flags.aligned
    found, expected = sums_of_squares(Weight(there), [0, 1]), sums_of_squares(Weight(values), [0, 1])
    assert {axis: sums.tolist() for axis, sums in found.items()} == {axis: s.tolist() for axis, s in expected.items()}


def test_infinities_hide_nothing() -> None:
    values = array([np.inf, 1, 2, 3], 2, 2)
    found = sums_of_squares(Weight(values), [0, 1])
    assert {axis: sums.tolist() for axis, sums in found.items()} == {0: [0.0, 13.0], 1: [0.0, 10.0]}


def test_one_tensor_at_a_time_is_in_memory() -> None:
    coupling = analyse(conv_chain((512, 1024, 1024, 512)))
    _ = coupling.groups
    largest = 1024 * 1024 * 4
    tracemalloc.start()
    try:
        score(coupling)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert largest < peak < 1.5 * largest  # the tensor itself, copied out of the proto, and a block of it
