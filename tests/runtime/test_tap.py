"""Values inside a model, beside its outputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, ValueInfoProto, helper

from onnxprune.errors import ModelError, SettingError
from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView
from onnxprune.runtime.tap import Tap
from tests.support.models import make_model

X = np.asarray([[1.0, -2.0, 0.1]], np.float32)


def chain() -> GraphView:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["half"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["w"], ["fixed"]),
        helper.make_node("Add", ["back", "fixed"], ["y"]),
    ]
    return GraphView(load(make_model(nodes, {"x": (1, 3)}, ["y"], {"w": np.asarray([1, 2, 3], np.float32)})))


def test_inputs_stored_values_and_what_nodes_make() -> None:
    values = Tap(chain(), ["y", "x", "fixed", "w", "back"]).values({"x": X}, "samples")
    assert values.keys() == {"y", "x", "fixed", "w", "back"}
    assert values["x"] is X
    assert values["fixed"].tolist() == [-1, -2, -3]
    assert values["w"].tolist() == [1, 2, 3]
    assert values["y"].tolist() == (values["back"] - np.asarray([1, 2, 3], np.float32)).tolist()


def test_bfloat16_comes_as_float32() -> None:
    values = Tap(chain(), ["half"], dtypes={"half": TensorProto.BFLOAT16}).values({"x": X}, "samples")
    assert values["half"].dtype == np.float32
    assert values["half"].tolist() == [[1.0, -2.0, 0.10009765625]]


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(SettingError, match="the model has no value 'nope'"):
        Tap(chain(), ["y", "nope"])


def test_what_nothing_needs_is_not_run() -> None:
    """A body that reads a value from outside keeps what makes it; a node that would fail is left out."""
    body = helper.make_graph([helper.make_node("Neg", ["outside"], ["b"])], "body", [], [ValueInfoProto(name="b")])
    nodes = [
        helper.make_node("Abs", ["x"], ["outside"]),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=body, else_branch=body),
        helper.make_node("Reshape", ["chosen", "impossible"], ["y"]),
    ]
    weights = {"flag": np.asarray(True), "impossible": np.asarray([7, 7])}
    view = GraphView(load(make_model(nodes, {"x": ("n", 3)}, ["y"], weights)))
    with pytest.raises(ModelError):
        Tap(view, ["y"]).values({"x": X}, "samples")
    assert Tap(view, ["chosen"]).values({"x": X}, "samples")["chosen"].tolist() == (-np.abs(X)).tolist()


def test_nodes_out_of_order_are_found() -> None:
    """As converters to float16 leave them: the cast of the input stands last."""
    model = make_model(
        [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])], {"x": (1, 3)}, ["y"], {}
    )
    first, second = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([second, first])
    assert Tap(GraphView(load(model)), ["y"]).values({"x": X}, "samples")["y"].tolist() == (-np.abs(X)).tolist()
