"""How large a model's files will be, before they are written."""

from __future__ import annotations

from onnxprune.graph.model import Model
from onnxprune.graph.tensors import all_tensors, content_size, is_external
from onnxprune.graph.writer import aligned

_ENTRIES = 64  # bytes at most of a pending tensor's offset and length, which saving writes
_HEADER = 8  # bytes at most of an embedded content's field number and length, and of the lengths around it


def file_bytes(model: Model) -> int:
    """Bytes of the .onnx file and its data files where weights keep their layout; a few bytes too many, never too few.

    Nothing is computed: what is pending has its new shape already.
    """
    total, ends = int(model.proto.ByteSize()), 0
    spans = set()
    for tensor in all_tensors(model.proto):
        pending = model.is_pending(tensor)
        if is_external(tensor):
            span = None if pending else model.data.span(tensor)
            if span is None or span not in spans:  # of tensors that share a range it is written once
                length = content_size(tensor) if span is None else span.length
                ends = aligned(ends, length) + length
            if span is None:
                total += _ENTRIES
            else:
                spans.add(span)
        elif pending:
            total += content_size(tensor) + _HEADER
    return total + ends
