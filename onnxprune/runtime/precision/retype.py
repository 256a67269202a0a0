"""What the converter made float16, made the type that is meant, with values from the originals.

It makes float16 alone; where it does so does not depend on the type. Both models are gone through side by side: what
was float32 and now is float16 is what it has converted.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto

from onnxprune.graph.tensors import all_tensors, embedded_array, set_array
from onnxprune.runtime.precision.kinds import FLOAT16, Kind


def retype(before: ModelProto, after: ModelProto, kind: Kind) -> None:
    """Make `after`, converted from `before`, of the given type, in place; nodes that were added are Casts."""
    for old, new in zip(all_tensors(before), all_tensors(after), strict=True):
        if (old.data_type, new.data_type) == (TensorProto.FLOAT, TensorProto.FLOAT16):
            array = embedded_array(old)
            new.data_type = kind.number
            set_array(new, np.asarray(np.clip(array, -kind.largest, kind.largest), np.float32).astype(kind.dtype))
    _graph(before.graph, after.graph, kind)


def _graph(before: GraphProto, after: GraphProto, kind: Kind) -> None:
    stated = {info.name: info for info in _infos(before)}
    for info in _infos(after):
        old = stated.get(info.name)
        if old is None or _type_of(old) == TensorProto.FLOAT:
            for tensor in (info.type.tensor_type, info.type.sequence_type.elem_type.tensor_type):
                if tensor.elem_type == FLOAT16.number:
                    tensor.elem_type = kind.number
    for index, node in enumerate(after.node):
        there = index < len(before.node)
        olds = {a.name: a for a in before.node[index].attribute} if there else {}
        for attribute in node.attribute:
            old_attribute = olds.get(attribute.name)
            was = old_attribute.i if old_attribute is not None else TensorProto.FLOAT
            if attribute.name in ("to", "dtype") and (attribute.i, was) == (FLOAT16.number, TensorProto.FLOAT):
                attribute.i = kind.number
            if attribute.type == AttributeProto.GRAPH and old_attribute is not None:
                _graph(old_attribute.g, attribute.g, kind)


def _infos(graph: GraphProto) -> Iterable[ValueInfoProto]:
    return [*graph.input, *graph.output, *graph.value_info]


def _type_of(info: ValueInfoProto) -> int:
    return int(info.type.tensor_type.elem_type or info.type.sequence_type.elem_type.tensor_type.elem_type)
