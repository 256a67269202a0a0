"""The constants that a node reads, wherever they are stored, and groups by what they take."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from onnxprune.analyse import analyse
from tests.support.models import units


def only(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    """The only node of that operator."""
    (node,) = [n for n in model.graph.node if n.op_type == op]
    return node


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    """The array of an initializer or of a Constant node that holds a tensor."""
    tensors = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = node.attribute[0].t
    return numpy_helper.to_array(tensors[name])


def inputs_of(model: onnx.ModelProto, op: str, *positions: int) -> list[object]:
    """The constants at these inputs of the only node of that operator, as lists; None where there is no input."""
    names = only(model, op).input
    return [constant(model, names[p]).tolist() if p < len(names) and names[p] else None for p in positions]


def ops(model: onnx.ModelProto) -> list[str]:
    """The operators of the graph's nodes, in order."""
    return [node.op_type for node in model.graph.node]


def group_with(source: onnx.ModelProto, axis: str, *indices: int) -> str:
    """The name of the group of which a unit takes exactly these indices of a stored tensor's axis ("w:0")."""
    (name,) = [
        name for name, members in units(analyse(source)).items() if any(u.get(axis) == [*indices] for u in members)
    ]
    return name
