"""Finish an edit's node lists: put in the nodes that literals needed, drop what was left without a reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from onnx import NodeProto

from onnxprune.edit.insertions import Insertions
from onnxprune.graph.node import Node, Scope
from onnxprune.graph.view import GraphView


def drop_leftovers(view: GraphView, dense: GraphView, insertions: Insertions) -> set[str]:
    """Change the graphs of `view` in place. What nobody read before the edit stays: it is the user's.

    Gives the keys of the values that are no longer computed. The view is of no use afterwards.
    """
    places = _places(view)
    read = _reads(view, insertions.nodes)
    had_reader = set(dense.consumers) | dense.exits
    dropped = _drop(places, read, had_reader)
    gone = {name for i in dropped for node in places[i] for name in node.outputs if name}
    unused = {name for name in view.initializers if not read[name] and name in had_reader}
    for scope in view.scopes:
        _drop_infos(scope, gone)
        if not scope.is_call:
            _drop_initializers(view, scope, unused)
    insertions.finish(dropped)
    return gone


def _places(view: GraphView) -> dict[int, list[Node]]:
    """The nodes by what stands in the file: a function's node is there once, whichever calls run it."""
    places: dict[int, list[Node]] = {}
    for node in view.nodes:
        places.setdefault(id(node.proto), []).append(node)
    return places


def _reads(view: GraphView, inserted: Sequence[tuple[Node, NodeProto]]) -> Counter[str]:
    """How often each value is read: by nodes, by what carries a body, as an output of the model."""
    by_nodes = chain.from_iterable(map(_read_by, view.nodes))
    by_inserted = (node.scope.key(name) for node, proto in inserted for name in proto.input if name)
    return Counter(chain(view.outputs, by_nodes, by_inserted))


def _read_by(node: Node) -> Iterator[str]:
    yield from filter(None, node.inputs)
    for body in node.bodies.values():
        yield from body.outputs


def _drop(places: dict[int, list[Node]], read: Counter[str], had_reader: set[str]) -> set[int]:
    """Ids of the protos that nobody needs any more. `read` is brought up to date."""
    dropped: set[int] = set()
    backwards = [(place, [o for node in nodes for o in node.outputs]) for place, nodes in reversed(places.items())]
    unread = True
    while unread:
        unread = False
        for place, outputs in backwards:
            if any(map(read.__getitem__, outputs)) or place in dropped or had_reader.isdisjoint(outputs):
                continue
            dropped.add(place)
            read.subtract(name for node in places[place] for name in _read_by(node))
            unread = True
    return dropped


def _drop_infos(scope: Scope, gone: set[str]) -> None:
    infos = scope.graph.value_info
    for i in reversed([i for i, info in enumerate(infos) if scope.key(info.name) in gone]):
        del infos[i]


def _drop_initializers(view: GraphView, scope: Scope, unused: set[str]) -> None:
    graph = scope.graph
    places = [i for i, tensor in enumerate(graph.initializer) if scope.key(tensor.name) in unused]
    for i in reversed(places):
        name = graph.initializer[i].name
        del graph.initializer[i]
        if scope.is_main:
            view.model.pending.pop(name, None)
    if places and scope.is_main:  # IR before 4 lists initializers as inputs, too
        for i in reversed([i for i, info in enumerate(graph.input) if info.name in unused]):
            del graph.input[i]
