"""Values that follow from what is stored in the file alone, computed by onnx's reference implementation."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

from onnxprune.graph.node import Node
from onnxprune.graph.view import GraphView

# What weights are normalised, standardised or re-parametrised with; the reference computes each of these.
_COMPUTED = frozenset({
    "Abs", "Add", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Div", "Exp", "Expand", "Gather",
    "Identity", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "LpNormalization", "Max", "Min", "Mul",
    "Neg", "Pow", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax",
    "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip


def is_computable(view: GraphView, name: str) -> bool:
    """Whether `fixed_value` can compute the value `name`: it is fixed, in the main graph, by operators known here."""
    if name not in view.fixed:
        return False
    nodes, _ = _origin(view, name)
    return all(node.op in _COMPUTED and not node.domain and node.scope.is_main for node in nodes)


def stored_origin(view: GraphView, name: str) -> set[str]:
    """The stored tensors that a fixed value follows from."""
    return _origin(view, name)[1]


def fixed_value(view: GraphView, name: str) -> np.ndarray:
    """The array that the value `name`, of which `is_computable` holds, always is."""
    nodes, stored = _origin(view, name)
    protos = [NodeProto.FromString(node.proto.SerializeToString()) for node in nodes if node.op != "Constant"]
    feeds = {key: view.model.array(view.constants[key]) for key in sorted(stored)}
    graph = helper.make_graph(
        protos, "fixed", [ValueInfoProto(name=key) for key in feeds], [ValueInfoProto(name=name)]
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=list(view.model.proto.opset_import))
    (found,) = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(found)


def _origin(view: GraphView, name: str) -> tuple[list[Node], set[str]]:
    """The nodes that compute a fixed value, in graph order, and the stored tensors that they start from."""
    nodes: dict[int, Node] = {}
    stored: set[str] = set()
    pending = [name]
    while pending:
        value = pending.pop()
        if value in view.constants:
            stored.add(value)
        elif (maker := view.producer[value]).index not in nodes:
            nodes[maker.index] = maker
            pending += [key for key in maker.inputs if key]
    return [nodes[index] for index in sorted(nodes)], stored
