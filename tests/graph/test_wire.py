from __future__ import annotations

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import GraphProto, ModelProto, TensorProto

from onnxprune.graph.wire import encoded, opening, split_after, varint
from tests.graph.protos import UNKNOWN, everything


@pytest.mark.parametrize(
    ("number", "expected"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (2**31, b"\x80\x80\x80\x80\x08")]
)
def test_varint(number: int, expected: bytes) -> None:
    assert varint(number) == expected


def test_opening() -> None:
    assert opening(999, 3) + b"new" == UNKNOWN


def test_unknown_fields_come_back() -> None:
    varint_field, fixed64, fixed32 = b"\xb8\x3e\x96\x01", b"\xb9\x3e12345678", b"\xbd\x3e1234"
    group = b"\xbb\x3e" + varint_field + UNKNOWN + b"\xbc\x3e"
    fields = varint_field + fixed64 + UNKNOWN + fixed32 + group
    proto = TensorProto()
    proto.MergeFromString(fields)
    assert encoded(UnknownFieldSet(proto)) == fields


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("field", range(31))
def test_a_split_message_is_its_two_halves(seed: int, field: int) -> None:
    model = everything(seed)
    for message in (model, model.graph, *model.graph.initializer):
        whole = message.SerializeToString()
        at = split_after(whole, field)
        first, second = type(message)(), type(message)()
        first.MergeFromString(whole[:at])
        second.MergeFromString(whole[at:])
        assert all(known.number <= field for known, _ in first.ListFields())
        assert all(known.number > field for known, _ in second.ListFields())


def test_split_of_each_wire_type() -> None:
    proto = TensorProto(dims=[3, 1 << 40], data_type=1, float_data=[1.5], name="n" * 300, double_data=[2.5])
    whole = proto.SerializeToString()
    at = split_after(whole, TensorProto.NAME_FIELD_NUMBER)
    rest = TensorProto.FromString(whole[at:])
    assert rest == TensorProto(double_data=[2.5])
    assert split_after(b"", 3) == 0
    assert split_after(GraphProto(name="g").SerializeToString(), 1) == 0
    assert split_after(ModelProto(ir_version=300).SerializeToString(), 1) == 3
