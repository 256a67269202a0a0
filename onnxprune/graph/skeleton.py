"""Copies of a ModelProto that leave out the content of chosen initializers: big weights are not copied."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import ModelProto, TensorProto

from onnxprune.graph.tensors import DATA_FIELDS
from onnxprune.graph.wire import encoded, spans


def copy_model(model: ModelProto, *, without: Callable[[TensorProto], bool]) -> ModelProto:
    """An independent copy, equal but for the content of those main-graph initializers that `without` accepts.

    Those keep name, shape, element type, doc string, metadata and, if they were external, where they were.
    """
    copy = ModelProto()
    _copy_fields(model, copy, skip={"graph"})
    if model.HasField("graph"):
        _copy_fields(model.graph, copy.graph, skip={"initializer"})
    for tensor in model.graph.initializer:
        if without(tensor):
            _copy_fields(tensor, copy.graph.initializer.add(), skip=set(DATA_FIELDS))
        else:
            copy.graph.initializer.add().CopyFrom(tensor)
    return copy


def _copy_fields(message: Message, copy: Message, *, skip: set[str]) -> None:
    try:
        _copy_known(message, copy, skip)
    except UnicodeDecodeError:  # a text that is not UTF-8, which Python cannot hold but a file can
        numbers = {field.number for field in message.DESCRIPTOR.fields if field.name in skip}
        whole = message.SerializeToString()
        copy.ParseFromString(b"".join(whole[a:b] for number, a, b in spans(whole) if number not in numbers))
        return
    unknown = encoded(UnknownFieldSet(message))
    if unknown:
        copy.MergeFromString(unknown)


def _copy_known(message: Message, copy: Message, skip: set[str]) -> None:
    for field in message.DESCRIPTOR.fields:  # not ListFields, which reads the content of those to be skipped
        name = field.name
        if name in skip:
            continue
        if _is_repeated(field):
            getattr(copy, name).extend(getattr(message, name))
        elif not message.HasField(name):
            continue
        elif field.message_type is not None:
            getattr(copy, name).CopyFrom(getattr(message, name))
        else:
            setattr(copy, name, getattr(message, name))


def _is_repeated(field: object) -> bool:
    # protobuf 6 deprecates `label`, protobuf 4 has no `is_repeated`
    repeated = getattr(field, "is_repeated", None)
    return bool(repeated if repeated is not None else field.label == field.LABEL_REPEATED)  # type: ignore[attr-defined]
