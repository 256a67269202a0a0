"""Groups written into a copy of the model, where viewers such as Netron show them."""

from __future__ import annotations

from onnxprune.coupling.coupling import Coupling
from onnxprune.graph.model import Model
from onnxprune.graph.node import Node
from onnxprune.report.drawing import groups_by_node

KEY = "onnxprune.groups"


def annotated(coupling: Coupling) -> Model:
    """The model with what passes a node in the node's metadata, and a line per group in the model's.

    Node metadata came with IR version 10; files of an older one keep theirs, and readers that do not know it skip it.
    """
    model = coupling.view.model.copy()
    marks = groups_by_node(coupling)
    named = [f"{group.name} ({group.kind}, {group.size} units)" for group in coupling.groups]
    for proto in model.proto.graph.node:
        indices = marks.get(Node(proto, coupling.view.main).title, ())
        if indices:
            proto.metadata_props.add(key=KEY, value="; ".join(named[index] for index in indices))
    for group, text in zip(coupling.groups, named, strict=True):
        model.proto.metadata_props.add(key=f"{KEY}.{group.index + 1}", value=text)
    return model
