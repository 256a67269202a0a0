"""The names in a model, which all else takes for text."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto


def unreadable_name(graph: GraphProto) -> bytes | None:
    """A name that is not UTF-8 among those of nodes, values and initializers; None if there is none.

    Doc strings and metadata are not looked at: they are handed through as they are, in whatever encoding. Nor are
    subgraphs, into which nothing else looks by name.
    """
    try:
        # protobuf gives what it cannot decode as bytes, or raises, depending on its implementation
        for names in _names(graph):
            if bytes in map(type, names):
                return next(name for name in names if isinstance(name, bytes))
    except UnicodeDecodeError as error:
        return error.object
    return None


def _names(graph: GraphProto) -> Iterator[tuple[str | bytes, ...]]:
    for tensor in graph.initializer:
        yield (tensor.name,)
    for value in (*graph.input, *graph.output):
        yield (value.name, *(dim.dim_param for dim in value.type.tensor_type.shape.dim))
    for node in graph.node:
        yield (node.name, node.op_type, node.domain, *node.input, *node.output)
