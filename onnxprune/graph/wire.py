"""Protobuf's wire format, as far as it takes to hand through what this version of onnx does not know."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.unknown_fields import UnknownFieldSet

LARGEST_MESSAGE = 2**31 - 1  # bytes; protobuf neither writes nor parses more

VARINT, FIXED64, LENGTH_DELIMITED, GROUP, END_GROUP, FIXED32 = range(6)


def varint(number: int) -> bytes:
    """An unsigned number in groups of 7 bits, lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def opening(field: int, length: int) -> bytes:
    """What stands before the `length` bytes of a string, bytes or message field."""
    return varint(field << 3 | LENGTH_DELIMITED) + varint(length)


def encoded(fields: UnknownFieldSet) -> bytes:
    """Unknown fields as the bytes that they came from."""
    out = bytearray()
    for field in fields:
        out += varint(field.field_number << 3 | field.wire_type)
        if field.wire_type == VARINT:
            out += varint(field.data)
        elif field.wire_type == FIXED64:
            out += field.data.to_bytes(8, "little")
        elif field.wire_type == LENGTH_DELIMITED:
            out += varint(len(field.data)) + field.data
        elif field.wire_type == GROUP:
            out += encoded(field.data) + varint(field.field_number << 3 | END_GROUP)
        elif field.wire_type == FIXED32:
            out += field.data.to_bytes(4, "little")
    return bytes(out)


def spans(message: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of each field of a serialised message, in order.

    Groups, which ONNX has none of, come as one last field with all that follows. Raises IndexError for a message that
    ends within a field.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            _, at = _read_varint(message, at)
        elif kind == LENGTH_DELIMITED:
            length, at = _read_varint(message, at)
            at += length
        elif kind in (GROUP, END_GROUP):
            at = len(message)
        else:
            at += 8 if kind == FIXED64 else 4
        if at > len(message):
            raise IndexError("the message is cut off")
        yield tag >> 3, start, at


def payload(message: memoryview, start: int, end: int) -> memoryview:
    """What a string, bytes or message field from `start` to `end` holds; ValueError for one of another kind."""
    tag, at = _read_varint(message, start)
    length, at = _read_varint(message, at)
    if tag & 7 != LENGTH_DELIMITED or at + length != end:
        raise ValueError("not a field with a length")
    return message[at:end]


def split_after(message: bytes, field: int) -> int:
    """Where the first field with a number above `field` starts in a serialised message; else its length."""
    return next((start for number, start, _ in spans(message) if number > field), len(message))


def _read_varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
