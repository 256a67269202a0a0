"""A read-only index over a model: who makes a value, who reads it, which values are constants.

All nodes are here, those in bodies of If, Loop and Scan and those of called functions included (see flatten.py), and
every value goes by its key (see node.py). Nothing here interprets an operator.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto

from onnxprune.graph.flatten import Flat
from onnxprune.graph.model import Model
from onnxprune.graph.node import Node as Node
from onnxprune.graph.node import Scope as Scope

INTEGERS = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL})
"""Element types of sizes, and of what is computed from them."""
VALUE_LIMIT = 1024
"""Elements up to which a value is evaluated: sizes are short vectors, a relative position index is not."""


class GraphView:
    """Index over `model.proto`. Built once; the proto must not change while it is in use.

    `inputs` and `outputs` are the main graph's, `exits` the values that a body gives to its node. `initializers` are
    those of all graphs. `like` is the view of the model that this one is an edited copy of: values keep the keys that
    they have there, nodes whether they are edited, and small stored values are not decoded again, except those named in
    `changed`.
    """

    def __init__(self, model: Model, like: GraphView | None = None, changed: Container[str] = ()) -> None:
        self.model = model
        self.flat: Flat = Flat(model.proto, None if like is None else like.flat.keys)
        self.small: dict[str, np.ndarray | None] = (
            {} if like is None else {name: value for name, value in like.small.items() if name not in changed}
        )
        self.graph: GraphProto = model.proto.graph
        self.main, self.scopes, self.nodes = self.flat.main, self.flat.scopes, self.flat.nodes
        self.opsets = self.main.opsets
        self.initializers: dict[str, TensorProto] = dict(self.main.initializers)
        for scope in self.scopes[1:]:
            self.initializers.update(scope.initializers)
        self.producer: dict[str, Node] = {o: n for n in self.nodes for o in n.outputs if o}
        if like is not None:
            for name in [name for name, node in like.producer.items() if node.is_edited and name in self.producer]:
                self.producer[name].is_edited = True
        self.inputs: dict[str, Any] = {i.name: i for i in self.graph.input if i.name not in self.main.initializers}
        self.outputs: dict[str, Any] = {o.name: o for o in self.graph.output}
        self.exits: set[str] = {key for node in self.nodes for body in node.bodies.values() for key in body.outputs}

    @cached_property
    def consumers(self) -> dict[str, list[tuple[Node, int]]]:
        """For each value the (node, input position) pairs that read it, in graph order."""
        readers: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.inputs):
                if name:
                    readers.setdefault(name, []).append((node, position))
        return readers

    @cached_property
    def constants(self) -> dict[str, TensorProto]:
        """Tensors stored in the file, by value name: initializers and Constant nodes that hold a tensor."""
        stored = dict(self.initializers)
        for node in self.nodes:
            if node.op == "Constant" and node.domain == "" and "value" in node.attrs:
                stored[node.outputs[0]] = node.attrs["value"]
        return stored

    @cached_property
    def fixed(self) -> set[str]:
        """Values that follow from what is stored in the file alone: weights, also behind DequantizeLinear or Cast."""
        found = set(self.constants)
        for node in self.nodes:
            if node.inputs and not node.bodies and all(name in found for name in node.inputs if name):
                found.update(name for name in node.outputs if name)
        return found

    @cached_property
    def names(self) -> set[str]:
        """All names and keys that are in use; an edit adds those that it makes."""
        found = {name for scope in self.scopes for name in scope.keys}
        return found | self.producer.keys() | self.initializers.keys() | self.inputs.keys() | set(self.main.inputs)

    def leaves(self, name: str) -> bool:
        """Whether a value is an output of the model, or what a body gives to its node."""
        return name in self.outputs or name in self.exits

    def identity_source(self, name: str) -> str:
        """The stored constant behind `name` where only Identity nodes stand between, else `name` itself."""
        source = name
        while (node := self.producer.get(source)) is not None and node.op == "Identity" and node.domain == "":
            source = node.inputs[0]
        return source if source in self.constants else name

    def small_value(self, name: str, tensor: TensorProto) -> np.ndarray | None:
        """The stored tensor behind `name` as an array, if it is numeric and small enough to be sizes."""
        if name not in self.small:
            is_small = math.prod(tensor.dims) <= VALUE_LIMIT and tensor.data_type != TensorProto.STRING
            self.small[name] = self.model.array(tensor) if is_small else None
        return self.small[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)
