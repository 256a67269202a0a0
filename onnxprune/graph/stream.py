"""The model file written in pieces: big initializers go from where they are into the file, one at a time.

Protobuf would serialise the whole model in memory first: a copy of all weights, and most of the time of a save.
But a message is its fields one after the other. So protobuf serialises what lies around the initializers, and here
only lengths and the contents of big initializers are put in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, TensorProto

from onnxprune.errors import OutputError
from onnxprune.graph.external import entry, refer
from onnxprune.graph.model import Model
from onnxprune.graph.skeleton import copy_model
from onnxprune.graph.tensors import all_tensors, clear_content, content_size, is_external
from onnxprune.graph.wire import LARGEST_MESSAGE, opening, split_after
from onnxprune.graph.writer import Written

_SMALL = 1 << 16  # bytes up to which protobuf serialises a tensor whole

Content = Iterable[bytes | memoryview]


@dataclass(frozen=True)
class _Piece:
    """A serialised tensor; `content` gives the `length` bytes between `head` and `tail` when they are written."""

    head: bytes
    length: int = 0
    content: Callable[[], Content] = tuple
    tail: bytes = b""

    @property
    def size(self) -> int:
        return len(self.head) + self.length + len(self.tail)

    def write(self, file: BinaryIO) -> None:
        file.write(self.head)
        for chunk in self.content():
            file.write(chunk)
        file.write(self.tail)


def write_model(model: Model, written: Written, file: BinaryIO, output: Path) -> None:
    """Write the model file: pending arrays computed, external tensors in the new files, all else as it was.

    Fields come in the order of their numbers, as from protobuf. Raises OutputError past protobuf's 2 GB.
    """
    skeleton = _skeleton(model, written)
    pieces = [
        _piece(model, source, target, referring=index in written.spans)
        for index, (source, target) in enumerate(
            zip(model.proto.graph.initializer, skeleton.graph.initializer, strict=True)
        )
    ]
    skeleton.graph.ClearField("initializer")
    nodes, rest = _around(skeleton.graph, GraphProto.INITIALIZER_FIELD_NUMBER)
    openings = [opening(GraphProto.INITIALIZER_FIELD_NUMBER, piece.size) for piece in pieces]
    size = sum(map(len, (nodes, rest, *openings))) + sum(piece.size for piece in pieces)
    skeleton.ClearField("graph")
    head, tail = _around(skeleton, ModelProto.GRAPH_FIELD_NUMBER)
    if len(head) + size + len(tail) > LARGEST_MESSAGE - 16:  # less the graph's own tag and length
        raise OutputError(
            f"cannot write {output}: the model passes protobuf's 2 GB", remedy="Save it with layout 'single'."
        )
    file.write(head + opening(ModelProto.GRAPH_FIELD_NUMBER, size) + nodes)
    for start, piece in zip(openings, pieces, strict=True):
        file.write(start)
        piece.write(file)
    file.write(rest + tail)


def _skeleton(model: Model, written: Written) -> ModelProto:
    """The model without the content of its initializers, all references to data files already the new ones."""
    skeleton = copy_model(model.proto, without=lambda tensor: True)
    count = len(skeleton.graph.initializer)
    pairs = zip(all_tensors(model.proto), all_tensors(skeleton), strict=True)
    for index, (source, target) in enumerate(pairs):
        span = written.spans.get(index)
        if span is not None:
            checksum = written.checksums.get(span.path) if entry(source, "checksum") is not None else None
            refer(target, span.path.name, span.offset, span.length, checksum)
        elif index >= count and is_external(source):
            model.embed(source, target)
    return skeleton


def _piece(model: Model, source: TensorProto, skeleton: TensorProto, *, referring: bool) -> _Piece:
    if referring:
        return _Piece(skeleton.SerializeToString())
    if model.is_pending(source) or is_external(source):
        if source.data_type == TensorProto.STRING:
            model.embed(source, skeleton)
            return _Piece(skeleton.SerializeToString())
        clear_content(skeleton)
        return _around_content(skeleton, content_size(source), lambda: model.content(source))
    if not source.HasField("raw_data") or content_size(source) <= _SMALL:
        return _Piece(source.SerializeToString())
    return _around_content(skeleton, len(source.raw_data), lambda: (source.raw_data,))


def _around_content(skeleton: TensorProto, length: int, content: Callable[[], Content]) -> _Piece:
    head, tail = _around(skeleton, TensorProto.RAW_DATA_FIELD_NUMBER)
    return _Piece(head + opening(TensorProto.RAW_DATA_FIELD_NUMBER, length), length, content, tail)


def _around(message: Message, field: int) -> tuple[bytes, bytes]:
    """The serialised fields up to number `field`, and those above it."""
    serialised = message.SerializeToString()
    at = split_after(serialised, field)
    return serialised[:at], serialised[at:]
