"""Older spellings of com.microsoft of operators that move elements couple as those of ai.onnx do."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.contrib import MICROSOFT
from tests.support.models import units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, pruned, shapes
from tests.support.sandwich import WIDTH, between_matmuls, one_by_one

EVERY = ("w1:1", "b1:0", "w2:0")


def ms(op: str, inputs: list[str], output: str = "y", **attrs: object) -> onnx.NodeProto:
    return make_node(op, inputs, [output], domain=MICROSOFT, **attrs)


@pytest.mark.parametrize("axis", [0, 3, -1])
def test_a_new_axis_of_one(axis: int) -> None:
    nodes = [
        ms("ExpandDims", ["h", "axis"], "e"),
        make_node("Squeeze", ["e", "at"], ["y"]),
    ]
    weights = {"axis": np.array(axis, np.int32), "at": np.array([axis])}
    assert units(assert_prunes_exactly(between_matmuls(nodes, weights))) == {"w1:1": one_by_one(WIDTH, *EVERY)}


def test_pads_follow_what_stays() -> None:
    model = between_matmuls([ms("Pad", ["h", "pads"])], {"pads": np.array([0, 0, 1, 0, 0, 2])}, reads=WIDTH + 3)
    coupling = assert_prunes_exactly(model)
    assert units(coupling)["w1:1"] == [{"w1:1": [i], "b1:0": [i], "w2:0": [1 + i]} for i in range(WIDTH)]
    left = pruned(model, {"w1:1": [0, 5]})
    assert shapes(left)["w2"] == (5, 4)
    assert array(left, "pads").tolist() == [0, 0, 1, 0, 0, 2]


def test_a_triangle_keeps_its_matrix() -> None:
    coupling = analyse(between_matmuls([ms("Trilu", ["h"])]))
    assert coupling.groups == ()
    assert {r.why for r in coupling.refusals if r.tensor == "w2" and r.axis == 0} == {
        "a triangle is cut by position [h:2]"
    }


def test_rows_that_are_gathered() -> None:
    nodes = [
        make_node("Transpose", ["h"], ["t"], perm=[2, 0, 1]),
        ms("GatherND", ["t", "at"], "g"),
        make_node("Transpose", ["g"], ["y"], perm=[1, 2, 0]),
    ]
    model = between_matmuls(nodes, {"at": np.array([[5], [0], [2]])}, reads=3)
    coupling = assert_prunes_exactly(model)
    gathered = [group for group in units(coupling).values() if "w2:0" in group[0]]
    assert gathered == [[{"w1:1": [w], "b1:0": [w], "w2:0": [y]} for w, y in ((0, 1), (2, 2), (5, 0))]]


def test_windows_slide_over_steps_and_leave_channels_alone() -> None:
    nodes = [
        ms("UnfoldTensor", ["h"], "windows", dim=1, size=3, step=2),
        make_node("ReduceSum", ["windows", "last"], ["y"], keepdims=0),
    ]
    coupling = assert_prunes_exactly(between_matmuls(nodes, {"last": np.array([-1])}))
    assert units(coupling) == {"w1:1": one_by_one(WIDTH, *EVERY)}


def test_windows_over_channels_keep_them() -> None:
    nodes = [
        ms("UnfoldTensor", ["h"], "windows", dim=-1, size=3, step=1),
        make_node("ReduceSum", ["windows", "last"], ["y"], keepdims=0),
    ]
    coupling = analyse(between_matmuls(nodes, {"last": np.array([-1])}, reads=4))
    assert coupling.groups == ()
    assert {r.why for r in coupling.refusals if r.tensor == "b1"} == {"windows slide over it [h:2]"}


def test_numbers_that_count_stay() -> None:
    weights = {"from": np.array(0, np.float32), "to": np.array(6, np.float32)}
    nodes = [ms("Range", ["from", "to"], "count"), make_node("Add", ["h", "count"], ["y"])]
    coupling = analyse(between_matmuls(nodes, weights))
    assert coupling.groups == ()
