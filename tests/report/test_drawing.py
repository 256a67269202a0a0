"""The graph as a drawing: readers below what they read, no two nodes in one place, groups by number; and in a copy."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx
import pytest
from onnx import helper

import onnxprune
from onnxprune.report.annotate import annotated
from onnxprune.report.drawing import HEIGHT, WIDTH, draw
from tests.support.models import make_model
from tests.support.planning import conv_chain


def branches() -> onnx.ModelProto:
    """Two branches that are added, a constant that is reshaped on the way, and an If."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["z"])], "body", [],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], "in"),
        helper.make_node("Relu", ["h"], ["p"], "left"),
        helper.make_node("Tanh", ["h"], ["q"], "right"),
        helper.make_node("Abs", ["q"], ["r"], "far"),
        helper.make_node("Add", ["p", "r"], ["s"], "sum"),
        helper.make_node("Identity", ["b"], ["c"], "stored"),
        helper.make_node("MatMul", ["s", "c"], ["y"], "out"),
        helper.make_node("If", ["yes"], ["w"], "choice", then_branch=body, else_branch=body),
    ]
    return make_model(nodes, {"x": ("n", 6), "yes": ()}, ["w"], {"a": (6, 16), "b": (16, 4)})


def test_rows_and_columns() -> None:
    coupling = onnxprune.analyse(conv_chain())
    drawing = draw(coupling)
    assert len({(box.x, box.y) for box in drawing.boxes}) == len(drawing.boxes) == len(coupling.view.nodes)
    assert all(y1 < y2 for _, y1, _, y2 in drawing.lines)
    assert all(box.x + WIDTH <= drawing.width and box.y + HEIGHT <= drawing.height for box in drawing.boxes)
    first = drawing.boxes[0]
    assert (first.op, first.groups) == ("Conv", (1,))
    assert f"1: {coupling.groups[0].name}" in first.title


def test_branches_stand_beside_each_other() -> None:
    model = branches()
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.BOOL
    drawing = draw(onnxprune.analyse(model))
    at = {box.title.split()[0]: (box.x, box.y) for box in drawing.boxes}
    assert set(at) == {"in", "left", "right", "far", "sum", "out", "choice"}
    assert at["left"][1] == at["right"][1]
    assert at["left"][0] != at["right"][0]
    assert at["sum"][1] > at["far"][1] > at["right"][1] > at["in"][1]
    for one, other in itertools.combinations(at.values(), 2):
        assert one[1] != other[1] or abs(one[0] - other[0]) >= WIDTH


def test_a_copy_that_names_groups(tmp_path: Path) -> None:
    onnx.save(conv_chain(), tmp_path / "net.onnx")
    coupling = onnxprune.analyse(tmp_path / "net.onnx")
    onnxprune.save(annotated(coupling), tmp_path / "marked.onnx")
    marked = onnx.load(tmp_path / "marked.onnx")
    onnx.checker.check_model(marked)
    first = marked.graph.node[0]
    assert [(entry.key, entry.value) for entry in first.metadata_props] == [
        ("onnxprune.groups", "w0:0 (channels, 32 units)")
    ]
    assert {entry.key: entry.value for entry in marked.metadata_props}["onnxprune.groups.2"].startswith("w1:0 (")
    for node in marked.graph.node:
        del node.metadata_props[:]
    del marked.metadata_props[:]
    assert marked == onnx.load(tmp_path / "net.onnx")


def test_a_model_without_groups() -> None:
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": (2, 3)}, ["y"], {})
    (box,) = draw(onnxprune.analyse(model)).boxes
    assert box.groups == ()
    assert pytest.approx(0) == box.x
