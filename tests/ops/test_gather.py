"""Gather: constant indices are indexing, repeats tie, a single index stays, tables that data addresses keep rows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.literals import constant, group_with, inputs_of, only
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned
from tests.support.sandwich import between_convs, between_matmuls

INT64 = onnx.TensorProto.INT64


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def taken(indices: np.ndarray, *, axis: int = 1, reads: int | None = None, width: int = 6) -> onnx.ModelProto:
    """x -> Conv w1, b1 of `width` channels -> Gather of `indices` -> Conv w2."""
    return between_convs(
        [make_node("Gather", ["h", "indices"], ["y"], axis=axis)],
        {"indices": indices},
        width=width,
        reads=len(indices) if reads is None else reads,
    )


def test_indices_in_any_order_and_from_the_back() -> None:
    model = taken(ints(3, -1, 0, 1))
    coupling = assert_prunes_exactly(model, seeds=range(5))
    read = {unit["w1:0"][0]: unit["w2:1"] for g in units(coupling).values() for unit in g if "w2:1" in unit}
    assert read == {3: [0], 5: [1], 0: [2], 1: [3]}
    edited = pruned(model, {"w1:0": [1, 2, 3], "w1:0#2": [1]})  # of 0 1 3 5 and 2 4: 1 3 4 5 stay
    assert inputs_of(edited, "Gather", 1) == [[1, -1, 0]]


def test_a_permutation_of_all_channels() -> None:
    coupling = assert_prunes_exactly(taken(ints(2, 0, 1, 5, 3, 4)))
    assert [u["w2:1"] for u in units(coupling)["w1:0"]] == [[1], [2], [0], [4], [5], [3]]


def test_repeats_are_tied() -> None:
    model = taken(ints(0, 1, 0, 2, 2))
    coupling = assert_prunes_exactly(model, only=["w1:0"])
    assert [u["w2:1"] for u in units(coupling)["w1:0"]] == [[0, 2], [1], [3, 4]]
    assert inputs_of(pruned(model, {"w1:0": [0, 2]}), "Gather", 1) == [[0, 0, 1, 1]]


def test_indices_are_left_alone_where_another_axis_changes() -> None:
    model = taken(ints(3, 1, -1), axis=2, reads=6)
    assert inputs_of(pruned(model, {"w1:0": [1, 4]}), "Gather", 1) == [[3, 1, -1]]


def test_indices_that_two_nodes_share_are_copied_for_the_one_that_changes() -> None:
    model = between_convs(
        [
            make_node("Gather", ["h", "indices"], ["g"], axis=1),
            make_node("Gather", ["g", "indices"], ["y"], axis=2),
        ],
        {"indices": ints(3, 1, 2)},
        reads=3,
    )
    assert_prunes_exactly(model, seeds=range(4))
    taken, dead = group_with(model, "w1:0", 1), group_with(model, "w1:0", 0)
    edited = pruned(model, {taken: [0, 2], dead: [0]})  # of 1 2 3 and 0 4 5
    found = [constant(edited, n.input[1]).tolist() for n in edited.graph.node if n.op_type == "Gather"]
    assert found == [[2, 1], [3, 1, 2]]


@pytest.mark.parametrize("index", [np.asarray(2, np.int64), np.asarray(-4, np.int64)], ids=["front", "back"])
def test_a_scalar_index_drops_the_axis_and_stays(index: np.ndarray) -> None:
    model = make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            make_node("Gather", ["h", "index"], ["one"], axis=1),
            make_node("Conv", ["h", "w2"], ["out"]),
        ],
        {"x": [2, 3, 4, 5]},
        ["out", "one"],
        {"w1": [6, 3, 1, 1], "w2": [4, 6, 1, 1], "index": index},
    )
    coupling = assert_prunes_exactly(model)
    assert [u["w1:0"] for u in units(coupling)["w1:0"]] == [[0], [1], [3], [4], [5]]
    edited = pruned(model, {"w1:0": [1, 2]})  # channels 1, 2 and 3 stay
    assert inputs_of(edited, "Gather", 1) == [1 if index > 0 else -2]


def test_an_embedding_keeps_its_rows_and_gives_its_width() -> None:
    model = make_model(
        [
            make_node("Gather", ["table", "ids"], ["h"], axis=0),
            make_node("MatMul", ["h", "w"], ["out"]),
        ],
        {"ids": ["batch", "seq"]},
        ["out"],
        {"table": [9, 6], "w": [6, 4]},
        input_types={"ids": INT64},
    )
    coupling = assert_prunes_exactly(model, bind={"batch": 2, "seq": 3})
    assert units(coupling) == {"table:1": [{"table:1": [i], "w:0": [i]} for i in range(6)]}
    assert {(r.tensor, r.axis): r.why for r in coupling.refusals}["table", 0] == "its indices are addressed by data"


def test_positions_counted_off_from_a_dynamic_length_keep_the_table() -> None:
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Shape", ["x"], ["shape"]),
            make_node("Gather", ["shape", "one"], ["length"], axis=0),
            make_node("Range", ["zero", "length", "one"], ["positions"]),
            make_node("Gather", ["table", "positions"], ["rows"], axis=0),
            make_node("Add", ["h", "rows"], ["y"]),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [2, "seq", 3]},
        ["out"],
        {
            "w1": [3, 6], "w2": [6, 4], "table": [20, 6],
            "zero": np.asarray(0, np.int64), "one": np.asarray(1, np.int64),
        },
    )  # fmt: skip
    coupling = assert_prunes_exactly(model, bind={"seq": 5})
    assert list(units(coupling)) == ["w1:1"]
    assert {(r.tensor, r.axis): r.why for r in coupling.refusals}["table", 0] == (
        "its indices are addressed by a dynamic dimension"
    )


def test_a_static_position_table_may_lose_the_rows_that_nobody_reads() -> None:
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Gather", ["table", "positions"], ["rows"], axis=0),
            make_node("Add", ["h", "rows"], ["y"]),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [2, 5, 3]},
        ["out"],
        {"w1": [3, 6], "w2": [6, 4], "table": [8, 6], "positions": ints(3, 4, 5, 6, 7)},
    )
    coupling = analyse(model)
    assert units(coupling)["table:0"] == [{"table:0": [0]}, {"table:0": [1]}, {"table:0": [2]}]
    edited = pruned(model, {"table:0": [1]})
    assert inputs_of(edited, "Gather", 1) == [[1, 2, 3, 4, 5]]


def test_indices_of_two_axes_split_the_gathered_axis() -> None:
    """y[i, j] = x[idx[i, j]]: removing a row of y removes what it takes from x; indices are renumbered."""
    table = np.arange(6)[::-1].reshape(2, 3)
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Gather", ["h", "indices"], ["grid"], axis=2),
            make_node("Einsum", ["grid", "w2"], ["out"], equation="bnij,ijk->bnk"),
        ],
        {"x": [2, 5, 3]},
        ["out"],
        {"w1": [3, 6], "w2": [2, 3, 4], "indices": table},
    )
    coupling = assert_prunes_exactly(model, seeds=range(4))
    columns = group_with(model, "w1:1", 0, 3)
    assert units(coupling)[columns] == [{"w1:1": [i, 3 + i], "w2:1": [2 - i]} for i in range(3)]
    assert units(coupling)[group_with(model, "w1:1", 0, 1, 2)] == [
        {"w1:1": [0, 1, 2], "w2:0": [1]},
        {"w1:1": [3, 4, 5], "w2:0": [0]},
    ]
    edited = pruned(model, {columns: [0, 2]})
    assert inputs_of(edited, "Gather", 1) == [[[3, 2], [1, 0]]]


def test_indices_from_data_carry_their_own_axes_through() -> None:
    """Rows picked by ArgMax: the picked axis stays, channels go on."""
    model = between_matmuls(
        [
            make_node("ReduceSum", ["x", "last"], ["score"], keepdims=0),
            make_node("ArgMax", ["score"], ["best"], axis=0, keepdims=0),
            make_node("Gather", ["h", "best"], ["y"], axis=1),
        ],
        {"last": ints(-1)},
    )
    coupling = assert_prunes_exactly(model)
    assert units(coupling)["w1:1"] == [{"w1:1": [i], "b1:0": [i], "w2:0": [i]} for i in range(6)]
    assert only(pruned(model, {"w1:1": [2]}), "Gather").input[1] == "best"


def test_an_index_outside_the_axis_freezes() -> None:
    coupling = analyse(taken(ints(0, 9)))
    assert coupling.groups == ()
    assert any("outside it" in r.why for r in coupling.refusals)
