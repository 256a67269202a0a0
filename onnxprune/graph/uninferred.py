"""Shapes of the operators for which onnx's schema has no inference of its own: functions, and much of opset 1."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from onnxprune.graph.view import Node

LIKE_FIRST_INPUT = frozenset(
    {
        "Abs", "Add", "BatchNormalization", "Ceil", "Clip", "Div", "Dropout", "Elu", "Exp", "Floor",
        "GroupNormalization", "HardSigmoid", "InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean",
        "MeanVarianceNormalization", "Min", "Mul", "Neg", "PRelu", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sqrt",
        "Sub", "Sum", "Tanh",
    }
)  # fmt: skip
"""Their first output has the first input's shape and type (opset 1 broadcasts to the first input, or not at all)."""

COMPARISONS = frozenset({"GreaterOrEqual", "LessOrEqual"})
"""Functions in opsets 12 to 15; their inputs broadcast, and the result is boolean."""


def infer_uninferred(
    node: Node, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, int]
) -> tuple[tuple[int, ...], int] | None:
    """Shape and onnx dtype of the node's first output from those of its inputs; None for any other operator."""
    if any(name and name not in shapes for name in node.inputs):
        return None
    if node.op in LIKE_FIRST_INPUT:
        return shapes[node.inputs[0]], dtypes[node.inputs[0]]
    if node.op in COMPARISONS:
        try:
            return tuple(np.broadcast_shapes(*(shapes[name] for name in node.inputs))), TensorProto.BOOL
        except ValueError:
            return None  # an invalid node; whoever needs its shape says so
    return None
