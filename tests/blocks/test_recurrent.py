"""Whole recurrent models: classifiers whose directions are joined, and state that travels through the borders."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_node

from onnxprune.analyse import analyse
from onnxprune.graph.io import load
from tests.support.models import make_model, units
from tests.support.oracle import assert_prunes_exactly, run
from tests.support.pruned import pruned, shapes

HIDDEN, WIDTH = 4, 6


def bidirectional_classifier() -> onnx.ModelProto:
    """Embedding, two bidirectional LSTM layers as torch exports them, the last step to a dense head."""
    nodes = [
        make_node("Gather", ["table", "ids"], ["embedded"]),
        make_node("Transpose", ["embedded"], ["steps"], perm=[1, 0, 2]),
    ]
    weights: dict[str, np.ndarray | list[int]] = {"table": [50, WIDTH], "flat": np.array([0, 0, -1])}
    x = "steps"
    for layer, inputs in enumerate((WIDTH, 2 * HIDDEN)):
        weights |= {
            f"W{layer}": [2, 4 * HIDDEN, inputs], f"R{layer}": [2, 4 * HIDDEN, HIDDEN], f"B{layer}": [2, 8 * HIDDEN],
        }  # fmt: skip
        nodes += [
            make_node(
                "LSTM", [x, f"W{layer}", f"R{layer}", f"B{layer}"], [f"y{layer}"], hidden_size=HIDDEN,
                direction="bidirectional",
            ),
            make_node("Transpose", [f"y{layer}"], [f"t{layer}"], perm=[0, 2, 1, 3]),
            make_node("Reshape", [f"t{layer}", "flat"], [f"joined{layer}"]),
        ]  # fmt: skip
        x = f"joined{layer}"
    nodes += [
        make_node("Gather", [x, "last"], ["step"], axis=0),
        make_node("Gemm", ["step", "hidden", "hidden_bias"], ["dense"], transB=1),
        make_node("Relu", ["dense"], ["active"]),
        make_node("Gemm", ["active", "head", "head_bias"], ["out"], transB=1),
    ]
    weights |= {
        "last": np.array(-1), "hidden": [5, 2 * HIDDEN], "hidden_bias": [5], "head": [3, 5], "head_bias": [3],
    }  # fmt: skip
    return make_model(nodes, {"ids": ["batch", "length"]}, ["out"], weights, input_types={"ids": TensorProto.INT64})


def test_a_bidirectional_classifier() -> None:
    coupling = assert_prunes_exactly(bidirectional_classifier())
    found = units(coupling)
    assert {name: len(members) for name, members in found.items()} == {
        "table:1": WIDTH, "R0:2": HIDDEN, "R1:2": HIDDEN, "hidden:0": 5,
    }  # fmt: skip
    # a hidden unit of the first layer is an input of the second in both of its halves
    assert found["R0:2"][1]["W1:2"] == [1, 1 + HIDDEN]
    assert found["R1:2"][3]["hidden:1"] == [3, 3 + HIDDEN]
    assert all(group.exact for group in coupling.groups)


def test_its_layers_may_lose_different_units() -> None:
    edited = pruned(bidirectional_classifier(), {"R0:2": [0], "R1:2": [1, 2, 3], "table:1": [2, 5]})
    lstms = [n for n in edited.graph.node if n.op_type == "LSTM"]
    assert [a.i for n in lstms for a in n.attribute if a.name == "hidden_size"] == [1, 3]
    sizes = shapes(edited)
    assert (sizes["W0"], sizes["R0"], sizes["B0"]) == ((2, 4, 2), (2, 4, 1), (2, 8))
    assert (sizes["W1"], sizes["R1"], sizes["B1"]) == ((2, 12, 2), (2, 12, 3), (2, 24))
    assert sizes["hidden"] == (5, 6)


def streaming_gru() -> onnx.ModelProto:
    """A GRU whose state [2 layers, batch, hidden] enters and leaves the model, as in a streaming recogniser."""
    nodes, weights = [], {"leave": [HIDDEN, 3], "zero": np.array([0])}
    weights |= {"one": np.array([1]), "two": np.array([2])}
    x = "x"
    for layer, (low, high) in enumerate([("zero", "one"), ("one", "two")]):
        weights |= {
            f"W{layer}": [1, 3 * HIDDEN, WIDTH if layer == 0 else HIDDEN], f"R{layer}": [1, 3 * HIDDEN, HIDDEN],
        }  # fmt: skip
        nodes += [
            make_node("Slice", ["state", low, high, "zero"], [f"h{layer}"]),
            make_node(
                "GRU", [x, f"W{layer}", f"R{layer}", "", "", f"h{layer}"], [f"y{layer}", f"next{layer}"],
                hidden_size=HIDDEN, linear_before_reset=1,
            ),
            make_node("Squeeze", [f"y{layer}", "one"], [f"steps{layer}"]),
        ]  # fmt: skip
        x = f"steps{layer}"
    nodes += [
        make_node("Concat", ["next0", "next1"], ["next_state"], axis=0),
        make_node("MatMul", [x, "leave"], ["out"]),
    ]
    inputs = {"x": [5, 1, WIDTH], "state": [2, 1, HIDDEN]}
    return make_model(nodes, inputs, ["out", "next_state"], weights)


def test_a_state_that_must_not_shrink_keeps_both_layers_whole() -> None:
    coupling = analyse(streaming_gru())
    assert coupling.groups == ()
    why = {(r.tensor, r.axis): r.why for r in coupling.refusals}
    assert why["R0", 2] == why["R1", 2] == "an input of the model [state:2]"


def test_a_state_that_may_shrink_is_one_width_for_both_layers() -> None:
    allowed = ["state", "next_state"]
    rows = [2, 2 + HIDDEN, 2 + 2 * HIDDEN]
    (members,) = units(analyse(streaming_gru(), allow_io_change=allowed)).values()
    assert members[2] == {
        "R0:2": [2], "R0:1": rows, "W0:1": rows, "R1:2": [2], "R1:1": rows, "W1:2": [2], "W1:1": rows, "leave:0": [2],
    }  # fmt: skip
    edited = pruned(streaming_gru(), {"R0:2": [1, 3]}, allow_io_change=allowed)
    borders = {
        b.name: [d.dim_value for d in b.type.tensor_type.shape.dim] for b in [*edited.graph.input, *edited.graph.output]
    }
    assert borders == {"x": [5, 1, WIDTH], "state": [2, 1, 2], "out": [5, 1, 3], "next_state": [2, 1, 2]}
    feeds = {"x": np.ones((5, 1, WIDTH), np.float32), "state": np.zeros((2, 1, 2), np.float32)}
    assert [a.shape for a in run(load(edited), feeds)] == [(5, 1, 3), (2, 1, 2)]


def test_a_gru_with_zero_state_of_computed_shape() -> None:
    """torch exports the initial state as an Expand of a zero to a shape computed from the batch."""
    nodes = [
        make_node("Shape", ["x"], ["sizes"]),
        make_node("Gather", ["sizes", "batch_axis"], ["batch"]),
        make_node("Concat", ["one", "batch", "hidden"], ["state_shape"], axis=0),
        make_node("ConstantOfShape", ["state_shape"], ["h0"]),
        make_node("GRU", ["x", "W", "R", "", "", "h0"], ["y"], hidden_size=HIDDEN),
        make_node("MatMul", ["y", "leave"], ["out"]),
    ]
    weights = {
        "batch_axis": np.array([1]), "one": np.array([1]), "hidden": np.array([HIDDEN]), "W": [1, 3 * HIDDEN, WIDTH],
        "R": [1, 3 * HIDDEN, HIDDEN], "leave": [HIDDEN, 2],
    }  # fmt: skip
    coupling = assert_prunes_exactly(make_model(nodes, {"x": [5, "batch", WIDTH]}, ["out"], weights))
    assert {g.name: g.size for g in coupling.groups} == {"R:2": HIDDEN}
