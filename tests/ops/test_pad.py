"""Pad: what is added around an axis is prunable by itself, and the pads count what is left of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly
from tests.support.pruned import array, attributes, pruned

Weights = dict[str, np.ndarray | list[int]]


def option_a(opset: int = 17, *, value: float | None = None, axes: bool = False) -> onnx.ModelProto:
    """A ResNet of two stages without projection: every second place of 4 channels, padded by 2 and 2 to 8.

    x [1, 3, 6, 6] -> Conv stem to 4 -> a branch (Conv down to 8, stride 2) + (Slice, Pad) -> Relu -> Conv out to 2.
    """
    weights: Weights = {
        "stem": [4, 3, 1, 1], "down": [8, 4, 3, 3], "last": [2, 8, 1, 1],
        "starts": np.array([0, 0]), "ends": np.array([6, 6]), "places": np.array([2, 3]), "steps": np.array([2, 2]),
    }  # fmt: skip
    inputs, attrs = ["s"], {}
    if opset < 11:
        attrs = {"pads": [0, 2, 0, 0, 0, 2, 0, 0], "value": value or 0.0}
    else:
        weights["pads"] = np.array([2, 2] if axes else [0, 2, 0, 0, 0, 2, 0, 0])
        inputs.append("pads")
        if value is not None or axes:
            weights["value"] = np.array(value or 0, np.float32)
            inputs.append("value")
        if axes:
            weights["axes"] = np.array([-3])
            inputs.append("axes")
    nodes = [
        make_node("Conv", ["x", "stem"], ["a"]),
        make_node("Conv", ["a", "down"], ["branch"], strides=[2, 2], pads=[1, 1, 1, 1]),
        make_node("Slice", ["a", "starts", "ends", "places", "steps"], ["s"]),
        make_node("Pad", inputs, ["shortcut"], **attrs),
        make_node("Add", ["branch", "shortcut"], ["sum"]),
        make_node("Relu", ["sum"], ["r"]),
        make_node("Conv", ["r", "last"], ["out"]),
    ]
    return make_model(nodes, {"x": [1, 3, 6, 6]}, ["out"], weights, opset=opset)


PADDED = {"down:0": [{"down:0": [i], "last:1": [i]} for i in (0, 1, 6, 7)]}
CARRIED = {"stem:0": [{"stem:0": [i], "down:0": [2 + i], "down:1": [i], "last:1": [2 + i]} for i in range(4)]}


@pytest.mark.parametrize(
    ("opset", "axes"), [(10, False), (11, False), (13, False), (18, False), (18, True), (21, True)]
)
def test_option_a_shortcut(opset: int, axes: bool) -> None:
    coupling = assert_prunes_exactly(option_a(opset, axes=axes))
    assert units(coupling) == CARRIED | PADDED


def test_padding_with_another_value_is_as_exact() -> None:
    assert units(assert_prunes_exactly(option_a(value=1.5))) == CARRIED | PADDED


def test_pads_count_the_added_channels_that_are_left() -> None:
    # units of down:0 are the added channels 0, 1 | 6, 7
    after = pruned(option_a(), {"down:0": [0, 2, 3], "stem:0": [0, 1, 3]})
    assert array(after, "pads").tolist() == [0, 1, 0, 0, 0, 2, 0, 0]
    assert array(pruned(option_a(), {"down:0": [3]}), "pads").tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert array(pruned(option_a(18, axes=True), {"down:0": [0, 1]}), "pads").tolist() == [2, 0]
    assert attributes(pruned(option_a(10), {"down:0": [1, 2]}), "Pad")["pads"] == [0, 1, 0, 0, 0, 1, 0, 0]


def crop(pads: list[int], width: int, opset: int = 17) -> onnx.ModelProto:
    """x [1, 3, 4, 4] -> Conv to 5 channels, which another Conv reads too -> Pad of channels -> Conv from `width`."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Conv", ["a", "w3"], ["side"]),
        make_node("Pad", ["a", "pads"], ["b"]),
        make_node("Conv", ["b", "w2"], ["c"]),
        make_node("Add", ["side", "c"], ["out"]),
    ]
    weights: Weights = {
        "w1": [5, 3, 1, 1], "w2": [2, width, 1, 1], "w3": [2, 5, 1, 1],
        "pads": np.array([0, pads[0], 0, 0, 0, pads[1], 0, 0]),
    }  # fmt: skip
    return make_model(nodes, {"x": [1, 3, 4, 4]}, ["out"], weights, opset=opset)


