"""A model file read without its big weights: these stay where they are in the file, mapped, until they are asked for.

Reading and parsing a file as a whole copies every weight twice, and once more each time that it is looked at. Here the
file's own bytes are scanned for the content of big initializers, and protobuf parses what lies around it.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

import numpy as np
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto

from onnxprune.errors import ModelError
from onnxprune.graph.tensors import array_from_content, content_size
from onnxprune.graph.wire import opening, payload, spans

_BIG = 1 << 16  # bytes from which on a tensor is left in the file
_LEFT = {  # element types of weights; integers that may be sizes or indices are parsed like all else
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT8,
    TensorProto.UINT8,
}
_GRAPH = ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = TensorProto.RAW_DATA_FIELD_NUMBER
_AROUND = {
    TensorProto.DIMS_FIELD_NUMBER,
    TensorProto.DATA_TYPE_FIELD_NUMBER,
    TensorProto.NAME_FIELD_NUMBER,
    TensorProto.DOC_STRING_FIELD_NUMBER,
    TensorProto.METADATA_PROPS_FIELD_NUMBER,
}

Arrays = dict[str, Callable[[], np.ndarray]]


def read_mapped(file: BinaryIO) -> tuple[ModelProto, Arrays] | None:
    """The model without the content of its big initializers, and these as read-only arrays over the mapped file.

    None where the file is not laid out as ONNX files are: it is then to be parsed as a whole, which also finds out
    what is wrong with it.
    """
    content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        (graph,) = [(start, end) for number, start, end in spans(content) if number == _GRAPH]
        body, left = _without_content(payload(content, *graph))
        parts = (content[: graph[0]], opening(_GRAPH, len(body)), body, content[graph[1] :])
        model = ModelProto.FromString(b"".join(parts))
    except (DecodeError, IndexError, ModelError, ValueError):
        return None
    counts = Counter(tensor.name for tensor in model.graph.initializer)
    if any(counts[name] != 1 for name in left):
        return None
    return model, left


def _without_content(graph: memoryview) -> tuple[bytes, Arrays]:
    """A serialised graph with nothing of its big initializers but what describes them."""
    parts: list[bytes | memoryview] = []
    left: Arrays = {}
    done = 0
    for number, start, end in spans(graph):
        if number == _INITIALIZER and end - start > _BIG:
            tensor = payload(graph, start, end)
            fields = {n: (a, b) for n, a, b in spans(tensor) if n not in _AROUND}
            if fields.keys() != {_RAW_DATA}:
                continue  # content in typed fields, or in a file of its own
            a, b = fields[_RAW_DATA]
            head = bytes(tensor[:a]) + bytes(tensor[b:])
            described, raw = TensorProto.FromString(head), payload(tensor, a, b)
            if described.data_type not in _LEFT or content_size(described) != len(raw) or not described.name:
                continue
            parts += [graph[done:start], opening(_INITIALIZER, len(head)), head]
            left[described.name] = partial(array_from_content, described, raw)
            done = end
    return b"".join([*parts, graph[done:]]), left
