"""Each direction of a recurrent operator loses hidden units of its own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.ops.recurrent import GATES
from tests.support.balanced import assert_changes_places, members
from tests.support.models import make_model

STEPS, BATCH, READS, HIDDEN = 4, 2, 3, 5


def both_ways(op: str) -> onnx.ModelProto:
    """x [4, 2, 3] -> op of 5 hidden units forwards and 5 backwards -> side by side -> MatMul."""
    gates = GATES[op]
    nodes = [
        make_node(op, ["x", "w", "r", "b"], ["y"], hidden_size=HIDDEN, direction="bidirectional"),
        make_node("Transpose", ["y"], ["last"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["last", "join"], ["joined"]),
        make_node("MatMul", ["joined", "w_out"], ["out"]),
    ]
    weights = {
        "w": [2, gates * HIDDEN, READS], "r": [2, gates * HIDDEN, HIDDEN], "b": [2, 2 * gates * HIDDEN],
        "w_out": [2 * HIDDEN, 2], "join": np.asarray([0, 0, -1], np.int64),
    }  # fmt: skip
    return make_model(nodes, {"x": [STEPS, BATCH, READS]}, ["out"], weights)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_hidden_units_of_each_direction(op: str) -> None:
    coupling = assert_changes_places(both_ways(op))
    gates = GATES[op]

    def rows(count: int) -> list[list[list[int]]]:
        return [[[g * HIDDEN + h for g in range(count)] for h in range(HIDDEN)]]

    assert list(members(coupling).values()) == [
        {
            "w:1 by w:0": rows(gates),
            "r:1 by r:0": rows(gates),
            "r:2 by r:0": rows(1),
            "b:1 by b:0": rows(2 * gates),
            "w_out:0": [[[d * HIDDEN + h] for h in range(HIDDEN)] for d in range(2)],
        }
    ]
