"""What an edit adds to a model's graphs: constants, and nodes in front of others."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from onnx import FunctionProto, GraphProto, NodeProto, helper, numpy_helper

from onnxprune.graph.node import Node
from onnxprune.graph.view import GraphView


class Insertions:
    """Collects new nodes for the graphs of `view`; `finish` puts them in. Constants are there at once."""

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self.nodes: list[tuple[Node, NodeProto]] = []  # the node in front of which it goes

    def node(self, at: Node, op: str, inputs: Sequence[str], base: str, **attrs: Any) -> str:
        """Put a node in front of `at` that reads values by the names that they have there. Gives its output's name."""
        name = fresh_name(self.view, base)
        self.add(at, helper.make_node(op, inputs, [name], **attrs))
        return name

    def add(self, at: Node, proto: NodeProto) -> None:
        """Put a node in front of `at`, whose outputs have names that nothing else has (see `fresh_name`)."""
        self.nodes.append((at, proto))
        if at.scope.in_function:
            at.scope.keys.update((name, name) for name in proto.output)

    def constant(self, at: Node, array: np.ndarray, base: str) -> str:
        """A new stored value that `at` can read: an initializer, or a Constant where `at` is in a function."""
        name = fresh_name(self.view, base)
        if at.scope.in_function:
            self.add(at, helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(array), name)))
        else:
            add_initializer(self.view, name, array)
        return name

    def finish(self, dropped: Container[int] = ()) -> None:
        """Rebuild the node lists, without the protos of which the id is in `dropped`. The view is stale afterwards."""
        before: dict[int, list[NodeProto]] = {}
        for node, proto in self.nodes:
            before.setdefault(id(node.proto), []).append(proto)
        done: set[int] = set()
        for scope in reversed(self.view.scopes):  # bodies before what carries them, whose copy takes them along
            if id(scope.graph) not in done:
                _rebuild(scope.graph, before, dropped)
            done.add(id(scope.graph))


def _rebuild(graph: GraphProto | FunctionProto, before: dict[int, list[NodeProto]], dropped: Container[int]) -> None:
    old = list(graph.node)
    if not any(id(proto) in before or id(proto) in dropped for proto in old):
        return
    kept = [new for proto in old for new in (*before.get(id(proto), ()), *(() if id(proto) in dropped else (proto,)))]
    copies = GraphProto(node=kept)
    del graph.node[:]
    graph.node.extend(copies.node)


def fresh_name(view: GraphView, base: str) -> str:
    """A value name that no graph of the model uses yet; it is taken from now on."""
    name, count = base, 1
    while name in view.names:
        count += 1
        name = f"{base}_{count}"
    view.names.add(name)
    return name


def add_initializer(view: GraphView, name: str, array: np.ndarray) -> None:
    """Add a small new initializer to the main graph of the model that is being edited; bodies see it, too."""
    view.graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
    view.initializers[name] = view.main.initializers[name] = view.graph.initializer[-1]