def test_a_negative_pad_crops() -> None:
    """[0 1 2 3 4] without the first one and the last two."""
    model = crop([-1, -2], 2)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "w1:0": [{"w1:0": [i], "w3:1": [i]} for i in (0, 3, 4)],
        "w1:0#2": [{"w1:0": [1], "w2:1": [0], "w3:1": [1]}, {"w1:0": [2], "w2:1": [1], "w3:1": [2]}],
    }
    assert array(pruned(model, {"w1:0": [0, 2]}), "pads").tolist() == [0, -1, 0, 0, 0, -1, 0, 0]
    assert array(pruned(model, {"w1:0": [1], "w1:0#2": [1]}), "pads").tolist() == [0, 0, 0, 0, 0, -1, 0, 0]


def test_a_crop_before_and_room_after() -> None:
    model = crop([-2, 3], 6)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {
        "w1:0": [{"w1:0": [i], "w3:1": [i]} for i in (0, 1)],
        "w1:0#2": [{"w1:0": [i], "w2:1": [i - 2], "w3:1": [i]} for i in (2, 3, 4)],
        "w2:1": [{"w2:1": [i]} for i in (3, 4, 5)],
    }
    after = pruned(model, {"w1:0": [1], "w1:0#2": [0, 2], "w2:1": [1]})
    assert array(after, "pads").tolist() == [0, -1, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_channels_padded_with_channels_stay(mode: str) -> None:
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Pad", ["a", "pads"], ["b"], mode=mode),
        make_node("Conv", ["b", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [4, 3, 1, 1], "w2": [2, 6, 1, 1], "pads": np.array([0, 1, 0, 0, 0, 1, 0, 0])}
    coupling = analyse(make_model(nodes, {"x": [1, 3, 4, 4]}, ["out"], weights, opset=19))
    assert units(coupling) == {}
    why = f"padded with its own elements (mode {mode}) [b:1]"
    assert [(r.op, r.why) for r in coupling.refusals if (r.tensor, r.axis) == ("w2", 1)] == [("Pad", why)]


@pytest.mark.parametrize(("mode", "opset"), [("constant", 7), ("reflect", 13), ("edge", 17), ("wrap", 19)])
def test_padded_places_leave_channels_alone(mode: str, opset: int) -> None:
    pads = [0, 0, 1, 2, 0, 0, 1, 0]
    as_input = opset >= 11
    attrs = {"mode": mode} if as_input else {"mode": mode, "pads": pads}
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Pad", ["a", "pads"] if as_input else ["a"], ["b"], **attrs),
        make_node("Conv", ["b", "w2"], ["out"]),
    ]
    weights: Weights = {"w1": [4, 3, 1, 1], "w2": [2, 4, 1, 1]} | ({"pads": np.array(pads)} if as_input else {})
    model = make_model(nodes, {"x": [1, 3, 4, 4]}, ["out"], weights, opset=opset)
    assert units(assert_prunes_exactly(model)) == {"w1:0": [{"w1:0": [i], "w2:1": [i]} for i in range(4)]}


def test_pads_of_opset_1_have_another_name() -> None:
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Pad", ["a"], ["b"], paddings=[0, 1, 0, 0, 0, 0, 0, 0]),
        make_node("Conv", ["b", "w2"], ["out"]),
    ]
    model = make_model(nodes, {"x": [1, 3, 4, 4]}, ["out"], {"w1": [4, 3, 1, 1], "w2": [2, 5, 1, 1]}, opset=1)
    measured = {"b": (1, 5, 4, 4), "out": (1, 2, 4, 4)}
    assert units(analyse(model, measured=measured)) == {"w1:0": [{"w1:0": [i], "w2:1": [1 + i]} for i in range(4)]}
    after = pruned(model, {"w1:0": [0, 3]}, measured=measured)
    assert attributes(after, "Pad")["paddings"] == [0, 1, 0, 0, 0, 0, 0, 0]


