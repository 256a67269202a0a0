"""Trilu: the axes that a triangle is cut from stay, those in front of them do not."""

from __future__ import annotations

import numpy as np
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.sandwich import between_convs, between_matmuls, one_by_one


def test_channels_in_front_go() -> None:
    nodes = [make_node("Trilu", ["h", "k"], ["y"], upper=0)]
    model = between_convs(nodes, {"k": np.asarray(1, np.int64)})
    assert units(assert_prunes_exactly(model)) == {"w1:0": one_by_one(6, "w1:0", "b1:0", "w2:1")}


def test_rows_and_columns_stay() -> None:
    coupling = analyse(between_matmuls([make_node("Trilu", ["h"], ["y"])]))
    assert coupling.groups == ()
    assert "a triangle is cut by position" in {r.why.split(" [")[0] for r in coupling.refusals}


def test_a_mask_over_scores_leaves_heads_alone() -> None:
    model = make_model(
        [
            make_node("MatMul", ["q", "k"], ["scores"]),
            make_node("Trilu", ["scores"], ["masked"], upper=0),
            make_node("MatMul", ["masked", "v"], ["out0"]),
            make_node("ReduceSum", ["out0", "heads"], ["out"], keepdims=0),
        ],
        {"x": [1, 4, 3]},
        ["out"],
        {"q": [5, 4, 2], "k": [5, 2, 4], "v": [5, 4, 3], "heads": np.asarray([0])},
    )
    coupling = analyse(model)
    assert {g.name: g.size for g in coupling.groups}["q:0"] == 5
