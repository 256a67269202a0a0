"""Shapes and types of com.microsoft's quantised operators, as ONNX Runtime gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.graph.bindings import bind_inputs
from onnxprune.graph.io import load
from onnxprune.graph.shapes import Shapes, infer_shapes
from onnxprune.graph.view import GraphView
from tests.support.quantised import int8, int32, ms_node, scalar, scales, uint8

S, Z, ZI = scalar(0.02), scalar(7, np.uint8), scalar(0, np.int8)
QUANTISED = (S, Z)
IMAGE, LAST = uint8(2, 4, 7, 5), uint8(2, 7, 5, 4)
WINDOW: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
Case = tuple[str, Sequence[np.ndarray | None], int, dict[str, Any]]
CASES: list[Case] = [
    ("QuantizeLinear", [np.ones((2, 3), np.float32), S, Z], 1, {}),
    ("DequantizeLinear", [uint8(2, 3), *QUANTISED], 1, {}),
    ("QLinearAdd", [uint8(2, 1, 3), *QUANTISED, uint8(4, 1), *QUANTISED, *QUANTISED], 1, {}),
    ("QLinearMul", [uint8(3), *QUANTISED, uint8(4, 3), *QUANTISED, *QUANTISED], 1, {}),
    ("QLinearSigmoid", [IMAGE, *QUANTISED, *QUANTISED], 1, {}),
    ("QLinearSoftmax", [IMAGE, *QUANTISED, *QUANTISED], 1, {"axis": 1, "opset": 13}),
    ("QLinearWhere", [uint8(4, 1) > 99, uint8(2, 4, 3), *QUANTISED, uint8(3), *QUANTISED, *QUANTISED], 1, {}),
    ("QLinearConcat", [*QUANTISED, uint8(2, 3), *QUANTISED, uint8(2, 5), *QUANTISED], 1, {"axis": -1}),
    ("QLinearAveragePool", [IMAGE, *QUANTISED, *QUANTISED], 1, WINDOW),
    ("QLinearAveragePool", [LAST, *QUANTISED, *QUANTISED], 1, {**WINDOW, "channels_last": 1}),
    ("QLinearAveragePool", [IMAGE, *QUANTISED, *QUANTISED], 1, {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("QLinearGlobalAveragePool", [IMAGE, *QUANTISED, *QUANTISED], 1, {}),
    ("QLinearGlobalAveragePool", [LAST, *QUANTISED, *QUANTISED], 1, {"channels_last": 1}),
    ("NhwcMaxPool", [LAST], 1, WINDOW),
    ("QLinearConv", [LAST, *QUANTISED, int8(6, 2, 3, 2), S, ZI, *QUANTISED], 1, {
        **WINDOW, "channels_last": 1, "group": 2,
    }),
    ("QLinearConv", [IMAGE, *QUANTISED, int8(6, 4, 3, 3), S, ZI, *QUANTISED, int32(6)], 1, {"dilations": [2, 1]}),
    ("QGemm", [uint8(4, 3), *QUANTISED, int8(4, 5), S, ZI, int32(5), *QUANTISED], 1, {"transA": 1}),
    ("QGemm", [uint8(3, 4), *QUANTISED, int8(5, 4), S, ZI, None], 1, {"transB": 1}),
    ("MatMulIntegerToFloat", [uint8(2, 3, 4), int8(4, 5), S, scales(5), Z], 1, {}),
    ("DynamicQuantizeMatMul", [np.ones((2, 3, 4), np.float32), int8(4, 5), scales(5)], 1, {}),
    ("MatMulNBits", [np.ones((2, 3, 20), np.float32), uint8(5, 2, 8), scales(5, 2)], 1, {
        "K": 20, "N": 5, "bits": 4, "block_size": 16,
    }),
    ("MatMulBnb4", [np.ones((3, 32), np.float32), uint8(80), scales(10)], 1, {
        "K": 32, "N": 5, "block_size": 16, "quant_type": 1,
    }),
    ("GatherBlockQuantized", [uint8(9, 8), np.ones((2, 3), np.int64), scales(9, 1)], 1, {
        "gather_axis": 0, "quantize_axis": 1, "block_size": 16, "bits": 4,
    }),
    ("GatherBlockQuantized", [uint8(9, 3, 16).astype(ml_dtypes.uint4), np.ones((2,), np.int64), scales(9, 3, 1)], 1, {
        "gather_axis": 1, "quantize_axis": 2, "block_size": 16, "bits": 4,
    }),
    ("DynamicQuantizeLSTM", [
        np.ones((3, 2, 4), np.float32), int8(2, 4, 20), int8(2, 5, 20), np.ones((2, 40), np.float32), None, None, None,
        None, scales(2), np.zeros(2, np.int8), scales(2), np.zeros(2, np.int8),
    ], 3, {"hidden_size": 5, "direction": "bidirectional"}),
    ("QAttention", [
        uint8(2, 3, 6), int8(6, 24), np.ones(24, np.float32), S, S, None, Z, ZI, np.ones((2, 2, 4, 5, 2), np.float32),
    ], 2, {"num_heads": 4}),
    ("QEmbedLayerNormalization", [
        np.ones((2, 3), np.int32), None, uint8(9, 6), uint8(3, 6), None, uint8(6), uint8(6), None, S, S, None, S, S,
        Z, Z, None, Z, Z,
    ], 2, {}),
]  # fmt: skip


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of the one node, its first input fed, the others stored; the feed."""
    op, arrays, outputs, attrs = case
    names = ["" if array is None else f"i{k}" for k, array in enumerate(arrays)]
    given = {name: np.asarray(a) for name, a in zip(names, arrays, strict=True) if a is not None}
    fed = next(name for name, array in given.items() if array.ndim > 0 and array.dtype != ml_dtypes.uint4)
    kind = helper.np_dtype_to_tensor_dtype(given[fed].dtype)
    graph = helper.make_graph(
        [ms_node(op, names, [f"o{k}" for k in range(outputs)], **attrs)],
        "one",
        [helper.make_tensor_value_info(fed, kind, given[fed].shape)],
        [onnx.ValueInfoProto(name=f"o{k}") for k in range(outputs)],
        [numpy_helper.from_array(a, n) for n, a in given.items() if n != fed],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), {fed: given[fed]}