def test_pads_from_a_dynamic_dimension_freeze_the_axes_they_pad() -> None:
    """Padded to a multiple of 4 at run time: none at the bound size, some at another; the channels' pads are 0."""
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Shape", ["x"], ["shape"], start=2, end=3),
        make_node("Neg", ["shape"], ["minus"]),
        make_node("Mod", ["minus", "four"], ["missing"]),
        make_node("Concat", ["zeros", "missing", "zero"], ["pads"], axis=0),
        make_node("Pad", ["a", "pads"], ["b"]),
        make_node("Add", ["b", "table"], ["t"]),
        make_node("Conv", ["t", "w2"], ["out"]),
    ]
    weights: Weights = {
        "w1": [4, 3, 1, 1], "w2": [2, 4, 1, 1], "table": [1, 4, 1, 8],
        "four": np.array([4]), "zeros": np.zeros(6, np.int64), "zero": np.array([0]),
    }  # fmt: skip
    model = make_model(nodes, {"x": [1, 3, "height", 8]}, ["out"], weights)
    coupling = assert_prunes_exactly(model, bind={"height": 6})
    assert units(coupling) == {"w1:0": [{"w1:0": [i], "table:1": [i], "w2:1": [i]} for i in range(4)]}


def test_pads_that_vary_on_the_channels_freeze_them() -> None:
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Shape", ["x"], ["height"], start=2, end=3),
        make_node("Concat", ["zero", "height", "zeros"], ["pads"], axis=0),
        make_node("Pad", ["a", "pads"], ["b"]),
        make_node("ReduceSum", ["b", "axis"], ["out"]),
    ]
    weights: Weights = {
        "w1": [4, 3, 1, 1], "zero": np.array([0]), "zeros": np.zeros(6, np.int64), "axis": np.array([1]),
    }  # fmt: skip
    model = make_model(nodes, {"x": [1, 3, "height", 8]}, ["out"], weights)
    coupling = analyse(model, bind={"height": 2})
    assert units(coupling) == {}
    (why,) = [r.why for r in coupling.refusals if (r.tensor, r.axis) == ("w1", 0)]
    assert why == "how much it is padded depends on a dynamic dimension [a:1]"


def test_a_padded_axis_of_length_1_keeps_its_index() -> None:
    """One channel between two added ones: the added ones may go, one of them at a time."""
    nodes = [
        make_node("ReduceSum", ["x", "axis"], ["a"]),
        make_node("Pad", ["a", "pads"], ["b"], mode="constant"),
        make_node("Add", ["b", "bias"], ["c"]),
        make_node("Conv", ["c", "w2"], ["out"]),
    ]
    weights: Weights = {
        "axis": np.array([1]), "pads": np.array([0, 1, 0, 0, 0, 2, 0, 0]), "bias": [1, 4, 1, 1], "w2": [2, 4, 1, 1],
    }  # fmt: skip
    model = make_model(nodes, {"x": [1, 3, 4, 4]}, ["out"], weights)
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w2:1": [{"bias:1": [i], "w2:1": [i]} for i in (0, 2, 3)]}
    assert array(pruned(model, {"w2:1": [1]}), "pads").tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_pads_from_data_decline() -> None:
    nodes: list[Any] = [make_node("Pad", ["x", "pads"], ["p"]), make_node("MatMul", ["p", "w"], ["out"])]
    model = make_model(nodes, {"x": [2, 3], "pads": [4]}, ["out"], {"w": [5, 4]}, input_types={"pads": 7})
    measured = {"p": (2, 5), "out": (2, 4)}
    coupling = analyse(model, measured=measured, allow_io_change=["x"])
    assert [r.why for r in coupling.refusals if (r.tensor, r.axis) == ("w", 0)] == [
        "input 1 (pads) is computed from data [p:1]"
    ]


def test_a_padded_axis_of_length_1_is_kept_by_what_folds_it() -> None:
    """[added, x, added, added] read as 2 x 2: neither the row nor the column of x's only index may go."""
    nodes = [
        make_node("ReduceSum", ["x", "axis"], ["a"]),
        make_node("Pad", ["a", "pads"], ["b"]),
        make_node("Add", ["b", "bias"], ["c"]),
        make_node("Reshape", ["c", "square"], ["d"]),
        make_node("MatMul", ["d", "w2"], ["e"]),
        make_node("ReduceSum", ["e", "axis"], ["out"]),
    ]
    weights: Weights = {
        "axis": np.array([1]), "pads": np.array([0, 1, 0, 2]), "bias": [1, 4],
        "square": np.array([2, 2, 2]), "w2": [2, 3],
    }  # fmt: skip
    coupling = analyse(make_model(nodes, {"x": [2, 3]}, ["out"], weights))
    assert units(coupling) == {}
    whys = {r.why.split(" [")[0] for r in coupling.refusals if (r.tensor, r.axis) == ("bias", 1)}
    assert whys == {"1 of 4 indices: the only index of what is padded"}
