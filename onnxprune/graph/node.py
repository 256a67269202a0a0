"""A node with its attributes decoded on use, and the scope that it stands in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, helper

NO_BODIES: Mapping[str, Scope] = {}


class Scope:
    """One graph as it stands in a model: the main graph, a body of a node, or one call of a model-local function.

    Names are unique within a scope and hide none of those around it, but scopes beside each other may use the same
    ones. So every value of a model has a *key*: its name where no other value is called so, else `NAME@TITLE` with
    the scope's title. In the main graph names and keys are the same. What a call is given and gives back has the
    keys that it has at the caller's.

    `steps` are the nodes that run here, in order: a called function's are among its caller's, those of a node's
    bodies are not. `inputs` and `outputs` are the keys of what goes in and out. `parent` is the scope around a body;
    `caller` the one that calls a function, of which nothing else is to be seen here, and `given` the attributes of
    that call, also in bodies inside the function. `keys` has the names that are defined here, but for the main graph.
    """

    __slots__ = (
        "_names", "caller", "given", "graph", "initializers", "inputs", "is_main", "keys", "opsets", "outputs",
        "parent", "steps", "title",
    )  # fmt: skip

    def __init__(
        self,
        graph: GraphProto | FunctionProto,
        title: str,
        parent: Scope | None,
        opsets: Mapping[str, int],
        given: Mapping[str, AttributeProto] | None,
        caller: Scope | None = None,
    ) -> None:
        self.graph, self.title, self.parent, self.opsets, self.given = graph, title, parent, opsets, given
        self.caller = caller
        self.is_main = not title
        self.keys: dict[str, str] = {}
        self.steps: list[Node] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.initializers: dict[str, TensorProto] = {}
        self._names: dict[str, str] | None = None

    @property
    def is_call(self) -> bool:
        return isinstance(self.graph, FunctionProto)

    @property
    def in_function(self) -> bool:
        """Whether this is a function's body, or stands in one."""
        return self.given is not None

    @property
    def opset_imports(self) -> list[OperatorSetIdProto]:
        return [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]

    def key(self, name: str) -> str:
        """The key of the value that goes by `name` here; the name itself where no scope of a body defines it."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.keys.get(name)
            if found is not None:
                return found
            scope = scope.parent
        return name

    def name(self, key: str) -> str | None:
        """What the value of that key is called here; None where it is not to be seen from here."""
        scope: Scope | None = self
        while scope is not None:
            if scope.is_main:
                return key
            if scope._names is None or len(scope._names) != len(scope.keys):
                scope._names = {key: name for name, key in scope.keys.items()}
            found = scope._names.get(key)
            if found is not None:
                return found
            scope = scope.parent
        return None

    def enclosing(self) -> Iterator[Scope]:
        """This scope and those around it: out of a body, and out of a function to where it is called."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.caller or scope.parent

    def __repr__(self) -> str:
        return f"Scope({self.title!r})"


class Node:
    """One NodeProto as it stands in a scope.

    `index` is its position in the model, `op` its operator, `domain` "" for ai.onnx, `opset` the version that is
    imported for that domain, `title` what a person would call it. `inputs` and `outputs` are keys of values (see
    Scope); `proto` has their names. `bodies` are the graphs that the node carries, by attribute. `is_edited`: its proto
    is not what it was when this was made, or in the model that was edited to become this one.
    """

    __slots__ = (
        "_attrs", "bodies", "domain", "index", "inputs", "is_edited", "op", "opset", "outputs", "proto", "scope",
    )  # fmt: skip

    def __init__(self, proto: NodeProto, scope: Scope) -> None:
        self.proto = proto
        self.scope = scope
        self.index = -1
        domain = proto.domain
        self.domain = "" if domain == "ai.onnx" else domain
        self.opset = scope.opsets.get(self.domain, 0)
        self.bodies = NO_BODIES
        self.refresh()
        self.is_edited = False
        self.outputs: tuple[str, ...] = tuple(proto.output)

    def refresh(self) -> None:
        """Read the proto again, which an edit has changed."""
        self.is_edited = True
        self.op: str = self.proto.op_type
        self._attrs: dict[str, Any] | None = None
        self.inputs: tuple[str, ...] = tuple(self.proto.input)
        if not self.scope.is_main:
            key = self.scope.key
            self.inputs = tuple(key(name) if name else "" for name in self.inputs)

    @property
    def attributes(self) -> Iterable[AttributeProto]:
        """The attributes; in a function those of the call in the place of references to them."""
        given = self.scope.given
        return self.proto.attribute if given is None else [a for a in map(_settled(given), self.proto.attribute) if a]

    @property
    def attrs(self) -> dict[str, Any]:
        """Attribute values by name; strings as str, tensors as TensorProto, graphs as GraphProto."""
        if self._attrs is None:
            decoded = {}
            for attr in self.attributes:
                value = helper.get_attribute_value(attr)
                if attr.type == AttributeProto.STRING:
                    value = value.decode("utf-8", "replace")
                elif attr.type == AttributeProto.STRINGS:
                    value = [item.decode("utf-8", "replace") for item in value]
                decoded[attr.name] = value
            self._attrs = decoded
        return self._attrs

    @property
    def settled(self) -> NodeProto:
        """The proto, in a function without references to the call's attributes."""
        if self.scope.given is None or not any(attr.ref_attr_name for attr in self.proto.attribute):
            return self.proto
        copy = NodeProto()
        copy.CopyFrom(self.proto)
        del copy.attribute[:]
        copy.attribute.extend(self.attributes)
        return copy

    @property
    def title(self) -> str:
        """The node's name, or its first output where it has none."""
        return self.proto.name or f"<{self.op} of {next((o for o in self.outputs if o), '?')}>"

    def read(self, position: int, key: str) -> None:
        """Make input `position` read another value. Raises KeyError where it is not to be seen from here."""
        name = self.scope.name(key) if key else ""
        if name is None:
            raise KeyError(key)
        while len(self.proto.input) <= position:
            self.proto.input.append("")
        self.proto.input[position] = name
        inputs = list(self.inputs) + [""] * (position + 1 - len(self.inputs))
        inputs[position] = key
        self.inputs, self.is_edited = tuple(inputs), True

    def __repr__(self) -> str:
        return f"Node({self.title!r}, {self.op})"


def _settled(given: Mapping[str, AttributeProto]) -> Any:
    def settle(attr: AttributeProto) -> AttributeProto | None:
        if not attr.ref_attr_name:
            return attr
        found = given.get(attr.ref_attr_name)
        if found is None:
            return None  # an optional attribute that the call does not give
        copy = AttributeProto()
        copy.CopyFrom(found)
        copy.name = attr.name
        return copy

    return settle
