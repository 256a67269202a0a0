"""Activations in numpy: what ONNX Runtime gives, and slopes that are slopes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune.graph.model import Model
from onnxprune.graph.view import GraphView
from onnxprune.repair.activations import curve_of
from tests.support.oracle import run

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("Erf", {}),
    ("Softplus", {}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("HardSwish", {}),
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("Elu", {}),
    ("Elu", {"alpha": 0.7}),
    ("Mish", {}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
]


def model(op: str, attrs: dict[str, Any]) -> Model:
    node = helper.make_node(op, ["x"], ["y"], **attrs)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    return Model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))


@pytest.mark.parametrize(("op", "attrs"), CASES)
def test_values_and_slopes(op: str, attrs: dict[str, Any]) -> None:
    held = model(op, attrs)
    curve = curve_of(next(iter(GraphView(held))))
    assert curve is not None
    x = np.linspace(-9.03, 9.04, 401, dtype=np.float32)  # no corner is among these
    y, slope = curve(x)
    np.testing.assert_allclose(y, run(held, {"x": x})[0], atol=2e-6, rtol=1e-5)
    step = 1e-3
    above, below = (curve(x.astype(np.float64) + sign * step)[0] for sign in (1, -1))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), atol=2e-3)


def test_other_nodes_have_none() -> None:
    for op in ("Sin", "Relu", "Softmax"):
        assert curve_of(next(iter(GraphView(model(op, {}))))) is None
