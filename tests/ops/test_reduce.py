"""Reductions: sums are exact, statistics mix, other axes are untouched; in every way to say which axes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.ops.reduce import STATISTICS, SUMS
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import WIDTH, between_convs, between_matmuls, one_by_one

AXES_ARE_AN_INPUT = 18  # since this opset; ReduceSum since 13


def reduction(op: str, x: str, y: str, axes: list[int], opset: int, **attrs: int) -> list[onnx.NodeProto]:
    """The nodes of a reduction in the way that the opset has it."""
    if opset >= AXES_ARE_AN_INPUT or (op == "ReduceSum" and opset >= 13):
        constant = onnx.numpy_helper.from_array(np.array(axes, np.int64))
        return [
            make_node("Constant", [], [f"{y}_axes"], value=constant),
            make_node(op, [x, f"{y}_axes"], [y], **attrs),
        ]
    return [make_node(op, [x], [y], axes=axes, **attrs)]


def gate(op: str, opset: int, axes: list[int]) -> list[onnx.NodeProto]:
    """h, made positive, plus a reduction of it that keeps its axes."""
    positive = [make_node("Sigmoid", ["h"], ["p"])]
    return [*positive, *reduction(op, "p", "r", axes, opset), make_node("Add", ["p", "r"], ["y"])]


@pytest.mark.parametrize("op", SUMS)
@pytest.mark.parametrize(("opset", "axes"), [(11, [1]), (13, [-3]), (18, [1]), (20, [-3, -1])])
def test_a_sum_over_channels_is_exact(op: str, opset: int, axes: list[int]) -> None:
    coupling = assert_prunes_exactly(between_convs(gate(op, opset, axes), opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


@pytest.mark.parametrize("op", STATISTICS)
@pytest.mark.parametrize(("opset", "axes"), [(12, [1]), (13, [-3]), (18, [1]), (20, [-3, -1])])
def test_a_statistic_over_channels_mixes(op: str, opset: int, axes: list[int]) -> None:
    coupling = assert_prunes_exactly(between_convs(gate(op, opset, axes), opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.mixes for g in coupling.groups] == [(STATISTICS[op],)]


@pytest.mark.parametrize("op", [*SUMS, *STATISTICS])
def test_space_may_be_reduced_without_a_mark(op: str) -> None:
    near_one = make_node("HardSigmoid", ["h"], ["p"], alpha=0.02, beta=0.95)  # a product of twenty stays a number
    nodes = [near_one, *reduction(op, "p", "y", [-1, 2], 17)]
    coupling = assert_prunes_exactly(between_convs(nodes))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceL2"])
@pytest.mark.parametrize("opset", [13, 18])
def test_without_keepdims_the_axes_close_ranks(op: str, opset: int) -> None:
    nodes = [
        make_node("Conv", ["x", "w1", "b1"], ["h"]),
        *reduction(op, "h", "r", [0, 2, -1], opset, keepdims=0),
        make_node("MatMul", ["r", "w2"], ["out"]),
    ]
    weights = {"w1": [WIDTH, 3, 1, 1], "b1": [WIDTH], "w2": [WIDTH, 4]}
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [2, 3, 4, 5]}, ["out"], weights, opset=opset))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:0")}
    assert [g.exact for g in coupling.groups] == [True]


@pytest.mark.parametrize(("op", "exact"), [("ReduceSum", True), ("ReduceMean", False)])
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_no_axes_mean_all_of_them(op: str, exact: bool, opset: int, keepdims: int) -> None:
    nodes = [make_node(op, ["h"], ["r"], keepdims=keepdims), make_node("Add", ["h", "r"], ["y"])]
    coupling = assert_prunes_exactly(between_convs(nodes, opset=opset))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, exact)]


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL1"])
@pytest.mark.parametrize("empty", [True, False])
def test_no_axes_and_noop_reduce_nothing(op: str, empty: bool) -> None:
    weights = {"none": np.array([], np.int64)} if empty else {}
    node = make_node(op, ["h", "none"] if empty else ["h"], ["y"], noop_with_empty_axes=1)
    coupling = assert_prunes_exactly(between_convs([node], weights, opset=18))
    assert units(coupling) == {"w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1")}
    assert [g.exact for g in coupling.groups] == [True]


def test_an_empty_list_of_axes_means_all_of_them() -> None:
    nodes = [make_node("ReduceMean", ["h", "none"], ["r"]), make_node("Add", ["h", "r"], ["y"])]
    coupling = assert_prunes_exactly(between_convs(nodes, {"none": np.array([], np.int64)}, opset=18))
    assert [(g.size, g.mixes) for g in coupling.groups] == [(WIDTH, ("a mean is taken over it",))]


def test_axes_that_are_data_freeze() -> None:
    nodes = [make_node("ReduceSum", ["h", "axes"], ["r"], keepdims=1), make_node("Mul", ["h", "r"], ["y"])]
    model = between_convs(nodes)
    model.graph.input.append(onnx.helper.make_tensor_value_info("axes", onnx.TensorProto.INT64, [1]))
    coupling = analyse(model, measured={"r": (2, 1, 4, 5), "y": (2, WIDTH, 4, 5), "out": (2, 4, 4, 5)})
    assert coupling.groups == ()
    assert {r.tensor: r.why for r in coupling.refusals if r.axis == 0}[
        "b1"
    ] == "input 1 (axes) is computed from data [h:1]"


def test_a_mean_over_flattened_members_marks_them_and_leaves_groups_exact() -> None:
    nodes = [
        make_node("Reshape", ["h", "flat"], ["f"]),
        make_node("ReduceMean", ["f"], ["mean"], axes=[2]),
        make_node("Sub", ["f", "mean"], ["c"]),
        make_node("Reshape", ["c", "back"], ["y"]),
    ]
    coupling = assert_prunes_exactly(
        between_convs(nodes, {"flat": np.array([2, 3, -1]), "back": np.array([2, WIDTH, 4, 5])})
    )
    assert {g.size: g.mixes for g in coupling.groups} == {3: (), 2: ("a mean is taken over it",)}


def test_squeeze_and_excite_is_exact_throughout() -> None:
    nodes = [
        make_node("ReduceMean", ["h"], ["pooled"], axes=[2, 3]),
        make_node("Conv", ["pooled", "down"], ["d"]),
        make_node("Relu", ["d"], ["a"]),
        make_node("Conv", ["a", "up"], ["u"]),
        make_node("Sigmoid", ["u"], ["gate"]),
        make_node("Mul", ["h", "gate"], ["y"]),
    ]
    coupling = assert_prunes_exactly(between_convs(nodes, {"down": [3, WIDTH, 1, 1], "up": [WIDTH, 3, 1, 1]}))
    assert units(coupling) == {
        "w1:0": one_by_one(WIDTH, "w1:0", "b1:0", "w2:1", "down:1", "up:0"),
        "down:0": one_by_one(3, "down:0", "up:1"),
    }
    assert all(g.exact for g in coupling.groups)


def test_softmax_without_its_maximum_is_a_sum_and_exact() -> None:
    nodes = [
        make_node("Exp", ["h"], ["e"]),
        make_node("ReduceSum", ["e", "last"], ["total"]),
        make_node("Div", ["e", "total"], ["y"]),
    ]
    coupling = assert_prunes_exactly(between_matmuls(nodes, {"last": np.array([-1])}))
    assert [(g.size, g.exact) for g in coupling.groups] == [(WIDTH, True)]
