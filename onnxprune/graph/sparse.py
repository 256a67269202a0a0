"""Sparse initializers: of a tensor, the file stores what is not zero and where that is (ONNX IR, SparseTensorProto).

ONNX Runtime reads them and makes them dense on loading. TensorRT's parser does not know them.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, SparseTensorProto, TensorProto, numpy_helper

from onnxprune.errors import ModelError
from onnxprune.graph.model import Model
from onnxprune.graph.tensors import clear_content, content_of, dtype_of, set_dims, type_name

_INDEX = 8  # bytes of an int64, the only type that indices may have
_OLDEST_IR = 5  # sparse initializers came with IR version 5


def break_even(itemsize: int) -> float:
    """The share of zeros above which a tensor of elements of that size is smaller when stored sparsely."""
    return 1 - itemsize / (itemsize + _INDEX)


def store_sparse(model: Model, names: list[str]) -> list[str]:
    """Store the main graph's initializers `names` sparsely where that is smaller; gives those that are now.

    Changes `model`. Elements of less than a byte and models of before IR version 5 stay dense.
    """
    graph = model.proto.graph
    made: dict[str, SparseTensorProto] = {}
    for name in names:
        tensor = model.initializer(name)
        if tensor is None or model.proto.ir_version < _OLDEST_IR or not tensor.dims:
            continue
        array = model.array(tensor)
        size = math.prod(tensor.dims)
        places = np.flatnonzero(array.astype(np.float32) if array.dtype.kind == "V" else array)
        if len(places) * (array.itemsize + _INDEX) >= size * array.itemsize or type_name(tensor).endswith("4"):
            continue
        values = TensorProto(name=name, data_type=tensor.data_type, dims=[len(places)])
        values.raw_data = bytes(content_of(array.reshape(-1)[places], tensor))
        made[name] = SparseTensorProto(
            values=values, indices=numpy_helper.from_array(places.astype(np.int64)), dims=tensor.dims
        )
    kept = [tensor for tensor in graph.initializer if tensor.name not in made]
    if made:
        copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(copies)
        graph.sparse_initializer.extend(made.values())
        for name in made:
            model.pending.pop(name, None)
    return list(made)


def sparse_names(model: ModelProto) -> list[str]:
    """The names of the main graph's sparse initializers."""
    return [tensor.values.name for tensor in model.graph.sparse_initializer]


def store_dense(model: Model) -> list[str]:
    """Turn the main graph's sparse initializers into dense ones; gives their names. Changes `model`.

    Raises ModelError where indices do not fit.
    """
    graph = model.proto.graph
    names = sparse_names(model.proto)
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(model, sparse))
    del graph.sparse_initializer[:]
    return names


def _dense(model: Model, sparse: SparseTensorProto) -> TensorProto:
    name, dims = sparse.values.name, tuple(sparse.dims)
    values, indices = model.array(sparse.values).reshape(-1), model.array(sparse.indices)
    if indices.ndim > 1:  # a row of coordinates each
        strides = np.asarray([math.prod(dims[axis + 1 :]) for axis in range(len(dims))], np.int64)
        indices = indices @ strides
    size = math.prod(dims)
    if len(indices) != len(values) or (len(indices) and not 0 <= indices.min() <= indices.max() < size):
        raise ModelError(
            f"sparse initializer {name!r} has indices that do not fit its shape {list(dims)}",
            remedy="The file is damaged: copy or export it again.",
        )
    dense = TensorProto(name=name, data_type=sparse.values.data_type, doc_string=sparse.values.doc_string)
    set_dims(dense, dims)
    array = np.zeros(size, dtype_of(dense))
    array[indices] = values
    clear_content(dense)
    dense.raw_data = bytes(content_of(array, dense))
    return dense
