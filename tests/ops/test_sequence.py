"""SplitToSequence and SequenceAt: a Split where the places are known, frozen where they are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.literals import inputs_of, only
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import pruned


def halves(sizes: np.ndarray, places: tuple[int, int] = (0, 1), width: int = 6) -> onnx.ModelProto:
    """x -> Conv w1 -> SplitToSequence -> two SequenceAt -> a Conv of each, added up."""
    parts = sizes if sizes.ndim else np.diff([*range(0, width, int(sizes)), width])
    return make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            make_node("SplitToSequence", ["h", "sizes"], ["parts"], axis=1),
            make_node("SequenceAt", ["parts", "i0"], ["left"]),
            make_node("SequenceAt", ["parts", "i1"], ["right"]),
            make_node("Conv", ["left", "w2"], ["a"]),
            make_node("Conv", ["right", "w3"], ["b"]),
            make_node("Add", ["a", "b"], ["out"]),
        ],
        {"x": [1, 3, 4, 4]},
        ["out"],
        {
            "w1": [width, 3, 1, 1], "w2": [5, int(parts[places[0]]), 1, 1], "w3": [5, int(parts[places[1]]), 1, 1],
            "sizes": sizes, "i0": np.asarray(places[0]), "i1": np.asarray(places[1]),
        },
    )  # fmt: skip


def measured(left: int, right: int) -> dict[str, tuple[int, ...]]:
    """The shapes that onnx cannot infer through a sequence."""
    return {"left": (1, left, 4, 4), "right": (1, right, 4, 4)}


def test_listed_sizes() -> None:
    model = halves(np.asarray([2, 4]), (0, -1))
    coupling = assert_prunes_exactly(model, measured=measured(2, 4), seeds=range(4))
    assert units(coupling) == {
        "w1:0": [{"w1:0": [i], "w2:1": [i]} for i in range(2)],
        "w1:0#2": [{"w1:0": [2 + i], "w3:1": [i]} for i in range(4)],
    }
    edited = pruned(model, {"w1:0#2": [0, 1, 3]}, measured=measured(2, 4))
    assert inputs_of(edited, "SplitToSequence", 1) == [[2, 3]]


def test_a_chunk_size_stays_while_it_fits() -> None:
    model = halves(np.asarray(3))
    coupling = assert_prunes_exactly(model, measured=measured(3, 3), seeds=range(4))
    assert len(units(coupling)["w1:0"]) == 3
    shorter = pruned(model, {"w1:0#2": [0, 2]}, measured=measured(3, 3))
    assert only(shorter, "SplitToSequence") == only(model, "SplitToSequence")
    assert inputs_of(shorter, "SplitToSequence", 1) == [3]
    uneven = pruned(model, {"w1:0": [1]}, measured=measured(3, 3))
    assert inputs_of(uneven, "SplitToSequence", 1) == [[1, 3]]


def test_a_part_that_nobody_reads_may_go() -> None:
    model = halves(np.asarray([2, 2, 2]), (0, 2))
    coupling = analyse(model, measured=measured(2, 2))
    assert {name: len(members) for name, members in units(coupling).items()} == {"w1:0": 2, "w1:0#2": 2, "w1:0#3": 2}
    edited = pruned(model, {"w1:0#2": [0], "w1:0#3": [1]}, measured=measured(2, 2))
    assert inputs_of(edited, "SplitToSequence", 1) == [[2, 1, 1]]


@pytest.mark.parametrize("keepdims", [0, 1])
def test_indices_taken_one_by_one_stay(keepdims: int) -> None:
    """torch.unbind over channels; the other axes are not touched."""
    model = make_model(
        [
            make_node("MatMul", ["w1", "x"], ["h"]),
            make_node("SplitToSequence", ["h"], ["parts"], axis=0, keepdims=keepdims),
            make_node("SequenceAt", ["parts", "i"], ["one"]),
            make_node("MatMul", ["one", "w2"], ["out"]),
        ],
        {"x": [2, 3, 5]},
        ["out"],
        {"w1": [2, 6, 3], "w2": [5, 4], "i": np.asarray(1)},
    )
    one = (6, 5) if not keepdims else (1, 6, 5)
    coupling = analyse(model, measured={"one": one, "out": (*one[:-1], 4)})
    assert {r.why.split(" [")[0] for r in coupling.refusals if r.tensor == "w1" and r.axis == 0} == {
        "its indices are taken one by one"
    }


def test_a_place_from_data_freezes() -> None:
    model = halves(np.asarray([2, 4]))
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == "i1"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("i1", onnx.TensorProto.INT64, []))
    coupling = analyse(model, measured=measured(2, 4))
    assert coupling.groups == ()
    assert {r.op for r in coupling.refusals if (r.tensor, r.axis) == ("w1", 0)} == {"SplitToSequence"}
