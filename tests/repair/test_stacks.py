"""Which layers are fitted together: those with nothing but a Relu or Clip between, and no other reader."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import pytest
from onnx import helper

from onnxprune.analyse import analyse
from onnxprune.repair.places import places
from onnxprune.repair.stacks import stacks
from onnxprune.runtime.consumers import consumers_of
from tests.support.models import make_model


def way(*between: str, leaves: Sequence[str] = (), extra: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    """1x1 convolutions w0, w1, … with the named operators between them."""
    nodes, value = [], "x"
    weights = {}
    for k in range(len(between) + 1):
        nodes.append(helper.make_node("Conv", [value, f"w{k}"], [f"c{k}"], name=f"w{k}"))
        weights[f"w{k}"] = (4, 4, 1, 1)
        if k < len(between):
            nodes.append(helper.make_node(between[k], [f"c{k}"], [f"r{k}"]))
            value = f"r{k}"
    return make_model([*nodes, *extra], {"x": ("n", 4, 5, 5)}, [f"c{len(between)}", *leaves], weights)


def found(model: onnx.ModelProto) -> list[list[str]]:
    coupling = analyse(model)
    due = stacks(coupling, places(coupling, consumers_of(coupling, every=True)))
    return [[place.weight for place in stack.places] for stack in due]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ((), []),
        (("Relu",), [["w0", "w1"]]),
        (("Clip", "Relu"), [["w0", "w1", "w2"]]),
        (("Relu",) * 3, [["w0", "w1"], ["w2", "w3"]]),
        (("Relu",) * 4, [["w0", "w1", "w2"], ["w3", "w4"]]),
        (("Sigmoid", "Relu"), [["w1", "w2"]]),
        (("Identity",), []),
    ],
)
def test_ways_are_cut_where_they_end(between: tuple[str, ...], expected: list[list[str]]) -> None:
    assert found(way(*between)) == expected


def test_what_someone_else_reads_ends_a_stack() -> None:
    assert found(way("Relu", "Relu", leaves=["r0"])) == [["w1", "w2"]]
    twice = way("Relu", "Relu", leaves=["t"], extra=[helper.make_node("Neg", ["r1"], ["t"])])
    assert found(twice) == [["w0", "w1"]]


def test_a_sum_with_a_shortcut_ends_a_stack() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="w0"),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="w1"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="w2"),
        helper.make_node("Add", ["c2", "r0"], ["a"]),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["y"], name="w3"),
    ]
    model = make_model(nodes, {"x": ("n", 4, 5, 5)}, ["y"], {f"w{k}": (4, 4, 1, 1) for k in range(4)})
    assert found(model) == [["w1", "w2"]]


def test_a_transposed_convolution_is_in_none() -> None:
    model = way("Relu")
    model.graph.node[2].op_type = "ConvTranspose"
    assert found(model) == []
