"""Tensors of a ModelProto: finding every one of them, and numpy arrays in and out of one.

"Content" is the bytes that `raw_data` or an external file holds: little-endian, elements of less than a byte
packed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    SparseTensorProto,
    TensorProto,
    helper,
    numpy_helper,
)

from onnxprune.errors import ModelError

DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "segment",
)

_TYPE_NAMES = {number: name for name, number in TensorProto.DataType.items()}
# Element types that pack several elements into a byte, by name: an older onnx does not know all of them.
_PACKED_BITS = {
    "INT4": 4,
    "UINT4": 4,
    "FLOAT4E2M1": 4,
    "INT2": 2,
    "UINT2": 2,
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
}
KNOWN_TYPES = set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
_OF_TENSOR = (AttributeProto.TENSOR, AttributeProto.TENSORS, AttributeProto.UNDEFINED)
_OF_GRAPH = (AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.UNDEFINED)
_OF_SPARSE = (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS, AttributeProto.UNDEFINED)


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every TensorProto of the model, in an order that only depends on its structure.

    Initializers (dense and sparse) and tensor attributes, of the main graph, of subgraphs, of functions and
    of training graphs. The tensors are the model's own: changing one changes the model.
    """
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    yield from _of_sparse(graph.sparse_initializer)
    yield from _of_nodes(graph)


def _of_nodes(owner: GraphProto | FunctionProto) -> Iterator[TensorProto]:
    attributes: Iterable[AttributeProto] = chain.from_iterable(node.attribute for node in owner.node)
    if isinstance(owner, FunctionProto):
        attributes = chain(attributes, owner.attribute_proto)
    for attribute in attributes:
        kind = attribute.type
        if kind in _OF_TENSOR:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        if kind in _OF_GRAPH:
            if attribute.HasField("g"):
                yield from _of_graph(attribute.g)
            for graph in attribute.graphs:
                yield from _of_graph(graph)
        if kind in _OF_SPARSE:
            if attribute.HasField("sparse_tensor"):
                yield from _of_sparse([attribute.sparse_tensor])
            yield from _of_sparse(attribute.sparse_tensors)


def _of_sparse(tensors: Iterable[SparseTensorProto]) -> Iterator[TensorProto]:
    for tensor in tensors:
        yield tensor.values
        yield tensor.indices


def type_name(tensor: TensorProto) -> str:
    """`FLOAT`, `BFLOAT16`, …; a number that onnx does not know as that number."""
    return str(_TYPE_NAMES.get(tensor.data_type, tensor.data_type))


def is_external(tensor: TensorProto) -> bool:
    """Whether the content lies in a file of its own."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def dtype_of(tensor: TensorProto) -> np.dtype:
    """The dtype of the tensor's array, numpy's or ml_dtypes'; ModelError for an unknown element type."""
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError):
        raise ModelError(
            f"tensor {tensor.name!r} has element type {type_name(tensor)}, unknown to the installed onnx",
            remedy="Upgrade onnx, or check that the file is intact.",
        ) from None


def content_size(tensor: TensorProto) -> int:
    """Bytes of the content by element type and shape, wherever it lies; the total length of strings."""
    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    if not is_external(tensor) and tensor.data_type not in KNOWN_TYPES:
        return len(tensor.raw_data)  # of a later version of ONNX: to be handed through
    dims = tuple(tensor.dims)
    if min(dims, default=0) < 0:
        raise ModelError(
            f"tensor {tensor.name!r} has a negative dimension in its shape {list(dims)}",
            remedy="The file is damaged: copy or export it again.",
        )
    count = int(math.prod(dims))
    bits = _PACKED_BITS.get(type_name(tensor))
    return -(-count * bits // 8) if bits else count * dtype_of(tensor).itemsize


def array_from_content(tensor: TensorProto, content: bytes | memoryview) -> np.ndarray:
    """The tensor's array over `content`: a read-only view, a copy where elements are packed. No strings.

    Raises ModelError if the content is not as long as shape and element type say.
    """
    _check_size(tensor, len(content))
    if type_name(tensor) in _PACKED_BITS:
        packed = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=bytes(content))
        array = numpy_helper.to_array(packed)
    else:
        array = np.frombuffer(content, dtype=dtype_of(tensor))
        if sys.byteorder == "big":
            array = array.byteswap()
        array = array.reshape(tuple(tensor.dims))
    array.flags.writeable = False
    return array


