"""Models that consist of their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from onnxprune.graph.io import load
from onnxprune.graph.view import GraphView


def view(inputs: Mapping[str, tuple[int, Sequence[int | str | None]]]) -> GraphView:
    """A model that has inputs of these names, element types and shapes, and hands them on."""
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    outputs = [onnx.ValueInfoProto(name=f"{name}_out") for name in inputs]
    return GraphView(load(helper.make_model(helper.make_graph(nodes, "data", infos, outputs))))
