"""Tensors out of nothing: what is the same everywhere follows its readers, what counts or draws does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_node, make_sparse_tensor, make_tensor

from onnxprune.analyse import analyse
from onnxprune.coupling.coupling import Coupling
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, attributes, pruned

Weights = dict[str, np.ndarray | list[int]]
BOTH = {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(4)]}


def scaled_by(*nodes: onnx.NodeProto, opset: int = 17, **options: Any) -> onnx.ModelProto:
    """x [2, 5] -> 4 columns, times `g` that `nodes` make -> 3 columns."""
    chain = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        *nodes,
        make_node("Mul", ["a", "g"], ["b"]),
        make_node("MatMul", ["b", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [5, 4], "w2": [4, 3], **options.pop("weights", {})}
    inputs = {"x": [2, 5], **options.pop("inputs", {})}
    return make_model(chain, inputs, ["out"], weights, opset=opset, **options)


def why_frozen(coupling: Coupling, tensor: str, axis: int) -> tuple[str, str]:
    """Operator and reason, the axis at fault left out."""
    (found,) = [(r.op, r.why) for r in coupling.refusals if (r.tensor, r.axis) == (tensor, axis)]
    return found[0], found[1].split(" [")[0]


@pytest.mark.parametrize("opset", [9, 12, 13, 21])
def test_a_constant_tensor_is_cut_like_any_other(opset: int) -> None:
    value = numpy_helper.from_array(np.array([0.5, 1.5, 2.5, 3.5], np.float32))
    model = scaled_by(make_node("Constant", [], ["g"], value=value), opset=opset)
    assert units(assert_prunes_exactly(model)) == {"w1:1": [{"w1:1": [i], "w2:0": [i], "g:0": [i]} for i in range(4)]}
    after = attributes(pruned(model, {"w1:1": [0, 3]}), "Constant")
    assert numpy_helper.to_array(after["value"]).tolist() == [0.5, 3.5]


def test_a_constant_list_is_cut() -> None:
    model = scaled_by(make_node("Constant", [], ["g"], value_floats=[0.5, 1.5, 2.5, 3.5]))
    assert units(assert_prunes_exactly(model)) == BOTH
    after = attributes(pruned(model, {"w1:1": [1, 2]}), "Constant")
    assert after == {"value_floats": [1.5, 2.5]}


def test_a_sparse_constant_is_not_cut() -> None:
    values, indices = make_tensor("v", 1, [2], [1.0, 2.0]), make_tensor("i", 7, [2], [0, 3])
    node = make_node("Constant", [], ["g"], sparse_value=make_sparse_tensor(values, indices, [4]))
    coupling = analyse(scaled_by(node), measured={"g": (4,)})
    assert units(coupling) == {}
    assert why_frozen(coupling, "w1", 1) == ("Constant", "a constant held as sparse_value is not cut")


@pytest.mark.parametrize("opset", [9, 20, 23])
def test_constant_of_shape_follows_its_readers(opset: int) -> None:
    node = make_node("ConstantOfShape", ["shape"], ["g"], value=make_tensor("v", 1, [1], [2.5]))
    model = scaled_by(node, opset=opset, weights={"shape": np.array([2, 4])})
    assert units(assert_prunes_exactly(model)) == BOTH
    assert array(pruned(model, {"w1:1": [0, 1, 3]}), "shape").tolist() == [2, 3]


def test_constant_of_shape_of_a_dynamic_length_stays_there() -> None:
    """An initial state [batch, 4]: the batch comes from Shape and stays dynamic, the width is a literal."""
    nodes = [
        make_node("Shape", ["x"], ["batch"], start=0, end=1),
        make_node("Concat", ["batch", "width"], ["shape"], axis=0),
        make_node("ConstantOfShape", ["shape"], ["state"], value=make_tensor("v", 1, [1], [2.0])),
        make_node("Add", ["state", "bias"], ["g"]),
    ]
    model = scaled_by(*nodes, inputs={"x": ["batch", 5]}, weights={"width": np.array([4]), "bias": [1, 4]})
    coupling = assert_prunes_exactly(model, bind={"batch": 3})
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:0": [i], "bias:1": [i]} for i in range(4)]}
    after = pruned(model, {"w1:1": [2, 3]}, bind={"batch": 3})
    assert array(after, "width").tolist() == [2]
    assert [n.op_type for n in after.graph.node] == [n.op_type for n in model.graph.node]


def test_constant_of_shape_varying_where_a_table_is_tied() -> None:
    """Rows as many as the dynamic input has freeze the stored rows that they meet."""
    nodes = [
        make_node("Shape", ["x"], ["rows"], start=0, end=1),
        make_node("Concat", ["rows", "one"], ["shape"], axis=0),
        make_node("ConstantOfShape", ["shape"], ["ones"], value=make_tensor("v", 1, [1], [1.0])),
        make_node("Mul", ["table", "ones"], ["g"]),
        make_node("ReduceSum", ["g", "axis"], ["out"]),
    ]
    weights: Weights = {"table": [6, 4], "one": np.array([1]), "axis": np.array([0])}
    model = make_model(nodes, {"x": ["rows", 5]}, ["out"], weights)
    coupling = analyse(model, bind={"rows": 6}, allow_io_change=["out"])
    assert why_frozen(coupling, "table", 0) == ("ConstantOfShape", "its length depends on a dynamic dimension")


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform"])
@pytest.mark.parametrize("opset", [7, 17])
def test_random_tensors_may_shrink_but_draw_anew(op: str, opset: int) -> None:
    model = scaled_by(make_node(op, [], ["g"], shape=[2, 4], seed=3.0), opset=opset)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == BOTH
    assert [(g.exact, g.mixes) for g in coupling.groups] == [(False, ("random numbers are drawn over it",))]
    assert attributes(pruned(model, {"w1:1": [0, 2, 3]}), op)["shape"] == [2, 3]


def test_multinomial_gives_out_class_numbers() -> None:
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("Multinomial", ["a"], ["b"], sample_size=4),
        make_node("Cast", ["b"], ["c"], to=1),
        make_node("MatMul", ["c", "w2"], ["out"]),
    ]
    coupling = analyse(make_model(nodes, {"x": [2, 5]}, ["out"], {"w1": [5, 6], "w2": [4, 3]}))
    assert units(coupling) == {}
    assert why_frozen(coupling, "w1", 1) == ("Multinomial", "its indices are given out as numbers of classes")
    assert why_frozen(coupling, "w2", 0) == ("Multinomial", "samples that were asked for")


@pytest.mark.parametrize("opset", [11, 27])
def test_a_range_counts(opset: int) -> None:
    nodes = [make_node("Range", ["from", "to", "by"], ["g"])]
    weights = {"from": np.float32(0.5), "to": np.float32(4.5), "by": np.float32(1)}
    model = scaled_by(*nodes, opset=opset, weights={n: np.array(v) for n, v in weights.items()})
    coupling = analyse(model)
    assert units(coupling) == {}
    assert why_frozen(coupling, "w1", 1) == ("Range", "its elements count")


def test_an_identity_matrix_keeps_its_size() -> None:
    nodes = [
        make_node("MatMul", ["x", "w1"], ["a"]),
        make_node("EyeLike", ["a"], ["eye"]),
        make_node("Add", ["a", "eye"], ["b"]),
        make_node("MatMul", ["b", "w2"], ["out"]),
    ]
    coupling = analyse(make_model(nodes, {"x": [4, 5]}, ["out"], {"w1": [5, 4], "w2": [4, 3]}))
    assert units(coupling) == {}
    assert why_frozen(coupling, "w1", 1) == (
        "EyeLike", "the diagonal of an identity matrix runs over it",
    )  # fmt: skip


def test_a_size_that_is_data_keeps_its_dense_value() -> None:
    """1/sqrt(width) computed from Shape: the units go, the number does not change."""
    nodes = [
        make_node("Shape", ["a"], ["shape"], start=1, end=2),
        make_node("Cast", ["shape"], ["width"], to=1),
        make_node("Sqrt", ["width"], ["root"]),
        make_node("Reciprocal", ["root"], ["g"]),
    ]
    assert units(assert_prunes_exactly(scaled_by(*nodes))) == BOTH


def test_a_size_as_data() -> None:
    nodes = [make_node("Size", ["a"], ["count"]), make_node("Cast", ["count"], ["g"], to=1)]
    assert units(assert_prunes_exactly(scaled_by(*nodes))) == BOTH


@pytest.mark.parametrize("opset", [9, 11])
def test_one_hot_classes_stay_and_a_table_of_them_too(opset: int) -> None:
    """An embedding as one-hot times table: the classes are fixed, the width is prunable."""
    nodes = [
        make_node("OneHot", ["ids", "depth", "values"], ["hot"]),
        make_node("MatMul", ["hot", "table"], ["a"]),
        make_node("MatMul", ["a", "w2"], ["out"]),
    ]
    weights: Weights = {
        "depth": np.array(6), "values": np.array([0, 1], np.float32), "table": [6, 4], "w2": [4, 3],
    }  # fmt: skip
    model = make_model(nodes, {"ids": [2, 5]}, ["out"], weights, opset=opset, input_types={"ids": 7})
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"table:1": [{"table:1": [i], "w2:0": [i]} for i in range(4)]}
    assert why_frozen(coupling, "table", 0) == ("OneHot", "an index is a class")


def test_one_hot_along_another_axis() -> None:
    nodes = [
        make_node("OneHot", ["ids", "depth", "values"], ["hot"], axis=1),
        make_node("Conv", ["hot", "w1"], ["a"]),
        make_node("Conv", ["a", "w2"], ["out"]),
    ]
    weights: Weights = {
        "depth": np.array([3]), "values": np.array([-1, 1], np.float32), "w1": [4, 3, 1], "w2": [2, 4, 1],
    }  # fmt: skip
    model = make_model(nodes, {"ids": [2, 5]}, ["out"], weights, input_types={"ids": 7})
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:0": [{"w1:0": [i], "w2:1": [i]} for i in range(4)]}
    assert why_frozen(coupling, "w1", 1) == ("OneHot", "an index is a class")


def test_a_constant_vector_that_layers_share_is_cut_for_each() -> None:
    """One vector of a Constant node scales two layers of 4 columns, which lose different ones."""
    value = numpy_helper.from_array(np.array([[0.5], [1.5], [2.5], [3.5]], np.float32))
    nodes = [
        make_node("Constant", [], ["g"], value=value),
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Mul", ["a", "g"], ["b"]),
        make_node("Conv", ["b", "w2"], ["c"]),
        make_node("Mul", ["c", "g"], ["d"]),
        make_node("Conv", ["d", "w3"], ["out"]),
    ]
    weights: Weights = {"w1": [4, 3, 1], "w2": [4, 4, 1], "w3": [2, 4, 1]}
    model = make_model(nodes, {"x": [1, 3, 5]}, ["out"], weights)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "w1:0": [{"w1:0": [i], "g:0": [i], "w2:1": [i]} for i in range(4)],
        "w2:0": [{"w2:0": [i], "g:0": [i], "w3:1": [i]} for i in range(4)],
    }
    after = pruned(model, {"w1:0": [0, 1, 2], "w2:0": [1, 3]})
    assert numpy_helper.to_array(attributes(after, "Constant")["value"]).tolist() == [[0.5], [1.5], [2.5]]
    assert array(after, "g_pruned").tolist() == [[1.5], [3.5]]
