"""GatherND: rows by constant tuples are indexing, blocks are followed index by index, all else stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.ops.gather_nd import block_axes
from tests.support.literals import group_with, inputs_of
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned

INT64 = onnx.TensorProto.INT64


def picked(indices: np.ndarray, w2: list[int], equation: str) -> onnx.ModelProto:
    """x [3, 5] -> w1 [6, 3] x -> h [6, 5] -> GatherND of `indices` -> y -> Einsum with w2."""
    return make_model(
        [
            make_node("MatMul", ["w1", "x"], ["h"]),
            make_node("GatherND", ["h", "indices"], ["y"]),
            make_node("Einsum", ["y", "w2"], ["out"], equation=equation),
        ],
        {"x": [3, 5]},
        ["out"],
        {"w1": [6, 3], "w2": w2, "indices": indices},
    )


def test_rows_by_tuples_of_one() -> None:
    model = picked(np.asarray([[4], [0], [-1], [4]]), [4, 2], "rn,rk->nk")
    coupling = assert_prunes_exactly(model, only=["w1:0"], seeds=range(4))
    assert units(coupling)["w1:0"] == [
        {"w1:0": [0], "w2:0": [1]},
        {"w1:0": [4], "w2:0": [0, 3]},
        {"w1:0": [5], "w2:0": [2]},
    ]
    edited = pruned(model, {"w1:0": [1, 2], "w1:0#2": [1]})  # of 0 4 5 and 1 2 3: 2 4 5 stay
    assert inputs_of(edited, "GatherND", 1) == [[[1], [-1], [1]]]


def test_rows_in_two_axes_are_factors() -> None:
    """How exporters spell as_strided: an N-D list of places in a flat tensor."""
    model = picked(np.arange(6).reshape(2, 3, 1), [2, 3, 2], "abn,abk->nk")
    coupling = assert_prunes_exactly(model, seeds=range(4))
    columns = group_with(model, "w1:0", 0, 3)
    assert units(coupling)[columns] == [{"w1:0": [i, 3 + i], "w2:1": [i]} for i in range(3)]
    assert units(coupling)[group_with(model, "w1:0", 0, 1, 2)] == [
        {"w1:0": [0, 1, 2], "w2:0": [0]},
        {"w1:0": [3, 4, 5], "w2:0": [1]},
    ]
    edited = pruned(model, {columns: [0, 2]})
    assert inputs_of(edited, "GatherND", 1) == [[[[0], [1]], [[2], [3]]]]


def test_a_block_of_tuples_follows_each_axis() -> None:
    """y[i, j] = x[rows[i], columns[j]], as x[1:4, ::2] is exported."""
    rows, columns = np.meshgrid([1, 5, 2], [0, 4], indexing="ij")
    model = picked(np.stack([rows, columns], -1), [3, 2], "rn,rk->nk")
    taken = group_with(model, "w1:0", 1)
    coupling = assert_prunes_exactly(model, only=[taken], seeds=range(4))
    assert units(coupling)[taken] == [
        {"w1:0": [1], "w2:0": [0]},
        {"w1:0": [2], "w2:0": [2]},
        {"w1:0": [5], "w2:0": [1]},
    ]
    edited = pruned(model, {taken: [0, 2], group_with(model, "w1:0", 0): [0]})  # 0, 1 and 5 stay
    assert inputs_of(edited, "GatherND", 1) == [[[[1, 0], [1, 4]], [[2, 0], [2, 4]]]]


def test_scattered_tuples_stay() -> None:
    coupling = analyse(picked(np.asarray([[1, 0], [2, 3], [4, 4]]), [3, 2], "r,rk->k"))
    assert coupling.groups == ()
    assert {r.why.split(" [")[0] for r in coupling.refusals if r.tensor == "w1" and r.axis == 0} == {
        "tuples of indices that span no block"
    }


def test_axes_that_data_addresses_stay_and_the_others_go_on() -> None:
    model = make_model(
        [
            make_node("GatherND", ["table", "ids"], ["y"]),
            make_node("MatMul", ["y", "w"], ["out"]),
        ],
        {"ids": [2, 3, 1]},
        ["out"],
        {"table": [9, 6], "w": [6, 4]},
        input_types={"ids": INT64},
    )
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"table:1": [{"table:1": [i], "w:0": [i]} for i in range(6)]}
    assert {(r.tensor, r.axis): r.why for r in coupling.refusals}["table", 0] == "its indices are addressed by data"


def test_batch_axes_go_together() -> None:
    """batch_dims=1: x [B, R, C], indices [B, K, 1]; C is free, R and K are not."""
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("GatherND", ["h", "ids"], ["y"], batch_dims=1),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [2, 5, 3]},
        ["out"],
        {"w1": [3, 6], "w2": [6, 4], "ids": np.asarray([[[0], [3]], [[4], [4]]])},
    )
    assert units(assert_prunes_exactly(model)) == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(6)]}


@pytest.mark.parametrize(
    ("tuples", "along"),
    [
        ([[[1, 0], [1, 4]], [[2, 0], [2, 4]]], [0, 1]),
        ([[[0, 1], [4, 1]], [[0, 2], [4, 2]]], [1, 0]),
        ([[3, 0], [3, 4]], [None, 0]),
        ([[1, 0], [2, 4]], None),
        ([[3, 3], [3, 3]], None),
    ],
    ids=["block", "turned", "one constant", "diagonal", "repeated"],
)
def test_block_axes(tuples: list[object], along: list[int | None] | None) -> None:
    assert block_axes(np.asarray(tuples)) == along
