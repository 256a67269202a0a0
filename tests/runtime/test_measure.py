"""Shapes from one run of the model."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from onnxprune.errors import ModelError
from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.runtime.measure import measure_shapes
from tests.support.models import make_model
from tests.support.planning import conv_chain


def test_values_inside_and_outputs() -> None:
    view = GraphView(load(conv_chain()))
    found = measure_shapes(view, bind_inputs(view), ["c0", "y", "c0"])
    assert found == {"c0": (1, 32, 8, 8), "y": (1, 5, 8, 8)}


def test_sequences_have_no_shape() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"], name="split"),
        helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0, name="join"),
    ]
    view = GraphView(load(make_model(nodes, {"x": (3, 2)}, ["y"], {})))
    assert measure_shapes(view, bind_inputs(view), ["parts", "y"]) == {"y": (3, 2)}


def test_external_data(tmp_path: Path) -> None:
    onnx.save(conv_chain(), tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    view = GraphView(load(tmp_path / "net.onnx"))
    assert measure_shapes(view, bind_inputs(view), ["c1"]) == {"c1": (1, 16, 8, 8)}


def test_a_model_that_does_not_run() -> None:
    proto = conv_chain()
    proto.graph.node[0].op_type = "Swirl"
    view = GraphView(load(proto))
    with pytest.raises(ModelError, match="does not load"):
        measure_shapes(view, bind_inputs(view), ["c0"])
