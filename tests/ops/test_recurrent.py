"""LSTM, GRU and RNN: which rows go with a hidden unit, what is exact, and what the node carries afterwards."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node
from onnx.reference import ReferenceEvaluator

from onnxprune.analyse import analyse
from onnxprune.check import mask_classes
from onnxprune.edit import edit
from tests.support.models import make_model, units
from tests.support.oracle import NOT_BLIND, TOLERANCE, assert_prunes_exactly, distance, random_feeds, run
from tests.support.pruned import array, attributes, pruned, shapes

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, FEATURES, INPUTS, HIDDEN = 5, 2, 3, 4, 6


def recurrent_model(
    op: str = "LSTM",
    *,
    direction: str = "forward",
    opset: int = 17,
    hidden: int = HIDDEN,
    bias: bool = True,
    lengths: bool = False,
    peepholes: bool = False,
    **attrs: object,
) -> onnx.ModelProto:
    """x [5, 2, 3] -> MatMul to 4 features -> op -> Y's hidden axis and Y_h's, each through a MatMul, to the outputs."""
    gates, dirs = GATES[op], 2 if direction == "bidirectional" else 1
    inputs = ["h", "W", "R", "B" if bias else "", "lens" if lengths else "", "", *(["", "P"] if peepholes else [])]
    outputs = ["y", "y_h", *(["y_c"] if op == "LSTM" else [])]
    if direction != "forward":
        attrs["direction"] = direction
    weights: dict[str, object] = {
        "enter": [FEATURES, INPUTS], "W": [dirs, gates * hidden, INPUTS], "R": [dirs, gates * hidden, hidden],
        "leave": [hidden, 3], "leave_h": [hidden, 2],
    }  # fmt: skip
    if bias:
        weights["B"] = [dirs, 2 * gates * hidden]
    if lengths:
        weights["lens"] = np.array([STEPS, STEPS - 2], np.int32)
    if peepholes:
        weights["P"] = [dirs, 3 * hidden]
    nodes = [
        make_node("MatMul", ["x", "enter"], ["h"]),
        make_node(op, inputs, outputs, hidden_size=hidden, **attrs),
        make_node("MatMul", ["y", "leave"], ["out"]),
        make_node("MatMul", ["y_h", "leave_h"], ["last"]),
    ]
    return make_model(nodes, {"x": [STEPS, BATCH, FEATURES]}, ["out", "last"], weights, opset=opset)


def test_a_hidden_unit_of_an_lstm_is_a_row_of_every_gate() -> None:
    found = units(analyse(recurrent_model(hidden=2, peepholes=True)))
    assert found["R:2"] == [
        {
            "R:2": [0], "R:1": [0, 2, 4, 6], "W:1": [0, 2, 4, 6], "B:1": [0, 2, 4, 6, 8, 10, 12, 14],
            "P:1": [0, 2, 4], "leave:0": [0], "leave_h:0": [0],
        },
        {
            "R:2": [1], "R:1": [1, 3, 5, 7], "W:1": [1, 3, 5, 7], "B:1": [1, 3, 5, 7, 9, 11, 13, 15],
            "P:1": [1, 3, 5], "leave:0": [1], "leave_h:0": [1],
        },
    ]  # fmt: skip
    assert found["enter:1"] == [{"enter:1": [i], "W:2": [i]} for i in range(INPUTS)]
    assert list(found) == ["enter:1", "R:2"]


@pytest.mark.parametrize(("op", "rows"), [("GRU", [1, 3, 5]), ("RNN", [1])])
def test_a_hidden_unit_has_a_row_in_each_gate_the_operator_has(op: str, rows: list[int]) -> None:
    found = units(analyse(recurrent_model(op, hidden=2, bias=False)))
    assert found["R:2"][1] == {"R:2": [1], "R:1": rows, "W:1": rows, "leave:0": [1], "leave_h:0": [1]}


def test_both_directions_lose_a_hidden_unit_together() -> None:
    coupling = analyse(recurrent_model(direction="bidirectional", hidden=2))
    assert units(coupling)["R:2"][1]["R:1"] == [1, 3, 5, 7]
    why = {r.tensor: r.why for r in coupling.refusals if r.axis == 0}
    stay = "the directions of a recurrent operator stay"
    assert (why["W"], why["R"], why["B"]) == (stay, f"{stay} [W:0]", f"{stay} [W:0]")


@pytest.mark.parametrize("opset", [7, 14, 22])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", list(GATES))
def test_removal_is_exact(op: str, direction: str, opset: int) -> None:
    model = recurrent_model(
        op, direction=direction, opset=opset, lengths=direction != "reverse", peepholes=op == "LSTM"
    )
    coupling = assert_prunes_exactly(model, seeds=range(2))
    assert [g.exact for g in coupling.groups] == [True, True]


@pytest.mark.parametrize("linear", [0, 1])
def test_a_gru_is_exact_wherever_its_reset_gate_acts(linear: int) -> None:
    assert_prunes_exactly(recurrent_model("GRU", linear_before_reset=linear), seeds=range(2))


def test_zero_at_the_consumers_of_the_state_alone_would_not_be_removal() -> None:
    """Other hidden units hear of the removed one through R: the oracle must, and does, silence it there too."""
    coupling = analyse(recurrent_model())
    group = next(g for g in coupling.groups if g.name == "R:2")
    removed = coupling.removed_classes({group.index: [0, 2, 3, 5]})
    masked, feeds = mask_classes(coupling, removed), random_feeds(coupling)
    edited = run(edit(coupling, removed).model, feeds)
    assert distance(edited, run(masked, feeds)) <= TOLERANCE
    (lstm,) = [n for n in masked.proto.graph.node if n.op_type == "LSTM"]
    (mask,) = [n for n in masked.proto.graph.node if n.output[0] == lstm.input[2]]
    assert (mask.op_type, mask.input[0]) == ("Mul", "R")
    lstm.input[2] = "R"
    assert distance(edited, run(masked, feeds)) >= NOT_BLIND


def test_hidden_size_follows_and_other_attributes_stay() -> None:
    model = recurrent_model("GRU", clip=2.5, linear_before_reset=1, activations=["HardSigmoid", "Tanh"])
    edited = pruned(model, {"R:2": [0, 2, 5]})
    assert attributes(edited, "GRU") == {
        "hidden_size": 3, "clip": 2.5, "linear_before_reset": 1, "activations": [b"HardSigmoid", b"Tanh"],
    }  # fmt: skip
    assert shapes(edited) == {
        "enter": (3, 4), "W": (1, 9, 4), "R": (1, 9, 3), "B": (1, 18), "leave": (3, 3), "leave_h": (3, 2),
    }  # fmt: skip
    kept = np.array([0, 2, 5])
    rows = np.concatenate([kept, kept + HIDDEN, kept + 2 * HIDDEN])
    np.testing.assert_array_equal(array(edited, "R"), array(model, "R")[:, rows][:, :, kept])


def test_hidden_size_is_not_added_where_it_was_implied() -> None:
    """The attribute is optional; without it onnx infers no shapes, so the file must state them."""
    model = recurrent_model()
    stated = onnx.shape_inference.infer_shapes(model).graph.value_info
    (lstm,) = [n for n in model.graph.node if n.op_type == "LSTM"]
    del lstm.attribute[:]
    assert analyse(model).groups == ()
    model.graph.value_info.extend(stated)
    assert attributes(pruned(model, {"R:2": [1, 4]}), "LSTM") == {}


def test_a_state_from_the_model_s_inputs_keeps_every_hidden_unit_unless_it_may_shrink() -> None:
    nodes = [
        make_node("GRU", ["x", "W", "R", "", "", "h0"], ["y", "h1"], hidden_size=4),
        make_node("MatMul", ["y", "leave"], ["out"]),
    ]
    model = make_model(
        nodes, {"x": [5, 2, 3], "h0": [1, 2, 4]}, ["out", "h1"], {"W": [1, 12, 3], "R": [1, 12, 4], "leave": [4, 2]}
    )
    coupling = analyse(model)
    assert coupling.groups == ()
    (why,) = {r.why for r in coupling.refusals if (r.tensor, r.axis) == ("R", 2)}
    assert why == "an input of the model [h0:2]"
    freed = analyse(model, allow_io_change=["h0", "h1"])
    assert units(freed) == {
        "R:2": [
            {"R:2": [i], "R:1": [i, i + 4, i + 8], "W:1": [i, i + 4, i + 8], "leave:0": [i]} for i in range(4)
        ]
    }  # fmt: skip


def test_a_computed_initial_state_loses_the_unit_in_what_computes_it() -> None:
    nodes = [
        make_node("MatMul", ["z", "first"], ["h0"]),
        make_node("MatMul", ["z", "cell"], ["c0"]),
        make_node("LSTM", ["x", "W", "R", "", "", "h0", "c0"], ["", "", "y_c"], hidden_size=4),
        make_node("MatMul", ["y_c", "leave"], ["out"]),
    ]
    weights = {"W": [1, 16, 3], "R": [1, 16, 4], "first": [6, 4], "cell": [6, 4], "leave": [4, 2]}
    model = make_model(nodes, {"x": [5, 2, 3], "z": [1, 2, 6]}, ["out"], weights)
    coupling = assert_prunes_exactly(model, seeds=range(2))
    (found,) = units(coupling).values()
    rows = [2, 6, 10, 14]
    assert found[2] == {"first:1": [2], "cell:1": [2], "R:2": [2], "R:1": rows, "W:1": rows, "leave:0": [2]}


@pytest.mark.parametrize("op", list(GATES))
def test_batch_first(op: str) -> None:
    """`layout` 1, which ONNX Runtime does not run: compared in onnx's reference implementation."""
    gates = GATES[op]
    outputs = ["y", "y_h"]
    nodes = [
        make_node("MatMul", ["x", "enter"], ["h"]),
        make_node("MatMul", ["z", "first"], ["h0"]),
        make_node(op, ["h", "W", "R", "B", "", "h0"], outputs, hidden_size=4, layout=1),
        make_node("MatMul", ["y", "leave"], ["out"]),
        make_node("MatMul", ["y_h", "leave_h"], ["last"]),
    ]
    weights = {
        "enter": [3, 5], "W": [1, gates * 4, 5], "R": [1, gates * 4, 4], "B": [1, 2 * gates * 4], "first": [6, 4],
        "leave": [4, 3], "leave_h": [4, 2],
    }  # fmt: skip
    model = make_model(nodes, {"x": [2, 5, 3], "z": [2, 1, 6]}, ["out", "last"], weights)
    coupling = analyse(model)
    rows = [4 * g + 1 for g in range(gates)]
    assert units(coupling)["first:1"][1] == {
        "first:1": [1], "R:2": [1], "R:1": rows, "W:1": rows, "B:1": [4 * g + 1 for g in range(2 * gates)],
        "leave:0": [1], "leave_h:0": [1],
    }  # fmt: skip
    removed = coupling.removed_classes({g.index: [0, 3] for g in coupling.groups})
    feeds = random_feeds(coupling)
    dense, masked, edited = (
        ReferenceEvaluator(m.to_proto()).run(None, feeds)
        for m in (coupling.view.model, mask_classes(coupling, removed), edit(coupling, removed).model)
    )
    assert [a.shape for a in edited] == [(2, 5, 1, 3), (2, 1, 2)]
    assert distance(edited, masked) <= TOLERANCE
    assert distance(dense, masked) >= NOT_BLIND


@pytest.mark.parametrize(("op", "gates"), GATES.items())
def test_macs_are_those_of_both_products(op: str, gates: int) -> None:
    steps, rows = STEPS * BATCH, 2 * gates * HIDDEN
    around = steps * FEATURES * INPUTS + 2 * steps * HIDDEN * 3 + 2 * BATCH * HIDDEN * 2
    model = recurrent_model(op, direction="bidirectional")
    assert analyse(model).cost().macs == steps * rows * (INPUTS + HIDDEN) + around


def test_the_first_opset() -> None:
    """LSTM-1, with an attribute that opset 7 dropped; ONNX Runtime has no kernel for it."""
    model = recurrent_model(hidden=2, opset=6, output_sequence=1)
    assert {name: len(u) for name, u in units(analyse(model)).items()} == {"enter:1": 4, "R:2": 2}
