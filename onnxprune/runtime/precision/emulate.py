"""A converted model as a float32 one that rounds what the converted one would: runs on any CPU.

ONNX Runtime's CPU kernels know no bfloat16, and compute most of float16 in float32 without rounding in between. Here
every value of 16 bits is rounded as it is made, and grows infinite where it overflows; sums are taken in float32, as
GPUs take them. Inputs and outputs are float32.
"""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from onnxprune.graph.tensors import all_tensors, embedded_array, set_array
from onnxprune.runtime.precision.kinds import Kind

_RAW, _NARROW = "::raw", "::narrow"


def emulated(converted: ModelProto, kind: Kind) -> ModelProto:
    """`converted` must state the types of all values of 16 bits. Gives a model of its own."""
    model = ModelProto()
    model.CopyFrom(converted)
    for tensor in all_tensors(model):
        if tensor.data_type == kind.number:
            array = embedded_array(tensor).astype(np.float32)
            tensor.data_type = TensorProto.FLOAT
            set_array(tensor, array)
    _graph(model.graph, kind, top=True)
    return model


def _graph(graph: GraphProto, kind: Kind, *, top: bool) -> None:
    narrow = set()
    for info in (*graph.value_info, *graph.output, *graph.input):
        if info.type.tensor_type.elem_type == kind.number:
            narrow.add(info.name)
            info.type.tensor_type.elem_type = TensorProto.FLOAT
        elif info.type.sequence_type.elem_type.tensor_type.elem_type == kind.number:
            info.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    nodes: list[NodeProto] = []
    if top:
        renamed = {}
        for given in graph.input:
            if given.name in narrow:
                renamed[given.name] = given.name + _RAW + _NARROW
                nodes += _rounding(given.name, given.name + _RAW + _NARROW, kind)
        _read_as(graph, renamed)
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == kind.number:
                attribute.i = TensorProto.FLOAT
            if attribute.type == AttributeProto.GRAPH:
                _graph(attribute.g, kind, top=False)
        for position, name in enumerate(node.output):
            if name in narrow:
                node.output[position] = name + _RAW
                nodes += _rounding(name + _RAW, name, kind)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _rounding(source: str, target: str, kind: Kind) -> list[NodeProto]:
    between = target + _NARROW
    return [
        helper.make_node("Cast", [source], [between], to=kind.number),
        helper.make_node("Cast", [between], [target], to=TensorProto.FLOAT),
    ]


def _read_as(graph: GraphProto, renamed: dict[str, str]) -> None:
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _read_as(attribute.g, renamed)
