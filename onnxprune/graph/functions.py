"""Model-local functions that are called more than once: one body for all calls, or a copy for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from onnx import FunctionProto, NodeProto

from onnxprune.graph.flatten import Flat, FunctionId, domain_of
from onnxprune.graph.model import Model


def repeated_functions(flat: Flat) -> set[int]:
    """Ids (`id`) of the FunctionProtos that more than one call runs: an edit of their bodies is one for all calls."""
    counts = Counter(id(call.scope.graph) for call in flat.calls)
    return {function for function, count in counts.items() if count > 1}


def specialise(model: Model) -> Model:
    """A copy of the model in which each call of a function that is called more than once runs a function of its own.

    The first call keeps the function, the others run copies, called NAME_2 and so on. The model itself is given back
    where no function is called twice. The hash stays that of the model given: it is what a plan is made for.
    """
    if not repeated_functions(Flat(model.proto)):
        return model
    copy = model.copy()
    _Specialising(copy).nodes(copy.proto.graph.node)
    copy.__dict__["digest"] = model.digest
    return copy


class _Specialising:
    def __init__(self, model: Model) -> None:
        self.functions = model.proto.functions
        self.dense = {_identity_of(f): FunctionProto.FromString(f.SerializeToString()) for f in self.functions}
        self.own = {_identity_of(f): f for f in self.functions}
        self.taken = {(domain_of(f.domain), f.name) for f in self.functions}
        self.calls: Counter[FunctionId] = Counter()
        self.running: list[FunctionId] = []

    def nodes(self, nodes: Iterable[NodeProto]) -> None:
        for node in nodes:
            for attribute in node.attribute:
                for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                    self.nodes(graph.node)
            identity = (domain_of(node.domain), node.op_type, node.overload)
            if identity in self.dense and identity not in self.running:
                self.call(node, identity)

    def call(self, node: NodeProto, identity: FunctionId) -> None:
        self.calls[identity] += 1
        function = self.own[identity]
        if self.calls[identity] > 1:
            function = self.functions.add()
            function.CopyFrom(self.dense[identity])
            function.name = node.op_type = self._fresh(identity)
        self.running.append(identity)
        self.nodes(function.node)
        self.running.pop()

    def _fresh(self, identity: FunctionId) -> str:
        domain, base, _ = identity
        count = self.calls[identity]
        while (domain, f"{base}_{count}") in self.taken:
            count += 1
        self.taken.add((domain, f"{base}_{count}"))
        return f"{base}_{count}"


def _identity_of(function: FunctionProto) -> FunctionId:
    return domain_of(function.domain), function.name, function.overload
