"""GatherElements, ScatterElements and Scatter: the addressed axis stays, the others are prefixes of x's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly


def gathered(columns: int) -> onnx.ModelProto:
    """h [5, 6] -> GatherElements along rows by stored indices [3, columns] -> y -> MatMul w2."""
    indices = np.random.default_rng(0).integers(0, 5, (3, columns))
    return make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("GatherElements", ["h", "indices"], ["y"], axis=0),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [5, 3]},
        ["out"],
        {"w1": [3, 6], "w2": [columns, 4], "indices": indices},
    )


def test_a_channel_takes_its_column_of_indices_along() -> None:
    coupling = assert_prunes_exactly(gathered(6))
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "indices:1": [i], "w2:0": [i]} for i in range(6)]}


def test_fewer_columns_are_the_first_ones() -> None:
    coupling = assert_prunes_exactly(gathered(4), only=["w1:1"])
    assert units(coupling)["w1:1"] == [{"w1:1": [i], "indices:1": [i], "w2:0": [i]} for i in range(4)]
    assert units(coupling)["w1:1#2"] == [{"w1:1": [4]}, {"w1:1": [5]}]


def test_the_addressed_axis_stays() -> None:
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("GatherElements", ["h", "ids"], ["y"], axis=1),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [5, 3], "ids": [5, 4]},
        ["out"],
        {"w1": [3, 6], "w2": [4, 4]},
        input_types={"ids": onnx.TensorProto.INT64},
    )
    coupling = analyse(model)
    assert coupling.groups == ()
    assert "each element has an index of its own along it" in {r.why.split(" [")[0] for r in coupling.refusals}


@pytest.mark.parametrize(("op", "opset"), [("ScatterElements", 11), ("ScatterElements", 18), ("Scatter", 9)])
def test_scattered_updates_go_with_their_channel(op: str, opset: int) -> None:
    indices = np.random.default_rng(0).permuted(np.tile(np.arange(5), (6, 1)), axis=1).T[:2]
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("MatMul", ["z", "w2"], ["u"]),
            make_node(op, ["h", "indices", "u"], ["y"], axis=0),
            make_node("MatMul", ["y", "w3"], ["out"]),
        ],
        {"x": [5, 3], "z": [2, 3]},
        ["out"],
        {"w1": [3, 6], "w2": [3, 6], "w3": [6, 4], "indices": np.ascontiguousarray(indices)},
        opset=opset,
    )
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:1": [i], "w3:0": [i], "indices:1": [i]} for i in range(6)]}
