"""A walk over an edited model takes over what the walk over the dense one found, and only what the edit left alone."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.shapes import infer_at_other_sizes, infer_shapes
from onnxprune.graph.tensors import set_array
from onnxprune.graph.view import GraphView
from tests.support.models import make_model


def dense_view() -> GraphView:
    """x [batch, 6]: its maximum per row, and, by a Constant, as [batch, 2, 3]."""
    target = numpy_helper.from_array(np.array([-1, 2, 3]), "target")
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Constant", [], ["target"], value=target),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    return GraphView(load(make_model(nodes, {"x": ("batch", 6)}, ["most", "y"], {}, opset=13)))


def test_an_edited_attribute_and_an_edited_constant_are_looked_at_again() -> None:
    dense = dense_view()
    bindings = bind_inputs(dense, {"batch": 5})
    like = infer_at_other_sizes(dense, bindings)
    model = dense.model.copy()
    edited = GraphView(model, dense)
    next(a for a in edited.nodes[0].proto.attribute if a.name == "keepdims").i = 0
    edited.nodes[0].refresh()
    set_array(edited.nodes[1].proto.attribute[0].t, np.array([-1, 3, 2]))
    edited.nodes[1].refresh()
    edited.small["target"] = np.array([-1, 3, 2])

    again = GraphView(model, edited)
    assert [node.is_edited for node in again.nodes] == [True, True, False]
    batch = like.shape["x"][0]
    found = infer_at_other_sizes(again, bindings, like)
    assert (like.shape["most"], found.shape["most"]) == ((batch, 1), (batch,))
    assert (like.shape["y"], found.shape["y"]) == ((batch, 2, 3), (batch, 3, 2))


def test_a_constant_that_was_cut_is_read_again() -> None:
    dense = dense_view()
    bindings = bind_inputs(dense, {"batch": 5})
    like = infer_shapes(dense, bindings)
    model = dense.model.copy()
    edited = GraphView(model, dense, changed=["target"])
    set_array(edited.nodes[1].proto.attribute[0].t, np.array([-1, 6]))  # as the cut of a stored tensor does it
    found = infer_shapes(edited, bindings, like=like)
    assert (found.shape["target"], found.shape["y"]) == ((2,), (5, 6))


def test_what_the_edit_left_alone_keeps_its_arrays() -> None:
    dense = dense_view()
    bindings = bind_inputs(dense, {"batch": 5})
    like = infer_shapes(dense, bindings)
    found = infer_shapes(GraphView(dense.model.copy(), dense), bindings, like=like)
    assert found.value["target"] is like.value["target"]
    assert found.shape == like.shape
    assert found.dtype == like.dtype
