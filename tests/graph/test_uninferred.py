"""Operators for which onnx has no inference of its own: their shapes are known all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.shapes import Shapes, infer_shapes
from onnxprune.graph.uninferred import COMPARISONS
from onnxprune.graph.view import GraphView
from tests.support.models import make_model


def shapes_of(op: str, opset: int, inputs: Sequence[Sequence[int]], **attrs: object) -> Shapes:
    names = [f"i{position}" for position in range(len(inputs))]
    weights = {name: np.ones(shape, np.float32) for name, shape in zip(names[1:], inputs[1:], strict=True)}
    model = make_model([make_node(op, names, ["y"], **attrs)], {"i0": inputs[0]}, ["y"], weights, opset=opset)
    view = GraphView(load(model))
    return infer_shapes(view, bind_inputs(view))


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attrs"),
    [
        ("MeanVarianceNormalization", 9, [[2, 3, 4, 5]], {}),
        ("MeanVarianceNormalization", 17, [[2, 3, 4, 5]], {}),
        ("GroupNormalization", 18, [[2, 6, 4], [3], [3]], {"num_groups": 3}),
        ("GroupNormalization", 21, [[2, 6, 4], [6], [6]], {"num_groups": 3}),
        ("BatchNormalization", 1, [[2, 3, 4, 5], *[[3]] * 4], {"is_test": 1, "consumed_inputs": [0] * 5}),
        ("Relu", 1, [[2, 3]], {}),
        ("Add", 1, [[2, 3, 4], [3]], {"broadcast": 1, "axis": 1}),
    ],
)
def test_the_output_is_like_the_first_input(op: str, opset: int, inputs: list[list[int]], attrs: dict) -> None:
    known = shapes_of(op, opset, inputs, **attrs)
    assert known.shape["y"] == tuple(inputs[0])
    assert known.dtype["y"] == TensorProto.FLOAT


@pytest.mark.parametrize("op", sorted(COMPARISONS))
@pytest.mark.parametrize("opset", [12, 15, 16])
def test_a_comparison_broadcasts(op: str, opset: int) -> None:
    known = shapes_of(op, opset, [[2, 1, 4], [3, 1]])
    assert known.shape["y"] == (2, 3, 4)
    assert known.dtype["y"] == TensorProto.BOOL


def test_shapes_that_do_not_broadcast_stay_open() -> None:
    assert "y" not in shapes_of("GreaterOrEqual", 12, [[2, 3], [4]]).shape
