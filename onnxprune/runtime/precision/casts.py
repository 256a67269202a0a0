"""The converter's Cast nodes, brought into order.

It puts them all at the end of the main graph, one for each reader under the same name, and between two nodes that stay
in float32 a pair that takes the value through 16 bits, where it may overflow. Here each is made once and stands where
its input is made; pairs are taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto


@dataclass
class _Cast:
    node: NodeProto
    source: str
    to: int


def tidy(graph: GraphProto, added: int) -> set[str]:
    """Put the last `added` nodes of the main graph, Casts all of them, where they belong, in place.

    Gives the values that are float32 again under the names that they had.
    """
    casts: dict[str, _Cast] = {}
    for node in list(graph.node)[len(graph.node) - added :]:
        casts.setdefault(node.output[0], _Cast(node, node.input[0], node.attribute[0].i))
    del graph.node[len(graph.node) - added :]
    wide = _join(graph, casts)
    _drop_unread(graph, casts)
    wide |= _name_back(graph, casts)
    _place(graph, casts, set(_defined(graph)))
    return wide


def _join(graph: GraphProto, casts: dict[str, _Cast]) -> set[str]:
    """Read what a value was before it was taken to 16 bits, where it is wanted in float32."""
    outputs, wide = {output.name for output in graph.output}, set()
    for name, cast in list(casts.items()):
        down = casts.get(cast.source)
        if cast.to != TensorProto.FLOAT or down is None or down.to == TensorProto.FLOAT:
            continue
        if name in outputs:
            if down.source in casts or not _is_made(graph, down.source):
                continue
            _rename(graph, down.source, name)
            wide.add(name)
            for other in casts.values():
                if other.source == down.source:
                    other.source = name
        else:
            _rename(graph, name, down.source, reads_only=True)
        del casts[name]
    return wide


def _drop_unread(graph: GraphProto, casts: dict[str, _Cast]) -> None:
    read = {name for node in _nodes(graph) for name in node.input} | {o.name for o in _outputs(graph)}
    while True:
        needed = read | {cast.source for cast in casts.values()}
        unread = [name for name in casts if name not in needed]
        if not unread:
            return
        for name in unread:
            del casts[name]


def _name_back(graph: GraphProto, casts: Mapping[str, _Cast]) -> set[str]:
    """Give a value that now exists in float32 alone the name that it had."""
    made, wide = {name for node in _nodes(graph) for name in node.output}, set()
    for name in [name for name in made if name.endswith(_DOWN)]:
        plain = name.removesuffix(_DOWN)
        if plain not in made and plain not in casts:
            _rename(graph, name, plain)
            wide.add(plain)
            for cast in casts.values():
                cast.source = plain if cast.source == name else cast.source
    return wide


_DOWN = "_cast_to_fp16"


def _place(graph: GraphProto, casts: Mapping[str, _Cast], known: set[str]) -> None:
    """Put each cast behind what makes its input, in the graph in which that is made."""
    by_source: dict[str, list[_Cast]] = {}
    for cast in casts.values():
        by_source.setdefault(cast.source, []).append(cast)
    placed: list[NodeProto] = []

    def put(name: str) -> None:
        for cast in by_source.pop(name, ()):
            copy = NodeProto()
            copy.CopyFrom(cast.node)
            copy.input[0] = cast.source
            placed.append(copy)
            put(copy.output[0])

    for name in known:
        put(name)
    for node in graph.node:
        for body in _bodies(node):
            inner = set(_defined(body))
            made = {o for n in _nodes(body) for o in n.output} | inner
            mine = {name: cast for name, cast in casts.items() if cast.source in made}
            _place(body, mine, inner)
            for cast in mine.values():
                by_source.pop(cast.source, None)
        placed.append(node)
        for name in node.output:
            put(name)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in placed]
    del graph.node[:]
    graph.node.extend(copies)


def _defined(graph: GraphProto) -> Iterator[str]:
    yield from (given.name for given in graph.input)
    yield from (tensor.name for tensor in graph.initializer)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for body in _bodies(node):
            yield from _nodes(body)


def _outputs(graph: GraphProto) -> Iterator[ValueInfoProto]:
    yield from graph.output
    for node in _nodes(graph):
        for body in _bodies(node):
            yield from body.output


def _is_made(graph: GraphProto, name: str) -> bool:
    """Whether a node of this graph, and none of a body, makes the value."""
    return any(name in node.output for node in graph.node)


def _rename(graph: GraphProto, old: str, new: str, *, reads_only: bool = False) -> None:
    for node in _nodes(graph):
        for fields in (node.input,) if reads_only else (node.input, node.output):
            for position, name in enumerate(fields):
                if name == old:
                    fields[position] = new
