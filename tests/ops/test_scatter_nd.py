"""ScatterND: an update goes with the row that it overwrites."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.literals import inputs_of
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned

INT64 = onnx.TensorProto.INT64


def overwritten(indices: np.ndarray, updates: int, **attrs: object) -> onnx.ModelProto:
    """h = w1 [6, 3] x, u = w2 [updates, 3] x; rows `indices` of h become those of u; out = w3 [4, 6] y."""
    return make_model(
        [
            make_node("MatMul", ["w1", "x"], ["h"]),
            make_node("MatMul", ["w2", "x"], ["u"]),
            make_node("ScatterND", ["h", "indices", "u"], ["y"], **attrs),
            make_node("MatMul", ["w3", "y"], ["out"]),
        ],
        {"x": [3, 5]},
        ["out"],
        {"w1": [6, 3], "w2": [updates, 3], "w3": [4, 6], "indices": indices},
        opset=18,
    )


@pytest.mark.parametrize("attrs", [{}, {"reduction": "add"}], ids=["overwritten", "added"])
def test_updates_go_with_their_rows(attrs: dict[str, str]) -> None:
    model = overwritten(np.asarray([[4], [0], [-1]]), 3, **attrs)
    found = units(assert_prunes_exactly(model, seeds=range(4)))
    assert found == {
        "w1:0": [
            {"w1:0": [0], "w2:0": [1], "w3:1": [0]},
            {"w1:0": [4], "w2:0": [0], "w3:1": [4]},
            {"w1:0": [5], "w2:0": [2], "w3:1": [5]},
        ],
        "w1:0#2": [{"w1:0": [i], "w3:1": [i]} for i in (1, 2, 3)],
    }
    edited = pruned(model, {"w1:0": [1, 2], "w1:0#2": [1]})
    assert inputs_of(edited, "ScatterND", 1) == [[[1], [-1]]]


def test_a_block_of_channels_is_overwritten() -> None:
    """y[:, 1:3] = u, as exporters write it: a tuple per (row, channel). Channels go, each with its update."""
    rows, channels = np.meshgrid(np.arange(5), [1, 2], indexing="ij")
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("MatMul", ["x", "w2"], ["u"]),
            make_node("ScatterND", ["h", "indices", "u"], ["y"]),
            make_node("MatMul", ["y", "w3"], ["out"]),
        ],
        {"x": [5, 3]},
        ["out"],
        {"w1": [3, 6], "w2": [3, 2], "w3": [6, 4], "indices": np.stack([rows, channels], -1)},
    )
    coupling = assert_prunes_exactly(model, seeds=range(4))
    assert units(coupling) == {
        "w1:1": [{"w1:1": [i], "w3:0": [i]} for i in (0, 3, 4, 5)],
        "w1:1#2": [{"w1:1": [1 + i], "w2:1": [i], "w3:0": [1 + i]} for i in range(2)],
    }
    edited = pruned(model, {"w1:1": [1], "w1:1#2": [1]})  # 2 and 3 stay
    assert inputs_of(edited, "ScatterND", 1) == [[[[row, 0]] for row in range(5)]]


def test_rows_that_data_addresses_stay_with_all_updates() -> None:
    model = make_model(
        [
            make_node("MatMul", ["w1", "x"], ["h"]),
            make_node("MatMul", ["w2", "x"], ["u"]),
            make_node("ScatterND", ["h", "ids", "u"], ["y"]),
            make_node("MatMul", ["w3", "y"], ["out"]),
        ],
        {"x": [3, 5], "ids": [2, 1]},
        ["out"],
        {"w1": [6, 3], "w2": [2, 3], "w3": [4, 6]},
        input_types={"ids": INT64},
    )
    coupling = analyse(model)
    assert coupling.groups == ()
    whys = {(r.tensor, r.axis): r.why.split(" [")[0] for r in coupling.refusals}
    assert whys["w1", 0] == whys["w2", 0] == whys["w3", 1] == "its indices are addressed by data"