def inferred(model: onnx.ModelProto) -> Shapes:
    view = GraphView(load(model))
    return infer_shapes(view, bind_inputs(view))


@pytest.mark.parametrize("case", CASES, ids=[f"{k}-{case[0]}" for k, case in enumerate(CASES)])
def test_as_the_runtime_gives_them(case: Case) -> None:
    model, feed = model_of(case)
    known = inferred(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, array in zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True):
        assert (known.shape[name], known.dtype[name]) == (
            array.shape, helper.np_dtype_to_tensor_dtype(array.dtype),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("op", "arrays", "attrs", "shape", "dtype"),
    [
        ("QLinearReduceMean", [IMAGE, *QUANTISED, *QUANTISED], {"axes": [1, -1]}, (2, 1, 7, 1), TensorProto.UINT8),
        (
            "QLinearReduceMean",
            [IMAGE, *QUANTISED, *QUANTISED],
            {"axes": [1], "keepdims": 0},
            (2, 7, 5),
            TensorProto.UINT8,
        ),
        ("ReduceSumInteger", [IMAGE], {"axes": [2], "keepdims": 1}, (2, 4, 1, 5), TensorProto.INT32),
        ("MulInteger", [uint8(4, 1), Z, uint8(3), Z], {}, (4, 3), TensorProto.INT32),
        ("MatMulInteger16", [int32(2, 3).astype(np.int16), int32(3).astype(np.int16)], {}, (2,), TensorProto.INT32),
    ],
)
def test_what_the_cpu_build_does_not_run(
    op: str, arrays: list[np.ndarray], attrs: dict[str, Any], shape: tuple[int, ...], dtype: int
) -> None:
    known = inferred(model_of((op, arrays, 1, attrs))[0])
    assert (known.shape["o0"], known.dtype["o0"]) == (shape, dtype)


def test_what_does_not_fit_is_left_open() -> None:
    known = inferred(model_of(("MatMulIntegerToFloat", [uint8(2, 3), int8(4, 5), S, S, Z], 1, {}))[0])
    assert "o0" not in known.shape