def embedded_array(tensor: TensorProto) -> np.ndarray:
    """The array of a tensor that holds its content itself, read-only; strings as an object array of str."""
    if tensor.HasField("segment"):
        raise ModelError(
            f"tensor {tensor.name!r} is stored in segments, which ONNX never came to define",
            remedy="Export the model again.",
        )
    if tensor.data_type == TensorProto.STRING:
        # surrogateescape: what is not UTF-8 comes back as the same bytes in set_array
        strings = [item.decode("utf-8", "surrogateescape") for item in tensor.string_data]
        array = np.array(strings, dtype=object)
        if array.size != math.prod(tensor.dims):
            raise _wrong_size(tensor, f"{array.size} strings")
        array = array.reshape(tuple(tensor.dims))
    elif tensor.HasField("raw_data"):
        return array_from_content(tensor, tensor.raw_data)
    else:
        dtype_of(tensor)
        try:
            array = numpy_helper.to_array(tensor)
        except ValueError as error:
            raise _wrong_size(tensor, str(error)) from error
    array.flags.writeable = False
    return array


def embedded_content(tensor: TensorProto) -> bytes | memoryview:
    """The content of a tensor that holds it itself, in whichever field; not for strings, which have none."""
    if tensor.HasField("raw_data"):
        content = tensor.raw_data
        _check_size(tensor, len(content))
        return content
    return content_of(embedded_array(tensor), tensor)


def content_of(array: np.ndarray, tensor: TensorProto) -> bytes | memoryview:
    """`array` as content of `tensor`'s element type, which must be the array's; its shape may differ.

    Not copied where the array is contiguous and its elements are not packed.
    """
    if array.dtype != dtype_of(tensor):
        raise ValueError(f"tensor {tensor.name!r} is {type_name(tensor)}, not {array.dtype}")
    if type_name(tensor) in _PACKED_BITS:
        return bytes(numpy_helper.from_array(array).raw_data)
    array = np.ascontiguousarray(array)
    # as uint8, since ml_dtypes' arrays have no buffer of their own
    return (array.byteswap() if sys.byteorder == "big" else array).reshape(-1).view(np.uint8).data


def set_array(tensor: TensorProto, array: np.ndarray) -> None:
    """Replace the tensor's shape and content, keep its name, doc string and metadata.

    The content goes into `raw_data` (strings into `string_data`), external or not before. Raises ValueError
    where the array's dtype is not the tensor's element type: this never converts.
    """
    if tensor.data_type == TensorProto.STRING:
        strings = [str(item).encode("utf-8", "surrogateescape") for item in array.ravel()]
        clear_content(tensor)
        tensor.string_data.extend(strings)
    else:
        content = content_of(array, tensor)
        clear_content(tensor)
        tensor.raw_data = bytes(content)
    set_dims(tensor, array.shape)


def set_dims(tensor: TensorProto, dims: Sequence[int]) -> None:
    """Replace the tensor's shape alone."""
    tensor.ClearField("dims")
    tensor.dims.extend(int(dim) for dim in dims)


def clear_content(tensor: TensorProto) -> None:
    """Drop the content and where it was; name, shape, element type, doc string and metadata stay."""
    for field in (*DATA_FIELDS, "external_data", "data_location"):
        tensor.ClearField(field)


def _check_size(tensor: TensorProto, size: int) -> None:
    if size != content_size(tensor):
        raise _wrong_size(tensor, f"{size} bytes")


def _wrong_size(tensor: TensorProto, found: str) -> ModelError:
    return ModelError(
        f"tensor {tensor.name!r} of shape {list(tensor.dims)} and type {type_name(tensor)} needs "
        f"{content_size(tensor)} bytes of content, found: {found}",
        remedy="The file is damaged or was cut off: copy or export it again.",
    )
