"""Split of every opset: outputs are runs of x's axis; sizes are written out only where they must be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.literals import inputs_of, only
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import attributes, pruned


def halves(opset: int, sizes: list[int] | None = None, *, width: int = 6, **attrs: object) -> onnx.ModelProto:
    """x -> Conv w1 of `width` channels -> Split into left and right -> a Conv of each, added up."""
    inputs, weights = ["h"], {}
    if sizes is not None and opset < 13:
        attrs["split"] = sizes
    elif sizes is not None:
        inputs.append("sizes")
        weights["sizes"] = np.asarray(sizes, np.int64)
    first = sizes[0] if sizes else -(-width // 2)
    return make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            make_node("Split", inputs, ["left", "right"], axis=1, **attrs),
            make_node("Conv", ["left", "w2"], ["a"]),
            make_node("Conv", ["right", "w3"], ["b"]),
            make_node("Add", ["a", "b"], ["out"]),
        ],
        {"x": [1, 3, 4, 4]},
        ["out"],
        {"w1": [width, 3, 1, 1], "w2": [5, first, 1, 1], "w3": [5, width - first, 1, 1], **weights},
        opset=opset,
    )


def runs(width: int, first: int) -> dict[str, list[dict[str, list[int]]]]:
    return {
        "w1:0": [{"w1:0": [i], "w2:1": [i]} for i in range(first)],
        "w1:0#2": [{"w1:0": [first + i], "w3:1": [i]} for i in range(width - first)],
    }


@pytest.mark.parametrize("opset", [7, 11, 13, 18])
def test_stated_sizes(opset: int) -> None:
    model = halves(opset, [2, 4])
    assert units(assert_prunes_exactly(model, seeds=range(4))) == runs(6, 2)
    edited = pruned(model, {"w1:0": [1], "w1:0#2": [0, 3]})
    assert (attributes(edited, "Split").get("split") or inputs_of(edited, "Split", 1)[0]) == [1, 2]


@pytest.mark.parametrize(("opset", "attrs"), [(7, {}), (11, {}), (13, {}), (18, {"num_outputs": 2})])
def test_equal_parts_stay_implied_while_they_are_equal(opset: int, attrs: dict[str, int]) -> None:
    model = halves(opset, **attrs)
    assert units(assert_prunes_exactly(model, seeds=range(4))) == runs(6, 3)
    edited = pruned(model, {"w1:0": [0, 2], "w1:0#2": [1, 2]})
    assert only(edited, "Split") == only(model, "Split")


@pytest.mark.parametrize(("opset", "attrs"), [(7, {}), (11, {}), (13, {}), (18, {"num_outputs": 2})])
def test_parts_that_are_no_longer_equal_are_stated(opset: int, attrs: dict[str, int]) -> None:
    edited = pruned(halves(opset, **attrs), {"w1:0": [0], "w1:0#2": [0, 1, 2]})
    if opset < 13:
        assert attributes(edited, "Split") == {"axis": 1, "split": [1, 3]}
    else:
        assert attributes(edited, "Split") == {"axis": 1}
        assert inputs_of(edited, "Split", 1) == [[1, 3]]


def test_the_last_part_may_be_shorter_since_opset_18() -> None:
    model = halves(18, width=7, num_outputs=2)
    assert units(assert_prunes_exactly(model, seeds=range(4))) == runs(7, 4)
    shorter = pruned(model, {"w1:0": [0, 1, 2], "w1:0#2": [0, 1]})
    assert attributes(shorter, "Split") == {"axis": 1, "num_outputs": 2}
    longer = pruned(model, {"w1:0": [0, 1], "w1:0#2": [0, 1, 2]})
    assert attributes(longer, "Split") == {"axis": 1}
    assert inputs_of(longer, "Split", 1) == [[2, 3]]


def test_an_output_without_a_name_takes_its_indices() -> None:
    model = make_model(
        [
            make_node("Conv", ["x", "w1"], ["h"]),
            make_node("Split", ["h", "sizes"], ["left", "", "right"], axis=1),
            make_node("Concat", ["left", "right"], ["joined"], axis=1),
            make_node("Conv", ["joined", "w2"], ["out"]),
        ],
        {"x": [1, 3, 4, 4]},
        ["out"],
        {"w1": [9, 3, 1, 1], "w2": [5, 5, 1, 1], "sizes": np.asarray([2, 4, 3])},
    )
    coupling = analyse(model)
    assert units(coupling) == {
        "w1:0": [{"w1:0": [i], "w2:1": [i]} for i in range(2)],
        "w1:0#2": [{"w1:0": [i]} for i in range(2, 6)],
        "w1:0#3": [{"w1:0": [6 + i], "w2:1": [2 + i]} for i in range(3)],
    }
    edited = pruned(model, {"w1:0#2": [1], "w1:0#3": [0, 2]})
    assert inputs_of(edited, "Split", 1) == [[2, 1, 2]]


def test_a_part_of_one_index_keeps_it() -> None:
    coupling = analyse(halves(13, [1, 5]))
    assert units(coupling) == {"w1:0": [{"w1:0": [1 + i], "w3:1": [i]} for i in range(5)]}
    assert "1 of 6 indices: the only index of an output of Split [h:1]" in {r.why for r in coupling.refusals}


def test_sizes_from_a_dynamic_dimension_freeze_their_axis_only() -> None:
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Shape", ["x"], ["shape"]),
            make_node("Slice", ["shape", "one", "two"], ["length"]),
            make_node("Sub", ["length", "one"], ["rest"]),
            make_node("Concat", ["one", "rest"], ["sizes"], axis=0),
            make_node("Split", ["h", "sizes"], ["token", "patches"], axis=1),
            make_node("MatMul", ["token", "w2"], ["a"]),
            make_node("MatMul", ["patches", "w3"], ["b"]),
        ],
        {"x": [2, "seq", 3]},
        ["a", "b"],
        {"w1": [3, 6], "w2": [6, 4], "w3": [6, 4], "one": np.asarray([1]), "two": np.asarray([2])},
    )
    coupling = assert_prunes_exactly(model, bind={"seq": 5})
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:0": [i], "w3:0": [i]} for i in range(6)]}
