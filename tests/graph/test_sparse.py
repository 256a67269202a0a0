"""Sparse initializers: stored where smaller, read by ONNX Runtime, and turned back to the same bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import SparseTensorProto, helper, numpy_helper
from onnx.helper import make_node

from onnxprune.errors import ModelError
from onnxprune.graph.model import Model
from onnxprune.graph.sparse import break_even, sparse_names, store_dense, store_sparse
from onnxprune.runtime.ort import RunOptions, make_session
from tests.support.models import make_model


def product(zeros: float, dtype: type = np.float32) -> onnx.ModelProto:
    w = np.random.default_rng(0).random((20, 30)) + 1
    w.reshape(-1)[: round(zeros * w.size)] = 0
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return make_model(
        [make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 20]}, ["y"], {"w": w.astype(dtype)}, input_types={"x": kind}
    )


def test_break_even() -> None:
    assert break_even(4) == pytest.approx(2 / 3)
    assert break_even(2) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("zeros", "dtype", "pays"),
    [(0.66, np.float32, False), (0.67, np.float32, True), (0.79, np.float16, False), (0.81, np.float16, True),
     (0.81, ml_dtypes.bfloat16, True), (0.9, np.float64, True)],
)  # fmt: skip
def test_only_above_break_even(zeros: float, dtype: type, pays: bool) -> None:
    model = Model(product(zeros, dtype))
    before = model.to_proto()
    assert store_sparse(model, ["w"]) == (["w"] if pays else [])
    assert sparse_names(model.proto) == (["w"] if pays else [])
    assert pays == (model.proto.ByteSize() < before.ByteSize())
    onnx.checker.check_model(model.proto)
    assert store_dense(model) == (["w"] if pays else [])
    assert model.proto.graph.initializer[0].raw_data == before.graph.initializer[0].raw_data


def test_onnx_runtime_reads_it() -> None:
    model = Model(product(0.9))
    x = np.ones((2, 20), np.float32)
    dense = make_session(model.to_proto().SerializeToString(), RunOptions(threads=1)).run(None, {"x": x})[0]
    store_sparse(model, ["w"])
    sparse = make_session(model.proto.SerializeToString(), RunOptions(threads=1)).run(None, {"x": x})[0]
    assert np.array_equal(dense, sparse)


def test_coordinates_and_bad_indices() -> None:
    proto = product(0.0)
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([5.0, 7.0], np.float32), "w")
    sparse = SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array([[0, 1], [19, 29]])))
    sparse.dims.extend([20, 30])
    proto.graph.sparse_initializer.append(sparse)
    model = Model(proto)
    store_dense(model)
    w = model.array("w")
    assert (w[0, 1], w[19, 29], np.count_nonzero(w)) == (5.0, 7.0, 2)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 600])))
    proto = product(0.0)
    proto.graph.sparse_initializer.append(sparse)
    with pytest.raises(ModelError, match="do not fit its shape"):
        store_dense(Model(proto))
