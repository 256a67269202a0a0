"""All nodes of a model in the order in which they run: bodies stand before the node that carries them, and a call of
a model-local function is replaced by what the function does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from onnxprune.graph.node import Node, Scope

_WITH_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""The operators of ai.onnx that may carry graphs; those of other domains are looked at one by one."""

FunctionId = tuple[str, str, str]


@dataclass(frozen=True)
class Call:
    """A call of a model-local function: the node that calls, the scope it stands in, and what it runs."""

    proto: NodeProto
    caller: Scope
    scope: Scope


class Flat:
    """A model's nodes and scopes, the main graph's scope first.

    `known` has the keys of an earlier version of the model by (scope's title, name): a value keeps its key when an
    edit removes another one of its name.
    """

    def __init__(self, model: ModelProto, known: Mapping[tuple[str, str], str] | None = None) -> None:
        self.model = model
        self.known = known or {}
        self.nodes: list[Node] = []
        self.scopes: list[Scope] = []
        self.calls: list[Call] = []
        self.keys: dict[tuple[str, str], str] = {}
        self.shared: set[str] = set()
        """Keys of constants that a function holds: one tensor, whichever call reads it."""
        self._held: dict[int, str] = {}
        self._taken: set[str] | None = None
        self._functions: dict[FunctionId, FunctionProto] = {
            (domain_of(f.domain), f.name, f.overload): f for f in model.functions
        }
        self._running: list[FunctionId] = []
        graph = model.graph
        self.main = Scope(graph, "", None, _opsets(model.opset_import), None)
        self.scopes.append(self.main)
        self.main.initializers = {t.name: t for t in graph.initializer}
        self.main.inputs = [i.name for i in graph.input]
        self.main.outputs = [o.name for o in graph.output]
        self._place(graph.node, self.main, self.main)

    def _place(self, protos: Iterable[NodeProto], scope: Scope, frame: Scope) -> None:
        """Add nodes that stand in `scope` and run in `frame`: the same, but for a function's."""
        for proto in protos:
            if self._functions and self._call(proto, scope, frame):
                continue
            node = Node(proto, scope)
            if not scope.is_main:
                node.outputs = tuple(self._output(name, node, scope) if name else "" for name in node.outputs)
            if node.op in _WITH_BODIES or node.domain:
                bodies = dict(self._bodies(node))
                if bodies:
                    node.bodies = bodies
            node.index = len(self.nodes)
            self.nodes.append(node)
            frame.steps.append(node)

    # -- bodies ------------------------------------------------------------------------------------------------

    def _bodies(self, node: Node) -> Iterator[tuple[str, Scope]]:
        for attr in node.proto.attribute:
            if attr.type == AttributeProto.GRAPH:
                yield attr.name, self._body(attr.g, attr.name, node)
            elif attr.type == AttributeProto.GRAPHS:
                for number, graph in enumerate(attr.graphs):
                    yield f"{attr.name}.{number}", self._body(graph, f"{attr.name}.{number}", node)

    def _body(self, graph: GraphProto, attribute: str, owner: Node) -> Scope:
        first = next((o for o in owner.outputs if o), owner.proto.name)
        scope = Scope(graph, f"{first}/{attribute}", owner.scope, owner.scope.opsets, owner.scope.given)
        self.scopes.append(scope)
        names = [i.name for i in graph.input] + [t.name for t in graph.initializer]
        for name in [*names, *(t.values.name for t in graph.sparse_initializer)]:
            if name not in scope.keys:
                scope.keys[name] = self._new_key(name, scope)
        scope.initializers = {scope.keys[t.name]: t for t in graph.initializer}
        scope.inputs = [scope.keys[i.name] for i in graph.input]
        self._place(graph.node, scope, scope)
        scope.outputs = [scope.key(o.name) for o in graph.output]
        return scope

    # -- functions ---------------------------------------------------------------------------------------------

    def _call(self, proto: NodeProto, caller: Scope, frame: Scope) -> bool:
        """Put a function's nodes in the place of a node that calls it; False for any other node."""
        identity = (domain_of(proto.domain), proto.op_type, proto.overload)
        function = self._functions.get(identity)
        if function is None or identity in self._running or not _is_plain(function):
            return False
        given = {a.name: a for a in function.attribute_proto}
        reference = caller.given
        for attr in proto.attribute:
            if not attr.ref_attr_name:
                given[attr.name] = attr
            elif reference is not None and attr.ref_attr_name in reference:
                given[attr.name] = reference[attr.ref_attr_name]
        outputs = [self._caller_key(name, caller) if name else "" for name in proto.output]
        title = f"{next(filter(None, outputs), proto.name)}()"
        scope = Scope(function, title, None, _opsets(function.opset_import), given, caller)
        inputs = [caller.key(name) if name else "" for name in proto.input]
        for place, name in enumerate(function.input):
            scope.keys[name] = inputs[place] if place < len(inputs) else ""
        for name, key in zip(function.output, outputs, strict=False):
            if key:
                scope.keys[name] = key
        self.scopes.append(scope)
        self.calls.append(Call(proto, caller, scope))
        scope.inputs = inputs
        scope.outputs = [key for key in outputs if key]
        self._running.append(identity)
        self._place(function.node, scope, frame)
        self._running.pop()
        return True

    # -- keys --------------------------------------------------------------------------------------------------

    def _caller_key(self, name: str, caller: Scope) -> str:
        if caller.is_main:
            return name
        if name not in caller.keys:
            caller.keys[name] = self._new_key(name, caller)
        return caller.keys[name]

    def _output(self, name: str, node: Node, scope: Scope) -> str:
        found = scope.keys.get(name)
        if found is not None:  # what the caller of a function reads
            return found
        if scope.in_function and node.op == "Constant" and not node.domain and _is_literal(node.proto):
            held = self._held.get(id(node.proto))
            if held is None:
                held = self._held[id(node.proto)] = self._new_key(name, scope)
                self.shared.add(held)
            scope.keys[name] = held
        else:
            scope.keys[name] = self._new_key(name, scope)
        return scope.keys[name]

    def _new_key(self, name: str, scope: Scope) -> str:
        if self._taken is None:
            self._taken = set(_names_of(self.main))
        found = key = self.known.get((scope.title, name), name)
        if (scope.title, name) not in self.known:
            if key in self._taken:
                found = key = f"{name}@{scope.title}"
            count = 1
            while found in self._taken:
                count += 1
                found = f"{key}#{count}"
        self._taken.add(found)
        self.keys[scope.title, name] = found
        return found


def _names_of(main: Scope) -> Iterator[str]:
    """The names of all values of the main graph."""
    yield from main.inputs
    yield from main.initializers
    graph = main.graph
    yield from (t.values.name for t in graph.sparse_initializer)
    for node in graph.node:
        yield from node.output


def _is_plain(function: FunctionProto) -> bool:
    """Whether each of its outputs is made by one of its nodes: what it merely passes on would have two names."""
    made = {name for node in function.node for name in node.output}
    return len(set(function.output)) == len(function.output) and all(name in made for name in function.output)


def _is_literal(proto: NodeProto) -> bool:
    """Whether a Constant holds its value itself, and not an attribute of the call."""
    return all(not attr.ref_attr_name for attr in proto.attribute)


def domain_of(domain: str) -> str:
    """A domain as nodes and functions are compared by it."""
    return "" if domain == "ai.onnx" else domain


def _opsets(imports: Sequence) -> dict[str, int]:
    return {domain_of(o.domain): o.version for o in imports}
