"""onnx's type and shape inference of one node, remembered: layers that are alike are inferred once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, defs, helper, numpy_helper, shape_inference

Operator = tuple[str, str, int]
"""Domain ("" for ONNX's own), name and opset."""
Data = tuple[int, tuple[int, ...], bytes]
"""A known value as element type, shape and bytes."""
Kind = tuple[int, tuple[int, ...] | None] | bytes
"""The type of a value: a tensor's element type and shape (None where a length is unknown), else a TypeProto's bytes."""


@lru_cache(maxsize=1 << 10)
def schema_of(domain: str, op: str, opset: int) -> defs.OpSchema | None:
    """The operator's definition, None where onnx has none."""
    try:
        return defs.get_schema(op, opset, domain)
    except defs.SchemaError:
        return None


def data_of(value: np.ndarray) -> Data:
    """A value as `infer` takes it."""
    return helper.np_dtype_to_tensor_dtype(value.dtype), value.shape, value.tobytes()


def infer(
    operator: Operator,
    node: NodeProto,
    types: Sequence[Kind | None],
    data: Sequence[Data | None],
    opsets: tuple[tuple[str, int], ...],
    ir_version: int,
) -> Sequence[Kind | None]:
    """The type of each output of a node, None for one that is not there or not known.

    `types` and `data` are those of the inputs in turn, None for an input that is absent, or of unknown value.
    """
    attributes = NodeProto(attribute=node.attribute).SerializeToString(deterministic=True)
    present = tuple(map(bool, node.output))
    return _infer(operator, attributes, tuple(types), tuple(data), present, opsets, ir_version)


@lru_cache(maxsize=1 << 12)
def _infer(
    operator: Operator, attributes: bytes, types: tuple[Kind | None, ...], data: tuple[Data | None, ...],
    present: tuple[bool, ...], opsets: tuple[tuple[str, int], ...], ir_version: int,
) -> tuple[Kind | None, ...]:  # fmt: skip
    node = NodeProto.FromString(attributes)
    node.domain, node.op_type, opset = operator
    inputs = ["" if kind is None else f"i{place}" for place, kind in enumerate(types)]
    outputs = [f"o{place}" if there else "" for place, there in enumerate(present)]
    node.input.extend(inputs)
    node.output.extend(outputs)
    known = {name: _stated(kind) for name, kind in zip(inputs, types, strict=True) if kind is not None}
    values = {name: _tensor(name, value) for name, value in zip(inputs, data, strict=True) if value is not None}
    imports = [helper.make_opsetid(*version) for version in opsets]
    try:
        found = shape_inference.infer_node_outputs(
            defs.get_schema(node.op_type, opset, node.domain),
            node,
            known,
            values,
            opset_imports=imports,
            ir_version=ir_version,
        )
    except (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
        return (None,) * len(outputs)  # what onnx cannot infer is left open, and measured or frozen later
    return tuple(_read(found[name]) if name in found else None for name in outputs)


def _stated(kind: Kind) -> TypeProto:
    return TypeProto.FromString(kind) if isinstance(kind, bytes) else helper.make_tensor_type_proto(*kind)


def _read(kind: TypeProto) -> Kind:
    if not kind.HasField("tensor_type"):
        return bytes(kind.SerializeToString(deterministic=True))
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)


def _tensor(name: str, value: Data) -> TensorProto:
    kind, shape, content = value
    array = np.frombuffer(content, helper.tensor_dtype_to_np_dtype(kind)).reshape(shape)
    return numpy_helper.from_array(array, name)
