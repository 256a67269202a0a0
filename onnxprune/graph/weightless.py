"""A model without its weights, and what onnx's inference of the whole of it says with no dynamic dimension bound."""

from __future__ import annotations

import math

import onnx
from onnx import ValueInfoProto, helper, shape_inference

from onnxprune.graph.view import INTEGERS, VALUE_LIMIT, GraphView


def skeleton(view: GraphView) -> onnx.ModelProto:
    """The model without its weights' data (they become inputs) and without stated intermediate shapes."""
    proto = onnx.ModelProto()
    proto.ir_version = view.model.proto.ir_version
    proto.opset_import.extend(view.model.proto.opset_import)
    proto.functions.extend(view.model.proto.functions)
    graph = proto.graph
    graph.name = view.graph.name
    graph.node.extend(view.graph.node)
    graph.input.extend(i for i in view.graph.input if i.name in view.inputs)
    graph.output.extend(ValueInfoProto(name=o.name) for o in view.graph.output)
    for name, tensor in view.main.initializers.items():
        if tensor.data_type in INTEGERS and math.prod(tensor.dims) <= VALUE_LIMIT and tensor.raw_data:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    return proto


def symbolically_static(view: GraphView) -> dict[str, tuple[bool, ...]]:
    """Per value and axis, whether onnx infers its length without binding any dynamic dimension."""
    try:
        inferred = shape_inference.infer_shapes(skeleton(view), data_prop=True)
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    found = {}
    for info in [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]:
        tensor = info.type.tensor_type
        if tensor.HasField("shape"):
            found[info.name] = tuple(d.HasField("dim_value") for d in tensor.shape.dim)
    return found
