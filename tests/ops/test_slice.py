"""Slice: which channels it ties, what its bounds become, when it turns into a Gather, and what it freezes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from onnxprune.analyse import analyse
from tests.support.literals import inputs_of, ops
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly, run
from tests.support.pruned import attributes, pruned
from tests.support.sandwich import between_convs, between_matmuls

FAR = 2**63 - 1


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def sliced(start: int, end: int, step: int = 1, *, axis: int = 1, width: int = 6, opset: int = 17) -> onnx.ModelProto:
    """x -> Conv w1, b1 of `width` channels -> Slice -> Conv w2; the axis is channels unless told."""
    reads = len(range(*slice(start, end, step).indices(width))) if axis == 1 else width
    return between_convs(
        [make_node("Slice", ["h", "start", "end", "axis", "step"], ["y"])],
        {"start": ints(start), "end": ints(end), "axis": ints(axis), "step": ints(step)},
        width=width,
        reads=reads,
        opset=opset,
    )


@pytest.mark.parametrize(
    ("bounds", "taken"),
    [
        ((1, 5, 1), [1, 2, 3, 4]),
        ((-4, FAR, 1), [2, 3, 4, 5]),
        ((0, -2, 1), [0, 1, 2, 3]),
        ((-100, 4, 1), [0, 1, 2, 3]),
        ((1, FAR, 2), [1, 3, 5]),
        ((5, -100, -1), [5, 4, 3, 2, 1, 0]),
        ((-1, -FAR, -2), [5, 3, 1]),
        ((FAR, 2, -1), [5, 4, 3]),
    ],
    ids=str,
)
def test_channels_taken_are_those_of_numpy(bounds: tuple[int, int, int], taken: list[int]) -> None:
    found = units(assert_prunes_exactly(sliced(*bounds), seeds=range(5)))
    every = [unit for group in found.values() for unit in group]
    read = {unit["w1:0"][0]: unit["w2:1"] for unit in every if "w2:1" in unit}
    assert read == {channel: [place] for place, channel in enumerate(taken)}
    dead = [unit["w1:0"] for unit in every if "w2:1" not in unit]
    left_out = [[c] for c in range(6) if c not in taken]
    assert dead == (left_out if len(left_out) > 1 else []), "a single dead channel is no group to choose from"


@pytest.mark.parametrize(
    ("bounds", "kept", "after"),
    [
        ((1, 5, 1), {"w1:0#2": [0, 2]}, ([1], [3], [1])),
        ((2, FAR, 1), {"w1:0": [1], "w1:0#2": [1, 3]}, ([1], [FAR], [1])),
        ((2, 6, 1), {"w1:0#2": [0, 3]}, ([2], [6], [1])),
        ((0, -2, 1), {"w1:0": [0, 2]}, ([0], [-2], [1])),
        ((0, -2, 1), {"w1:0#2": [0]}, ([0], [4], [1])),
        ((5, -100, -1), {"w1:0": [0, 1, 4]}, ([5], [-100], [-1])),
        ((FAR, 2, -1), {"w1:0": [0]}, ([FAR], [0], [-1])),
        ((FAR, 0, -2), {"w1:0": [0], "w1:0#2": [0, 1]}, ([FAR], [0], [-1])),
        ((1, FAR, 2), {"w1:0": [0], "w1:0#2": [0, 1, 2]}, ([1], [FAR], [1])),
    ],
    ids=str,
)
def test_bounds_change_as_little_as_they_can(
    bounds: tuple[int, int, int], kept: dict[str, list[int]], after: tuple[list[int], ...]
) -> None:
    model = sliced(*bounds)
    assert inputs_of(pruned(model, kept), "Slice", 1, 2, 4) == list(after)


def test_a_stride_that_is_left_irregular_becomes_a_gather() -> None:
    model = sliced(0, FAR, 2, width=8)
    edited = pruned(model, {"w1:0": [0, 2, 3], "w1:0#2": [0, 3]})  # of 0 2 4 6 and of 1 3 5 7; 0 1 4 6 7 stay
    assert ops(edited) == ["Conv", "Gather", "Conv"]
    assert inputs_of(edited, "Gather", 1) == [[0, 2, 3]]
    assert attributes(edited, "Gather") == {"axis": 1}
    assert {t.name for t in edited.graph.initializer} == {"w1", "b1", "w2", "y_gather"}
    assert_prunes_exactly(model, seeds=range(6))


@pytest.mark.parametrize("opset", [1, 9])
def test_bounds_are_attributes_before_opset_10(opset: int) -> None:
    model = between_convs(
        [make_node("Slice", ["h"], ["y"], starts=[0, 1], ends=[FAR, 5], axes=[0, 1])], reads=4, opset=max(opset, 7)
    )
    assert_prunes_exactly(model)
    edited = pruned(model, {"w1:0#2": [1, 2]})
    assert attributes(edited, "Slice") == {"starts": [0, 1], "ends": [FAR, 3], "axes": [0, 1]}


def test_axes_and_steps_default_to_the_leading_axes_and_one() -> None:
    model = between_convs(
        [make_node("Slice", ["h", "start", "end"], ["y"])], {"start": ints(0, 2), "end": ints(FAR, FAR)}, reads=4
    )
    assert_prunes_exactly(model)
    edited = pruned(model, {"w1:0": [0], "w1:0#2": [0, 1, 2]})
    assert inputs_of(edited, "Slice", 1, 2, 3) == [[0, 1], [FAR, FAR], None]


def test_literals_of_an_axis_that_stays_are_not_touched() -> None:
    model = sliced(0, 3, 2, axis=-1)
    edited = pruned(model, {"w1:0": [1, 4]})
    assert inputs_of(edited, "Slice", 1, 2, 3, 4) == [[0], [3], [-1], [2]]


def test_a_single_channel_that_is_taken_stays() -> None:
    coupling = analyse(sliced(2, 3, width=6))
    assert [[unit["w1:0"] for unit in group] for group in units(coupling).values()] == [[[0], [1], [3], [4], [5]]]
    assert "the only index that a Slice takes" in {r.why.split(": ")[-1].split(" [")[0] for r in coupling.refusals}


def test_halves_multiplied_are_one_group() -> None:
    model = between_matmuls(
        [
            make_node("Slice", ["h", "zero", "half", "last"], ["value"]),
            make_node("Slice", ["h", "half", "far", "last"], ["gate"]),
            make_node("Mul", ["value", "gate"], ["y"]),
        ],
        {"zero": ints(0), "half": ints(3), "far": ints(FAR), "last": ints(-1)},
        reads=3,
    )
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:1": [{"w1:1": [i, 3 + i], "b1:0": [i, 3 + i], "w2:0": [i]} for i in range(3)]}


def test_a_half_computed_from_the_length_needs_no_change() -> None:
    """As exporters write x.chunk(2): the bound follows the pruned axis by itself."""
    model = between_matmuls(
        [
            make_node("Shape", ["h"], ["shape"]),
            make_node("Gather", ["shape", "last"], ["width"], axis=0),
            make_node("Div", ["width", "two"], ["half"]),
            make_node("Slice", ["h", "zero", "half", "last"], ["value"]),
            make_node("Slice", ["h", "half", "width", "last"], ["gate"]),
            make_node("Mul", ["value", "gate"], ["y"]),
        ],
        {"zero": ints(0), "two": ints(2), "last": ints(-1)},
        reads=3,
    )
    assert_prunes_exactly(model)
    edited = pruned(model, {"w1:1": [0, 2]})
    assert [n for n in edited.graph.node if n.op_type == "Slice"] == [
        n for n in model.graph.node if n.op_type == "Slice"
    ]
    assert {t.name for t in edited.graph.initializer} == {t.name for t in model.graph.initializer}


def test_a_table_sliced_to_a_dynamic_length_stays() -> None:
    """Rows beyond the length that is bound now look unused, and are not."""
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Shape", ["x"], ["shape"]),
            make_node("Slice", ["shape", "one", "two"], ["length"]),
            make_node("Slice", ["table", "zero", "length", "zero"], ["rows"]),
            make_node("Add", ["h", "rows"], ["y"]),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": ["batch", "seq", 3]},
        ["out"],
        {"w1": [3, 6], "w2": [6, 4], "table": [20, 6], "zero": ints(0), "one": ints(1), "two": ints(2)},
    )
    coupling = assert_prunes_exactly(model, bind={"batch": 2, "seq": 5})
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:0": [i], "table:1": [i]} for i in range(6)]}
    assert {(r.tensor, r.axis): r.why.split(" [")[0] for r in coupling.refusals}["table", 0] == (
        "its bounds depend on a dynamic dimension"
    )
    fixed = analyse(model, bind={"batch": 2, "seq": 5})
    edited = pruned(model, {"w1:1": [0, 5]}, bind={"batch": 2, "seq": 5})
    longer = {"x": np.random.default_rng(0).normal(size=(1, 20, 3)).astype(np.float32)}
    assert run(type(fixed.view.model)(edited), longer)[0].shape == (1, 20, 4)


def test_only_the_axis_with_the_dynamic_bound_stays() -> None:
    """One Slice over rows and channels: the bound of the rows is dynamic, that of the channels a literal."""
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Shape", ["x"], ["shape"]),
            make_node("Slice", ["shape", "one", "two"], ["length"]),
            make_node("Concat", ["length", "four"], ["ends"], axis=0),
            make_node("Slice", ["h", "starts", "ends", "axes"], ["y"]),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [2, "seq", 3]},
        ["out"],
        {
            "w1": [3, 6], "w2": [4, 4], "one": ints(1), "two": ints(2), "four": ints(4), "starts": ints(0, 0),
            "axes": ints(1, 2),
        },
    )  # fmt: skip
    coupling = assert_prunes_exactly(model, bind={"seq": 5})
    assert units(coupling)["w1:1"] == [{"w1:1": [i], "w2:0": [i]} for i in range(4)]
    edited = pruned(model, {"w1:1": [0, 1, 3]}, bind={"seq": 5})
    assert ops(edited) == ops(model), "the computed length stays computed"
    concat = next(n for n in edited.graph.node if n.op_type == "Concat")
    assert concat.input[0] == "length"


def test_bounds_computed_from_data_freeze_their_axis_only() -> None:
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            make_node("Slice", ["h", "zero", "end", "rows"], ["y"]),
            make_node("MatMul", ["y", "w2"], ["out"]),
        ],
        {"x": [2, 5, 3], "end": [1]},
        ["out"],
        {"w1": [3, 6], "w2": [6, 4], "zero": ints(0), "rows": ints(1)},
        input_types={"end": onnx.TensorProto.INT64},
    )
    shapes = {"y": (2, 4, 6), "out": (2, 4, 4)}
    coupling = analyse(model, measured=shapes)
    assert units(coupling) == {"w1:1": [{"w1:1": [i], "w2:0": [i]} for i in range(6)]}
    along = make_model(
        [*model.graph.node],
        {"x": [2, 5, 3], "end": [1]},
        ["out"],
        {"w1": [3, 6], "w2": [4, 4], "zero": ints(0), "rows": ints(2)},
        input_types={"end": onnx.TensorProto.INT64},
    )
    frozen = analyse(along, measured={"y": (2, 5, 4), "out": (2, 5, 4)})
    assert units(frozen) == {}
    assert {r.why.split(" [")[0] for r in frozen.refusals if r.tensor == "w1" and r.axis == 1} == {
        "its bounds are computed from data"
    }


def test_a_stride_beside_another_slice_freezes_the_strided_axis() -> None:
    model = between_convs(
        [make_node("Slice", ["h", "start", "end", "axes", "step"], ["y"])],
        {"start": ints(0, 0), "end": ints(FAR, 3), "axes": ints(1, 2), "step": ints(2, 1)},
        reads=3,
    )
    coupling = analyse(model)
    assert units(coupling) == {}
    assert any("every 2th index is taken" in r.why for r in coupling.refusals)


def test_patch_merging_slices_leave_channels_free() -> None:
    """Swin's patch merging: four slices, strided in space, concatenated on channels (https://arxiv.org/abs/2103.14030)."""
    corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
    model = make_model(
        [
            make_node("MatMul", ["x", "w1"], ["h"]),
            *(
                make_node("Slice", ["h", f"start{i}", "end", "axes", "step"], [f"corner{i}"])
                for i in range(4)
            ),
            make_node("Concat", [f"corner{i}" for i in range(4)], ["joined"], axis=-1),
            make_node("MatMul", ["joined", "w2"], ["out"]),
        ],
        {"x": [1, 4, 6, 3]},
        ["out"],
        {
            "w1": [3, 5], "w2": [20, 4], "end": ints(FAR, FAR), "axes": ints(1, 2), "step": ints(2, 2),
            **{f"start{i}": ints(*corner) for i, corner in enumerate(corners)},
        },
    )  # fmt: skip
    coupling = assert_prunes_exactly(model)
    assert units(coupling) == {"w1:1": [{"w1:1": [c], "w2:0": [c, 5 + c, 10 + c, 15 + c]} for c in range(5)]}
